"""
What is wrong with a head, in the order in which a connection shows it.

A head may be wrong in several ways, and comes in pieces of any size.  It is refused for the
one whose byte comes first, so its status does not depend on how it was cut.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stickyd.serve.http.head import RequestError, parse_request_line

if TYPE_CHECKING:
    from stickyd.serve.http.limits import HTTPLimits

_bare = re.compile(rb"(?<!\r)\n|\r(?=[^\n])").search

#: By so much may a request line that has no end yet be longer than the longest target.
_METHOD_BYTES = 32


def first_objection(part: bytes, limits: HTTPLimits) -> RequestError | None:
    """
    Find what a head can be refused for by its beginning, as its end may never come: one with a
    line without end, or with a bare LF, would only time out.

    :param part: a head, or as much of it as has come.
    :return: the objection that the shortest beginning of ``part`` gives rise to, if any does.
    """
    found: list[tuple[int, RequestError]] = []
    line_end = part.find(b"\r\n")
    if line_end >= 0:
        try:
            parse_request_line(part[:line_end], limits)
        except RequestError as error:
            found.append((line_end + 2, error))
    target = _position_of_long_target(part if line_end < 0 else part[: line_end + 1], limits)
    if target:
        found.append((target, RequestError(414, "target too long")))
    if len(part) > limits.head_bytes:
        found.append((limits.head_bytes + 1, RequestError(431, "head too large")))
    bare = _bare(part)
    if bare is not None:
        seen = bare.start() + (1 if bare[0] == b"\n" else 2)
        found.append((seen, RequestError(400, "bare CR or LF")))
    null = part.find(b"\x00")
    if null >= 0:
        found.append((null + 1, RequestError(400, "NUL in the head")))
    return min(found, key=_position)[1] if found else None


def _position(found: tuple[int, RequestError]) -> int:
    return found[0]


def _position_of_long_target(line: bytes, limits: HTTPLimits) -> int:
    """
    Tell how many bytes of a request line without its end show that its target is too long, or 0.
    """
    method, blank, rest = line.partition(b" ")
    if not blank or len(rest.partition(b" ")[0]) <= limits.target_bytes:
        return 0
    seen = max(len(method) + 2, _METHOD_BYTES + 1) + limits.target_bytes
    return seen if seen <= len(line) else 0

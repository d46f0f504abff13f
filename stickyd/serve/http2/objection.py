"""
HTTP/2 requests that are refused with a status before the application sees them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.serve.http.head import is_host, is_target, is_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.serve.http.limits import HTTPLimits

_PSEUDO_FIELDS = 4

#: What a field takes in HTTP/1.1 beside its name and its value.
_SEPARATOR_BYTES = 4


def objection_to(headers: Sequence[tuple[bytes, bytes]], limits: HTTPLimits) -> int:
    """
    Check what h2 does not: the sense of the fields, and their number.

    :return: the status to answer with, or 0 if they are good.
    """
    if len(headers) > limits.head_fields + _PSEUDO_FIELDS:
        return 431
    if sum(len(name) + len(value) + _SEPARATOR_BYTES for name, value in headers) > (
        limits.head_bytes
    ):
        return 431
    known = {}
    for name, value in headers:
        if name in (b":method", b":path", b":authority", b"host", b"content-length"):
            if name in known:
                return 400
            known[name] = value
    return _objection_to_target(known, limits) or _objection_to_length(known, limits)


def _objection_to_target(known: dict[bytes, bytes], limits: HTTPLimits) -> int:
    method, target = known[b":method"], known.get(b":path", b"")
    if method == b"CONNECT":
        return 501
    if len(target) > limits.target_bytes:
        return 414
    host = known.get(b":authority", known.get(b"host"))
    if (
        not is_token(method)
        or not is_target(target)
        or not (target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"))
        or (limits.host_required if host is None else not is_host(host))
    ):
        return 400
    return 0


def _objection_to_length(known: dict[bytes, bytes], limits: HTTPLimits) -> int:
    length = known.get(b"content-length")
    if length is None:
        return 0
    if not length.isdigit():
        return 400
    return 413 if limits.body_bytes is not None and int(length) > limits.body_bytes else 0

"""
What an application says with ``start_response``, checked, and as HTTP/1 wants it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_status = re.compile(r"([2-9][0-9]{2})(?: +([^\r\n\x00]*))?").fullmatch
_ends_a_line = re.compile(r"[\r\n\x00]").search

#: They are between us and our neighbour (RFC 9110, 7.6.1): ours, not the application's.
_HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
     "upgrade"]
)  # fmt: skip

#: Those that concern us.
_SPECIAL = _HOP_BY_HOP | {"content-length", "date", "server"}

_REASONS = {status.value: status.phrase for status in HTTPStatus}

#: How many names and how many statuses are remembered; most applications have a dozen.
_MOST_REMEMBERED = 256

_names: dict[str, tuple[bytes, str]] = {}
_statuses: dict[str, tuple[int, bytes]] = {}


class ResponseHead:
    """
    Status and fields of a response.

    :ivar status: the number.
    :ivar reason: the phrase.
    :ivar lines: the fields as HTTP/1 writes them, but none that is hop by hop.
    :ivar length: what ``Content-Length`` says, or :obj:`None` without one.
    :ivar closes: the application wants the connection closed.
    :ivar named: which of ``date`` and ``server`` stand among the fields.
    """

    __slots__ = ("closes", "length", "lines", "named", "reason", "status")

    def __init__(self, status: int, reason: bytes) -> None:
        self.status = status
        self.reason = reason
        self.lines = b""
        self.length: int | None = None
        self.closes = False
        self.named: frozenset[str] = frozenset()

    @property
    def bodiless(self) -> bool:
        """
        Whether a response of this status has no body (RFC 9110, 6.4.1).
        """
        return self.status in (204, 304)

    def declare_length(self, length: int) -> None:
        """
        Say how long the body is, as the application has not.
        """
        self.length = length
        self.lines += b"Content-Length: %d\r\n" % length

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """
        Pairs of name and value.
        """
        pairs = (line.partition(b": ") for line in self.lines.split(b"\r\n")[:-1])
        return [(name, value) for name, _, value in pairs]


def read_head(status: Any, headers: Any) -> ResponseHead:
    """
    Check what an application says.

    :param status: ``"200 OK"``; without a phrase the usual one is taken.
    :param headers: pairs of name and value.
    :raises TypeError: if something is no text, or no pair.
    :raises ValueError: if a text cannot stand where it should.
    """
    try:
        head = ResponseHead(*_statuses[status])
    except (KeyError, TypeError):
        head = ResponseHead(*_read_status(status))
    if type(headers) is not list and not isinstance(headers, (list, tuple)):
        raise TypeError(f"the headers must be a list, not {headers!r}")
    lines = b""
    for pair in headers:
        try:
            name, value = pair
            known = _names.get(name) or _read_name(name)
            encoded = value.encode("latin-1")
            clean = value.isprintable()
        except (AttributeError, TypeError, ValueError) as problem:
            raise _objection(pair, problem) from None
        if not clean and _ends_a_line(value):
            raise ValueError(f"the header {name} cannot be {value!r}: it has an end of line in it")
        if known[1] and not _note(head, known[1], value):
            continue
        lines += b"%b: %b\r\n" % (known[0], encoded.strip(b" \t"))
    head.lines = lines
    return head


def _read_status(status: Any) -> tuple[int, bytes]:
    if not isinstance(status, str):
        raise TypeError(f"the status must be str, not {status!r}")
    match = _is_status(status)
    if match is None:
        raise ValueError(f"the status must be a number from 200 and a phrase, not {status!r}")
    number = int(match[1])
    phrase = match[2] or _REASONS.get(number, "Unknown")
    try:
        read = number, phrase.encode("latin-1").strip(b" \t")
    except UnicodeEncodeError:
        raise ValueError(f"the status cannot be {status!r}: it must be Latin-1") from None
    if len(_statuses) < _MOST_REMEMBERED:
        _statuses[status] = read
    return read


def _read_name(name: Any) -> tuple[bytes, str]:
    """
    Give the name as bytes, and in lower case if it is special.
    """
    if not isinstance(name, str):
        raise TypeError
    if not _is_name(name):
        raise ValueError(f"{name!r} cannot be the name of a header")
    lower = name.lower()
    known = name.encode("ascii"), lower if lower in _SPECIAL else ""
    if len(_names) < _MOST_REMEMBERED:
        _names[name] = known
    return known


def _objection(pair: Any, problem: Exception) -> Exception:
    if isinstance(problem, UnicodeEncodeError):
        name, value = pair
        return ValueError(
            f"the header {name} cannot be {value!r}: it must be Latin-1 (PEP 3333), so encode it"
        )
    try:
        name, value = pair
    except (TypeError, ValueError):
        return TypeError(f"a header must be a pair of str, not {pair!r}")
    if isinstance(name, str) and isinstance(value, str):
        return problem
    return TypeError(f"a header must be a pair of str, not {pair!r}")


def _note(head: ResponseHead, name: str, value: str) -> bool:
    """
    Take note of a field that concerns us.

    :return: whether the client gets it.
    """
    if name == "content-length":
        text = value.strip(" \t")
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"Content-Length cannot be {value!r}: it is a number of bytes")
        length = int(text)
        if head.length not in (None, length):
            raise ValueError(f"Content-Length cannot be {head.length} and {text}")
        # RFC 9110, 8.6: a 204 must have none.  And once is enough.
        first = head.length is None and head.status != 204
        if first:
            head.length = length
        return first
    if name in ("date", "server"):
        head.named |= {name}
        return True
    if name == "connection" and "close" in value.lower():
        head.closes = True
    return False


def failure_head(status: int, **more: str) -> tuple[ResponseHead, bytes]:
    """
    Make a short response that says that something went wrong.

    :return: its head, and its body.
    """
    text = b"%d %b\n" % (status, _REASONS[status].encode("ascii"))
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
    headers += [(name.replace("_", "-"), value) for name, value in more.items()]
    return read_head(str(status), headers), text

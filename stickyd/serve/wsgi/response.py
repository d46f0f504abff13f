"""
What an application says with ``start_response``, checked, and as HTTP/1 wants it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_status = re.compile(r"([2-9][0-9]{2})(?: +([^\r\n\x00]*))?").fullmatch
_ends_a_line = re.compile(r"[\r\n\x00]").search

#: They are between us and our neighbour (RFC 9110, 7.6.1): ours, not the application's.
_HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
     "upgrade"]
)  # fmt: skip

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class ResponseHead:
    """
    Status and fields of a response.

    :ivar status: the number.
    :ivar reason: the phrase.
    :ivar fields: pairs of name and value, as the application wrote them, but none that is
        hop by hop.
    :ivar length: what ``Content-Length`` says, or :obj:`None` without one.
    :ivar closes: the application wants the connection closed.
    :ivar named: which of ``date`` and ``server`` stand among the fields.
    """

    __slots__ = ("closes", "fields", "length", "named", "reason", "status")

    def __init__(self, status: int, reason: bytes) -> None:
        self.status = status
        self.reason = reason
        self.fields: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.closes = False
        self.named: frozenset[str] = frozenset()

    @property
    def bodiless(self) -> bool:
        """
        Whether a response of this status has no body (RFC 9110, 6.4.1).
        """
        return self.status in (204, 304)


def read_head(status: Any, headers: Any) -> ResponseHead:
    """
    Check what an application says.

    :param status: ``"200 OK"``; without a phrase the usual one is taken.
    :param headers: pairs of name and value.
    :raises TypeError: if something is no text, or no pair.
    :raises ValueError: if a text cannot stand where it should.
    """
    if not isinstance(status, str):
        raise TypeError(f"the status must be str, not {status!r}")
    match = _is_status(status)
    if match is None:
        raise ValueError(f"the status must be a number from 200 and a phrase, not {status!r}")
    number = int(match[1])
    phrase = match[2] or _REASONS.get(number, "Unknown")
    head = ResponseHead(number, _encoded("the status", phrase))
    if not isinstance(headers, (list, tuple)):
        raise TypeError(f"the headers must be a list, not {headers!r}")
    _read_fields(head, headers)
    if number == 204 and head.length is not None:
        # RFC 9110, 8.6: it must have none.
        head.length = None
        head.fields = [pair for pair in head.fields if pair[0].lower() != b"content-length"]
    return head


def _read_fields(head: ResponseHead, headers: Iterable[Any]) -> None:
    fields = head.fields
    named = []
    for pair in headers:
        try:
            name, value = pair
            known = name.lower()
            if not isinstance(value, str):
                raise TypeError
            if not _is_name(name):
                raise ValueError(f"{name!r} cannot be the name of a header")
        except (AttributeError, TypeError):
            raise TypeError(f"a header must be a pair of str, not {pair!r}") from None
        if _ends_a_line(value):
            raise ValueError(f"the header {name} cannot be {value!r}: it has an end of line in it")
        if known in _HOP_BY_HOP:
            if known == "connection" and "close" in value.lower():
                head.closes = True
            continue
        if known == "content-length":
            _read_length(head, value)
        elif known in ("date", "server"):
            named.append(known)
        fields.append((name.encode("ascii"), _encoded(name, value)))
    if named:
        head.named = frozenset(named)


def _encoded(name: str, value: str) -> bytes:
    try:
        return value.encode("latin-1").strip(b" \t")
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} cannot be {value!r}: it must be Latin-1 (PEP 3333), so encode it"
        ) from None


def _read_length(head: ResponseHead, value: str) -> None:
    text = value.strip(" \t")
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"Content-Length cannot be {value!r}: it is a number of bytes")
    if head.length not in (None, int(text)):
        raise ValueError(f"Content-Length cannot be {head.length} and {text}")
    head.length = int(text)


def failure_head(status: int, **more: str) -> tuple[ResponseHead, bytes]:
    """
    Make a short response that says that something went wrong.

    :return: its head, and its body.
    """
    text = b"%d %b\n" % (status, _REASONS[status].encode("ascii"))
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
    headers += [(name.replace("_", "-"), value) for name, value in more.items()]
    return read_head(str(status), headers), text

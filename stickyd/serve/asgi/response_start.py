"""
What an ASGI application says with ``http.response.start``, checked, and as HTTP/1 wants it.

uvicorn writes it as it comes: two lengths that differ, a length beside a transfer coding, a
body of a response that has none, or a status that is no answer's would have the client and us
disagree on where the response ends.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from collections.abc import Iterable

    Pairs = list[tuple[bytes, bytes]]

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_has_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

_FRAMING = frozenset([b"content-length", b"transfer-encoding", b"connection"])

#: How many names are remembered in lower case; most applications have a dozen.
_MOST_REMEMBERED = 256

_names: dict[bytes, bytes] = {}


class ResponseStart:
    """
    Status and fields of a response, as they are written.

    :ivar status: the number, from 200.
    :ivar pairs: the fields, with names in lower case; none says how the body is framed but
        ``content-length``.
    :ivar length: what that says, or :obj:`None` without one.
    :ivar closes: the application wants the connection closed.
    """

    __slots__ = ("closes", "length", "pairs", "status")

    def __init__(self, message: Any) -> None:
        """
        :param message: the application's, of that type.
        :raises ValueError: if something cannot stand where it should.
        :raises TypeError: if something is not of the type that it should be.
        """
        status = message.get("status")
        if type(status) is not int:
            if type(status) is bool or not isinstance(status, int):
                raise ValueError(f"the status must be a number from 200, not {status!r}")
            status = int(status)
        if not 200 <= status <= 999:
            raise ValueError(f"the status must be a number from 200, not {status!r}")
        self.status = status
        self.length: int | None = None
        self.closes = False
        framing: Pairs = []
        self.pairs: Pairs = read_pairs(message.get("headers", ()), framing)
        if not framing:
            return
        name, value = framing[0]
        if len(framing) == 1 and name == b"content-length" and value.isdigit() and status != 204:
            self.length = int(value)  # as most have it
        else:
            self._frame()

    def _frame(self) -> None:
        """
        Find out what the fields say of where the response ends, and leave what would say it
        twice, or otherwise, away.
        """
        pairs, self.pairs = self.pairs, []
        coded = False
        for name, value in pairs:
            if name == b"content-length":
                if self._note_length(value):
                    self.pairs.append((name, value))
                continue
            if name == b"transfer-encoding":
                coded = True  # it is ours (RFC 9112, 6.1)
                continue
            if name == b"connection":
                tokens = [token.strip() for token in value.lower().split(b",")]
                self.closes = self.closes or b"close" in tokens
            self.pairs.append((name, value))
        if self.length is not None and (self.status == 204 or (coded and self.status != 304)):
            # RFC 9110, 8.6, and RFC 9112, 6.2.
            self.length = None
            self.pairs = [pair for pair in self.pairs if pair[0] != b"content-length"]

    @property
    def line(self) -> bytes:
        """
        The status line.
        """
        line = STATUS_LINE.get(self.status)
        return b"HTTP/1.1 %d \r\n" % self.status if line is None else line

    def _note_length(self, value: bytes) -> bool:
        """
        :return: whether it is the first one.
        """
        text = value.strip(b" \t")
        if not text.isdigit():
            raise ValueError(f"Content-Length cannot be {value!r}: it is a number of bytes")
        length = int(text)
        if self.length not in (None, length):
            raise ValueError(f"Content-Length cannot be {self.length} and {length}")
        first = self.length is None
        self.length = length
        return first


def read_pairs(headers: Iterable[Any], framing: Pairs | None = None) -> Pairs:
    """
    Check the fields of a response.

    :param framing: gets those of them that say how the body is framed.
    :return: them, with names in lower case.
    :raises ValueError: if a name or a value cannot stand in a head.
    :raises TypeError: if they are no pairs of bytes.
    """
    pairs: Pairs = []
    for pair in headers:
        try:
            name, value = pair
            lower = _names.get(name) or _read_name(name)
            bad = _has_control(value)
        except TypeError:
            raise TypeError(f"a header must be a pair of bytes, not {pair!r}") from None
        except ValueError as problem:
            if isinstance(pair, (tuple, list)) and len(pair) == 2:
                raise
            raise TypeError(f"a header must be a pair of bytes, not {pair!r}") from problem
        if bad:
            raise ValueError(f"the header {lower.decode()} cannot be {value!r}: it has a control"
                             " character in it")  # fmt: skip
        pair = lower, value if type(value) is bytes else bytes(value)
        pairs.append(pair)
        if framing is not None and lower in _FRAMING:
            framing.append(pair)
    return pairs


def _read_name(name: Any) -> bytes:
    if not _is_name(name):
        raise ValueError(f"{name!r} cannot be the name of a header")
    lower = bytes(name).lower()
    if type(name) is bytes and len(_names) < _MOST_REMEMBERED:
        _names[name] = lower
    return lower


def read_bytes(data: Any) -> bytes:
    """
    Check a piece of a body or a message.

    :raises TypeError: if it is no bytes.
    """
    if type(data) is bytes:
        return data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"what is sent must be bytes, not {type(data).__name__}")
    return bytes(data)

"""
The head of an HTTP/1.x request, from peeked bytes.

llhttp does the parsing, the same that will parse the request in the worker: what the two
read differently would let a client be placed by a request that nobody serves.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import httptools

from stickyd.affinity.peek.need import Need, PeekError

_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, section 3.4
_TLS_HANDSHAKE = b"\x16"  # RFC 8446, section 5.1
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_PRI = _HTTP2[:3]

# The end of a head (RFC 9112, section 2.1).  Where it is missing, so many bytes are parsed at a
# time; other ends that llhttp knows are found within them.
_HEAD_END = b"\r\n\r\n"
_STEP_BYTES = 4096


class Protocol(enum.Enum):
    """
    What a connection speaks, by its first bytes.
    """

    HTTP1 = "HTTP/1"
    HTTP2 = "HTTP/2"
    TLS = "TLS"
    OTHER = "something else"


class HeadError(PeekError):
    """
    It began like HTTP/1, and is not.
    """


class OtherProtocolError(PeekError):
    """
    The connection does not speak HTTP/1, so it has no keys that stand in a request.
    """

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(f"the connection speaks {protocol.value}, not HTTP/1")


class Head(NamedTuple):
    """
    The head of a request.

    One is made per connection, and a tuple is made three times as fast as a frozen
    dataclass.

    :ivar method: as sent.
    :ivar target: the request target (RFC 9112, section 3.2), as sent.
    :ivar headers: in order; names in lower case, values without white space around them.
    """

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]


def _is_http1(seen: bytes) -> bool:
    """
    Whether it is HTTP/1 at first sight, as nearly always; if not, it may still be.
    """
    return len(seen) > 2 and seen[0] in _LETTERS and not seen.startswith(_PRI)


def protocol_of(seen: bytes) -> Protocol | Need:
    """
    Tell what a connection speaks, at the first byte that decides it.

    :param seen: all bytes seen so far.
    """
    if _is_http1(seen):
        return Protocol.HTTP1
    # A server should skip empty lines before a request (RFC 9112, section 2.2).
    start = seen.lstrip(b"\r\n")[: len(_HTTP2)]
    if not start:
        return Need(1)
    if start == seen[: len(_HTTP2)]:
        if seen.startswith(_TLS_HANDSHAKE):
            return Protocol.TLS
        if _HTTP2.startswith(start):
            return Protocol.HTTP2 if start == _HTTP2 else Need(len(_HTTP2) - len(start))
    return Protocol.HTTP1 if start[0] in _LETTERS else Protocol.OTHER


class _Taken:
    """
    What llhttp has told of a head.

    :ivar head: the head, once it is whole.
    """

    __slots__ = ("_headers", "_parser", "_target", "head")

    def __init__(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self.head: Head | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        """
        Take a piece of the target; llhttp passes it on in the pieces it was fed.
        """
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        Take a whole header.
        """
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """
        Keep the head.  Of a second one, pipelined behind it, nothing is kept.
        """
        if self.head is None:
            # The parser must be asked now: a pipelined request would overwrite the method.
            assert self._parser is not None
            self.head = Head(self._parser.get_method(), self._target, self._headers)
            self._headers = []

    def feed(self, fresh: bytes) -> str:
        """
        Parse on, and no further than to the end of the head: what a client pipelines behind
        it may be much, and is the worker's.

        :return: what is wrong, if anything is.
        """
        if fresh.find(_HEAD_END) == len(fresh) - len(_HEAD_END):
            return self._parse(fresh)  # as nearly always: the head, all of it, nothing else
        start = 0
        while self.head is None and start < len(fresh):
            end = fresh.find(_HEAD_END, start, start + _STEP_BYTES)
            end = start + _STEP_BYTES if end < 0 else end + len(_HEAD_END)
            wrong = self._parse(fresh[start:end])
            if wrong:
                return wrong
            start = end
        return ""

    def _parse(self, piece: bytes) -> str:
        assert self._parser is not None
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # raised behind the head of a request that asks for an upgrade
        except httptools.HttpParserError as error:
            if self.head is None:
                return str(error) or type(error).__name__
        return ""

    def done(self) -> None:
        """
        Let go of the parser, which refers to us, and would keep both until the next
        collection.
        """
        self._parser = None


def whole_head(seen: bytes) -> Head | None:
    """
    Give the head of a request if all of it is there, as nearly always.

    :param seen: all bytes seen.
    :return: None if not; a :class:`HeadReader` says why.
    """
    if not _is_http1(seen):
        return None
    taken = _Taken()
    taken.feed(seen)
    taken.done()
    return taken.head


class HeadReader:
    """
    Reads one head.  Not to be used again after it gave a :class:`Head` or raised.

    It remembers the head only; bounding its size is for whoever does the peeking.
    """

    def __init__(self) -> None:
        self._fed = 0
        self._taken = _Taken()

    def feed(self, seen: bytes) -> Head | Need:
        """
        Parse on.

        :param seen: all bytes seen so far, beginning with those of the last call.
        :raises OtherProtocolError: if the connection speaks something else.
        :raises HeadError: if llhttp refuses the head.
        """
        taken = self._taken
        if not self._fed:
            protocol = protocol_of(seen)
            if isinstance(protocol, Need):
                return protocol
            if protocol is not Protocol.HTTP1:
                taken.done()
                raise OtherProtocolError(protocol)
        wrong = taken.feed(seen[self._fed :])
        self._fed = len(seen)
        if wrong:
            taken.done()
            raise HeadError(f"not an HTTP/1 request: {wrong}")
        if taken.head is None:
            return Need(1)
        taken.done()
        return taken.head

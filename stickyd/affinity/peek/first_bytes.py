"""
The first bytes of a connection: a request's head, a ClientHello, or neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stickyd.affinity.peek.client_hello import parse_client_hello
from stickyd.affinity.peek.http1 import HeadReader, Protocol, protocol_of
from stickyd.affinity.peek.need import Need, PeekError

if TYPE_CHECKING:
    from stickyd.affinity.peek.client_hello import Hello
    from stickyd.affinity.peek.http1 import Head


class TooLongError(PeekError):
    """
    A head is longer than is allowed; the worker, which has the same bound, answers.
    """


class Seen(NamedTuple):
    """
    What the first bytes are.

    :ivar head: the head of the first request; None if it is not wanted, or if these are no
        bytes of HTTP/1, or llhttp refuses them.
    :ivar hello: the ClientHello; None likewise.
    """

    head: Head | None = None
    hello: Hello | None = None


NEITHER: Final = Seen()


class FirstBytes:
    """
    Reads the first bytes of one connection.
    """

    __slots__ = ("_head_bytes", "_reader", "_wants_head", "_wants_hello")

    def __init__(self, wants_head: bool, wants_hello: bool, head_bytes: int) -> None:
        """
        :param head_bytes: how long a head may be.
        """
        self._wants_head = wants_head
        self._wants_hello = wants_hello
        self._head_bytes = head_bytes
        self._reader: HeadReader | None = None

    def feed(self, seen: bytes) -> Need | Seen:
        """
        Read on.

        :param seen: all bytes seen so far, beginning with those of the last call.
        :raises TooLongError: if the head is longer than is allowed.
        """
        reader = self._reader
        try:
            if reader is None:
                found = self._begin(seen) if self._wants_hello or not self._wants_head else None
                if found is not None:
                    return found
                reader = self._reader = HeadReader()
            head = reader.feed(seen)
        except TooLongError:
            raise
        except PeekError:
            return NEITHER
        return self._within(head, seen) if isinstance(head, Need) else Seen(head)

    def _begin(self, seen: bytes) -> Need | Seen | None:
        """
        Look for something else than a head; None if these are the bytes of one, and wanted.
        """
        protocol = protocol_of(seen)
        if isinstance(protocol, Need):
            return self._within(protocol, seen)
        if protocol is Protocol.TLS and self._wants_hello:
            hello = parse_client_hello(seen)
            return hello if isinstance(hello, Need) else Seen(hello=hello)
        if protocol is not Protocol.HTTP1 or not self._wants_head:
            return NEITHER
        return None

    def _within(self, need: Need, seen: bytes) -> Need:
        if len(seen) + need.more > self._head_bytes:
            raise TooLongError(f"a head is longer than {self._head_bytes} bytes")
        return need

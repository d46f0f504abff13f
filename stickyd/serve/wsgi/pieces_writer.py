"""
Writing a response in pieces, at the pace of its client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from stickyd.serve.wsgi.call import LAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.wsgi.pieces import Pieces
    from stickyd.serve.wsgi.response import ResponseHead

    #: Writes a head; of the whole body the length is given, if it is known.  It gives what is to
    #: be written before the body, whether the body is written in chunks, and whether there is none.
    Begin = Callable[[ResponseHead, int | None], tuple[bytes, bool, bool]]

#: Pieces that are together no longer than this leave as one.
JOINED_BYTES = 65536


@implementer(IPushProducer)
class PiecesWriter:
    """
    Takes pieces from where the application's thread puts them, while the transport has room.
    """

    def __init__(
        self, pieces: Pieces, channel: Any, begin: Begin, done: Callable[[int, int], object]
    ) -> None:
        """
        :param channel: the request's connection, or its stream.
        :param begin: see :data:`Begin`.
        :param done: called with the kind of the last piece, and how many bytes the body had.
        """
        self._pieces = pieces
        self._channel = channel
        self._begin = begin
        self._done = done
        self._paused = False
        self._registered = False
        self._chunked = self._silent = False
        self._sent_bytes = 0

    def deliver(self) -> None:
        """
        Write what there is.
        """
        put, channel = self._pieces, self._channel
        ready: list[bytes] = []
        while put and not self._paused:
            head, piece, kind = put.take()
            if head is not None:
                whole = len(piece) if kind == LAST else None
                text, self._chunked, self._silent = self._begin(head, whole)
                ready.append(text)
            if piece and not self._silent:
                self._sent_bytes += len(piece)
                if self._chunked:
                    ready += (b"%x\r\n" % len(piece), piece, b"\r\n")
                else:
                    ready.append(piece)
            if kind:
                if kind == LAST and self._chunked:
                    ready.append(b"0\r\n\r\n")
                self._write(ready)
                if self._registered:
                    channel.unregisterProducer()
                self._done(kind, self._sent_bytes)
                return
            if not self._registered:
                self._registered = True
                channel.registerProducer(self, True)
            self._write(ready)
            if put.closed:
                return
        put.make_room()

    def _write(self, ready: list[bytes]) -> None:
        if sum(map(len, ready)) <= JOINED_BYTES:
            self._channel.write(b"".join(ready))
        else:
            for piece in ready:
                if piece:
                    self._channel.write(piece)
        ready.clear()

    # As a producer.

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Take no more from the thread.
        """
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Take what the thread has put meanwhile, and more.
        """
        self._paused = False
        if not self._pieces.closed:
            self.deliver()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        The connection is over, which the request is told too.
        """

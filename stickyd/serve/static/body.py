"""
Sending a file, or parts of it.

A part that stands by itself is left to the kernel, if the connection takes files: plain
HTTP/1.1 does.  Over TLS and HTTP/2, and of several parts, the file is read and written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedReader, FileIO

#: How much of a file is read at once.
PIECE_BYTES = 65536


@implementer(IPullProducer)
class FileBody:
    """
    Writes parts of a file as the body of a response, and closes the file.

    It writes as many bytes as the response's head has promised.  If the file has become
    too short for that, the connection is broken off, so that the client does not take half a
    file for a whole one.
    """

    def __init__(
        self,
        request: Any,
        file: FileIO | BufferedReader,
        parts: Sequence[tuple[bytes, int, int]],
    ) -> None:
        """
        :param file: the caller's until :meth:`start`.
        :param parts: what stands before each, where it begins in the file, and its size.
        """
        self._request = request
        self._file = file
        self._parts = iter(parts)
        self._alone = len(parts) == 1
        self._left = 0

    def start(self) -> None:
        """
        Begin to write.
        """
        self._request.registerProducer(self, False)

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Write some more.
        """
        if not self._left:
            part = next(self._parts, None)
            if part is None:
                self._file.close()
                self._request.unregisterProducer()
                self._request.finish()
                return
            before, offset, self._left = part
            if self._alone and self._request.write_file(self._file, offset, self._left):
                self._left = 0
                self._file.close()  # the connection has its own
                return
            self._file.seek(offset)
            if before:
                self._request.write(before)
                return
        piece = self._file.read(min(self._left, PIECE_BYTES))
        self._left -= len(piece)
        if piece:
            self._request.write(piece)
        elif self._left:
            self._break_off()

    def _break_off(self) -> None:
        self._file.close()
        self._request.unregisterProducer()
        self._request.channel.abortConnection()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called when the client has left.
        """
        self._file.close()

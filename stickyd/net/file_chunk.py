"""
A part of a file on its way to a socket.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket


class FileChunk:
    """
    Some bytes of a file, which the kernel copies by itself.

    Its length is how many are left.
    """

    __slots__ = ("_closed", "_descriptor", "_left", "_offset")

    def __init__(
        self, descriptor: int, offset: int, count: int, closed: Callable[[], object]
    ) -> None:
        """
        :param descriptor: of a regular file; closed here.
        :param offset: where they begin.
        :param count: how many there are; the file must still have them when they are sent.
        :param closed: called when the descriptor has been closed.
        """
        self._descriptor = descriptor
        self._offset = offset
        self._left = count
        self._closed = closed

    def __len__(self) -> int:
        """
        Count what is left.
        """
        return self._left

    def send(self, sock: socket, most: int) -> int:
        """
        Offer the kernel some of it.

        :return: how many bytes it has taken.
        :raise BlockingIOError: if there is no room.
        :raise OSError: if the connection is broken, or the file is shorter than it was.
        """
        sent = os.sendfile(sock.fileno(), self._descriptor, self._offset, min(most, self._left))
        if not sent:
            raise OSError("the file is shorter than it was")
        self._offset += sent
        self._left -= sent
        return sent

    def close(self) -> None:
        """
        Close the file.
        """
        os.close(self._descriptor)
        self._closed()

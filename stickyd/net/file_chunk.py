"""
A part of a file on its way to a socket.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket


#: What sendfile() says of files that are on a file system which cannot do that.
_UNABLE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

#: How much of such a file is read at once.
_READ_BYTES = 65536


class FileChunk:
    """
    Some bytes of a file, which the kernel copies by itself.

    Its length is how many are left.
    """

    __slots__ = ("_closed", "_descriptor", "_left", "_offset", "_reads")

    def __init__(
        self,
        descriptor: int,
        offset: int,
        count: int,
        closed: Callable[[], object] | None = None,
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
        self._reads = False  # the kernel cannot copy it

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
        most = min(most, self._left)
        if self._reads:
            sent = self._send_read(sock, most)
        else:
            try:
                sent = os.sendfile(sock.fileno(), self._descriptor, self._offset, most)
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                self._reads = True
                sent = self._send_read(sock, most)
        if not sent:
            raise OSError("the file is shorter than it was")
        self._offset += sent
        self._left -= sent
        return sent

    def _send_read(self, sock: socket, most: int) -> int:
        data = os.pread(self._descriptor, min(most, _READ_BYTES), self._offset)
        return sock.send(data) if data else 0

    def close(self) -> None:
        """
        Close the file.
        """
        os.close(self._descriptor)
        if self._closed is not None:
            self._closed()

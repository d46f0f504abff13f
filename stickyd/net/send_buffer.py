"""
What is written to a socket and not yet taken by the kernel.

Chunks wait one by one and are never copied together; a chunk may be a part of a file.
"""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice
from typing import Any

from stickyd.net.file_chunk import FileChunk

SEND_BYTES = 262144
"""
At most this many bytes of one chunk are offered to the kernel at once.
"""

_MORE = getattr(socket, "MSG_MORE", 0)  # Linux

_CHUNKS = 64  # offered at once; well below IOV_MAX (1024 on Linux and macOS)


class SendBuffer:
    """
    The output of a non-blocking stream socket.

    :ivar chunks: what waits, in order; empty if nothing does.
    :ivar size_bytes: how much that is.
    """

    __slots__ = ("_delaying", "_files", "_socket", "_spoken", "chunks", "size_bytes")

    def __init__(self, sock: socket.socket, delaying: bool) -> None:
        """
        :param sock: it is used, and stays the caller's.
        :param delaying: Nagle's algorithm may be on.
        """
        self._socket = sock
        self._delaying = delaying
        self._spoken = False  # something was sent since the last read
        self._files = 0  # among the chunks
        self.chunks: deque[bytes | memoryview | FileChunk] = deque()
        self.size_bytes = 0

    def append(self, data: bytes) -> None:
        """
        Keep some bytes, which nobody changes from now on.
        """
        self.chunks.append(data)
        self.size_bytes += len(data)

    def append_file(self, chunk: FileChunk) -> None:
        """
        Keep a part of a file, and close it when it is sent or forgotten.
        """
        self._files += 1
        self.chunks.append(chunk)
        self.size_bytes += len(chunk)

    def clear(self) -> None:
        """
        Forget what waits.
        """
        if self._files:
            for chunk in self.chunks:
                if isinstance(chunk, FileChunk):
                    chunk.close()
            self._files = 0
        self.chunks.clear()
        self.size_bytes = 0

    def heard(self) -> None:
        """
        Note that the client has sent something, and so has acknowledged all before it.
        """
        self._spoken = False

    def send(self, last: bool = False) -> bool:
        """
        Offer what waits to the kernel, once.  Something must wait.

        :param last: the caller shuts our side as soon as all is taken: then the FIN leaves in one
            packet with the end of it (tcp(7), ``TCP_CORK``; ``MSG_MORE`` is that for one call).
        :return: whether the kernel has taken all.
        :raise OSError: if the connection is broken.
        """
        if self._spoken and self._delaying:
            # Nagle's algorithm never holds back the first send after a read, since
            # the client has acknowledged all before it with its request.  A client
            # that gets one send per request so never costs us this system call.
            self.set_no_delay(True)
        self._spoken = True
        if self._files:
            return self._send_with_files()
        chunks: deque[Any] = self.chunks
        flags = _MORE if last else 0
        try:
            if len(chunks) > 1:
                sent = self._socket.sendmsg(islice(chunks, _CHUNKS), (), flags)
            elif self.size_bytes <= SEND_BYTES:
                sent = self._socket.send(chunks[0], flags)
            else:
                sent = self._socket.send(memoryview(chunks[0])[:SEND_BYTES])
        except BlockingIOError:
            return False
        if sent == self.size_bytes:
            chunks.clear()
            self.size_bytes = 0
            return True
        self.size_bytes -= sent
        while sent >= len(chunks[0]):
            sent -= len(chunks.popleft())
        if sent:
            chunks[0] = memoryview(chunks[0])[sent:]
        return False

    def _send_with_files(self) -> bool:
        """
        Offer what stands before the first file, and then some of that.
        """
        chunks = self.chunks
        try:
            while not isinstance(chunk := chunks[0], FileChunk):
                # More follows, so no packet of its own.
                sent = self._socket.send(memoryview(chunk)[:SEND_BYTES], _MORE)
                self.size_bytes -= sent
                if sent < len(chunk):
                    chunks[0] = memoryview(chunk)[sent:]
                    return False
                chunks.popleft()
            self.size_bytes -= chunk.send(self._socket, SEND_BYTES)
        except BlockingIOError:
            return False
        if not len(chunk):
            chunks.popleft()
            self._files -= 1
            chunk.close()
        return not chunks

    def set_no_delay(self, enabled: bool) -> None:
        """
        Turn Nagle's algorithm off, or on; from now on it is left as it is.
        """
        self._delaying = False
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)
        except OSError:
            # A UNIX socket, which never delays, or macOS after the client's reset:
            # a matter of speed, and the next send tells what is wrong.
            return

"""
The writing half of a worker's plain connection.

What a protocol writes while it is being called is collected ("corked") and leaves in
one system call when it returns; at other times a write goes to the kernel at once.
What the kernel does not take waits here, chunk by chunk and never copied together.
"""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from stickyd.interfaces import IReadiness

SEND_BYTES = 262144
"""
At most this many bytes of one chunk are offered to the kernel at once.
"""

_CHUNKS = 64  # offered at once; well below IOV_MAX (1024 on Linux and macOS)


def failure_of(error: BaseException) -> Failure:
    """
    Wrap an error, with its traceback if it was raised.
    """
    return Failure(error)  # Twisted has not annotated it


def connection_lost(error: OSError) -> Failure:
    """
    Say in Twisted's words why a connection broke.

    :return: a failure of :exc:`ConnectionLost` whose ``__cause__`` is ``error``.
    """
    lost = ConnectionLost(str(error))
    lost.__cause__ = error
    return failure_of(lost)


class SocketOutput:
    """
    The output buffer of a connected, non-blocking stream socket.
    """

    _scheduled = False  # _turn() will be called
    _high = 65536  # more than this in _chunks is congestion

    def __init__(self, readiness: IReadiness, sock: socket.socket, delaying: bool) -> None:
        """
        Take a socket.

        :param delaying: Nagle's algorithm may be on.
        """
        self._readiness = readiness
        self.socket = sock
        self._descriptor = sock.fileno()
        # The flags that every request asks for are the instance's own from the start:
        # CPython finds those several times faster than a default in the class.
        self._delaying = delaying
        self._chunks: deque[bytes | memoryview] = deque()
        self._buffered = 0  # bytes in _chunks
        self._mute = False  # drop what is written: our side is shut, or it is over
        self._corked = False  # collect what is written
        self._attention = False  # call _emptied() when all is written
        self._writing = False  # the loop has our writer
        self._spoken = False  # something was sent since the last read
        self._dry = False  # the last read, in this very turn, took all there was

    def get_write_buffer_size(self) -> int:
        """
        Count the bytes that the kernel has not taken yet.
        """
        return self._buffered

    def _emptied(self) -> None:
        """
        All output has been written, and somebody waited for it.
        """
        raise NotImplementedError

    def _congested(self) -> None:
        """
        More than :attr:`_high` bytes wait, and the kernel takes no more for now.
        """
        raise NotImplementedError

    def _doom(self, reason: Failure) -> None:
        """
        The connection is broken; end it in the next turn.
        """
        raise NotImplementedError

    def _turn(self) -> None:
        """
        The next turn of the loop, once it was asked for with :meth:`_schedule`.
        """
        raise NotImplementedError

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._readiness.call_soon(self._turn)

    def _put(self, data: bytes) -> None:
        """
        Send some bytes, or keep them.
        """
        self._chunks.append(data)
        self._buffered += len(data)
        if not self._corked and not self._writing:
            self._flush()
            if self._attention and not self._chunks:
                self._schedule()
        if self._buffered > self._high:
            if self._corked and not self._writing:
                self._flush()
            if self._buffered > self._high:
                self._congested()

    def _await_empty(self) -> None:
        """
        Have :meth:`_emptied` called, never from inside this call.
        """
        self._attention = True
        if not self._corked and not self._writing:
            self._schedule()

    def _flush(self) -> None:
        """
        Offer the buffer to the kernel, once, and watch for more room if it is needed.
        """
        if self._spoken and self._delaying:
            # Nagle's algorithm never holds back the first send after a read, since
            # the client has acknowledged all before it with its request.  A client
            # that gets one send per request so never costs us this system call.
            self._delaying = False
            self._set_no_delay(True)
        self._spoken = True
        chunks = self._chunks
        try:
            if len(chunks) > 1:
                sent = self.socket.sendmsg(islice(chunks, _CHUNKS))
            elif self._buffered <= SEND_BYTES:
                sent = self.socket.send(chunks[0])
            else:
                sent = self.socket.send(memoryview(chunks[0])[:SEND_BYTES])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._doom(connection_lost(error))
            return
        if sent == self._buffered:
            chunks.clear()
            self._buffered = 0
            if self._writing:
                self._stop_writing()
        else:
            self._keep(sent)

    def _keep(self, sent: int) -> None:
        """
        Take ``sent`` bytes off the buffer, which stays non-empty, and watch.
        """
        chunks = self._chunks
        self._buffered -= sent
        while sent >= len(chunks[0]):
            sent -= len(chunks.popleft())
        if sent:
            chunks[0] = memoryview(chunks[0])[sent:]
        if not self._writing:
            self._writing = True
            self._readiness.add_writer(self._descriptor, self._writable)

    def _writable(self) -> None:
        self._dry = False
        self._flush()
        if self._attention and not self._chunks:
            self._emptied()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._readiness.remove_writer(self._descriptor)

    def _discard_output(self) -> None:
        self._stop_writing()
        self._chunks.clear()
        self._buffered = 0

    def _set_no_delay(self, enabled: bool) -> None:
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)
        except OSError:
            # A UNIX socket, which never delays, or macOS after the client's reset:
            # a matter of speed, and the next send tells what is wrong.
            return

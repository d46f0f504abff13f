"""
A worker's plain connection as asyncio protocols see it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from typing_extensions import override

from stickyd.net.addresses import SocketView, name_of
from stickyd.net.stream import HIGH_WATER_BYTES, Stream, failure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from stickyd.interfaces import IReadiness
    from stickyd.net.file_chunk import FileChunk

_WRITE_AFTER_END = "Cannot call write() after write_eof()"


class LoopTransport(Stream, asyncio.Transport):
    """
    An :class:`asyncio.Transport` for TCP and UNIX sockets.

    A protocol is never called from inside one of its own calls of the transport.  Other
    calls are not put off with ``call_soon``: :meth:`start` calls ``connection_made`` and
    ``data_received`` before it returns.

    Writes outside ``data_received`` leave in the next turn, together: uvicorn writes
    head and body of a response one after the other, and one send less is worth several
    times what the turn costs.

    :ivar answers_whole: what is written is not in pieces, as a message of a WebSocket is not:
        the first after something was read leaves at once.  What comes behind it may be one of
        many, and waits for the others of its turn.
    """

    _low_bytes = HIGH_WATER_BYTES // 4  # as asyncio's
    _congesting = False  # the protocol was told to pause
    _half_closing = False
    answers_whole = False
    _unanswered = False  # nothing was written since something was read

    def __init__(
        self,
        readiness: IReadiness,
        sock: socket.socket,
        peer: IAddress,
        initial: bytes = b"",
        host: IAddress | None = None,
        stall_seconds: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Take over a socket, as :class:`Stream` does.

        :param extra: more that :meth:`get_extra_info` knows, such as ``sslcontext``
            of a connection whose TLS ends before this socket.
        """
        super().__init__(readiness, sock, peer, initial, host, stall_seconds)
        self._more = extra

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._half_closing:
            raise RuntimeError(_WRITE_AFTER_END)
        if not data or self._mute or self.disconnecting:
            return
        if type(data) is not bytes:
            data = bytes(data)  # which the caller may change afterwards
        if not self.corked:
            if self._unanswered and self.answers_whole:
                self._unanswered = False
                self._put(data)
                return
            if not self._writing:
                self.corked = True
                self._schedule()
        # In a few steps, as most of what a worker sends comes this way.
        output = self._output
        self._chunks.append(data)
        output.size_bytes += len(data)
        if output.size_bytes > self._high_bytes:
            self._offer()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    @override
    def send_file(self, chunk: FileChunk) -> None:
        if self._half_closing:
            raise RuntimeError(_WRITE_AFTER_END)
        if self.disconnecting:
            chunk.close()
            return
        self.cork_until_next_turn()
        super().send_file(chunk)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._half_closing and not self.disconnecting and self.connected:
            self._half_closing = True
            self._await_empty()

    def close(self) -> None:
        self._close()

    def abort(self) -> None:
        # Not a reset: asyncio's abort() lets the kernel send what it has taken, and
        # libraries call it after writing an error response.
        self._doom(failure_of(ConnectionDone()))

    def reset(self) -> None:
        """
        End the connection so that the client does not take it for an end.
        """
        self._abort()

    def is_closing(self) -> bool:
        return self.disconnecting or not self.connected

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_bytes, self._low_bytes = high, low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_bytes, self._high_bytes

    def _congested(self) -> None:
        if not self._congesting:
            self._congesting = True
            self._expect_empty(True)
            self.protocol.pause_writing()

    def _decongest(self) -> None:
        self._congesting = False
        self._expect_empty(self.disconnecting or self._half_closing)
        self._call(self.protocol.resume_writing)

    def _eased(self) -> None:
        if self._congesting and self.get_write_buffer_size() <= self._low_bytes:
            self._decongest()

    def _emptied(self) -> None:
        if self._congesting:
            self._decongest()
        elif self.disconnecting:
            self._end(connectionDone)
        else:
            self._shut_output()

    # Reading.

    def pause_reading(self) -> None:
        self._pause()

    def resume_reading(self) -> None:
        self._resume()

    def is_reading(self) -> bool:
        return not self._paused

    # Calls of the protocol.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def _open(self) -> None:
        self.protocol.connection_made(self)

    def _feed(self, data: bytes) -> None:
        self._unanswered = True
        self.protocol.data_received(data)

    def _input_ended(self) -> None:
        if not self.protocol.eof_received():
            self.close()

    def _lost(self, reason: Failure) -> None:
        error = reason.value
        if isinstance(error, ConnectionDone):
            error = None
        elif isinstance(error, ConnectionLost) and isinstance(error.__cause__, OSError):
            error = error.__cause__  # asyncio's protocols know nothing of Twisted's errors
        self.protocol.connection_lost(error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return SocketView(self.socket, self)
        if name == "peername":
            return name_of(self._peer)
        if name == "sockname":
            # uvicorn asks for every connection: without an address object in between.
            return self.socket.getsockname() if self._host is None else name_of(self._host)
        return default if self._more is None else self._more.get(name, default)

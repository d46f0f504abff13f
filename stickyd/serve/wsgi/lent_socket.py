"""
``werkzeug.socket``: the connection of a WebSocket, given to the application for good.

simple-websocket, and so Flask-Sock and Flask-SocketIO, look for it in the environ and speak
the protocol by themselves: in the thread that the application was called in, in further ones
of theirs, and blocking.  The connection stays the loop's until they first use it.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: What the first bytes of an accepted handshake are.
_ACCEPTED = b"HTTP/1.1 101 "


class Lent:
    """
    What the loop gives.

    :ivar socket: the connection; the loop closes it when the application's call has ended.
    :ivar unread: what the client has said already.
    :ivar fields: more lines for the head of the response.
    """

    __slots__ = ("fields", "socket", "unread")

    def __init__(self, sock: socket.socket, unread: bytes, fields: bytes) -> None:
        self.socket = sock
        self.unread = unread
        self.fields = fields


class LentSocket:
    """
    A blocking socket, as far as applications use one.  Threads may share it.

    :ivar sending: held while something is being sent.
    """

    def __init__(self, borrow: Callable[[], Lent], timeout_seconds: float | None) -> None:
        """
        :param borrow: gets the connection; called once, in a thread of the application.
            Raises :exc:`OSError` if the client has left.
        :param timeout_seconds: how long a client may take nothing of what is sent.
        """
        self._borrow = borrow
        self._timeout_seconds = timeout_seconds
        self._borrowing = threading.Lock()
        self._lent: Lent | None = None
        self.sending = threading.Lock()

    def _get(self) -> Lent:
        lent = self._lent
        if lent is None:
            with self._borrowing:
                lent = self._lent
                if lent is None:
                    lent = self._borrow()
                    lent.socket.setblocking(True)
                    if self._timeout_seconds:
                        _limit_sending(lent.socket, self._timeout_seconds)
                    self._lent = lent
        return lent

    # Reading.

    def recv(self, size: int, flags: int = 0) -> bytes:
        """
        Read what has come, up to so many bytes.
        """
        lent = self._get()
        if lent.unread and not flags:
            unread, lent.unread = lent.unread[:size], lent.unread[size:]
            return unread
        return lent.socket.recv(size, flags)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """
        Read into a buffer.
        """
        view = memoryview(buffer).cast("B")
        data = self.recv(size or len(view), flags)
        view[: len(data)] = data
        return len(data)

    # Writing.

    def send(self, data: Any, flags: int = 0) -> int:
        """
        Send all of it: applications do not look how much was sent.
        """
        self.sendall(data, flags)
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """
        Send all of it.
        """
        lent = self._get()
        with self.sending:
            if lent.fields:
                fields, lent.fields = lent.fields, b""
                data = _with_fields(bytes(data), fields)
            lent.socket.sendall(data, flags)

    # The end.

    def close(self) -> None:
        """
        Say no more.  The descriptor is the loop's to close, as other threads may use it.
        """
        self.shutdown(socket.SHUT_WR)

    def shutdown(self, how: int) -> None:
        """
        Shut one side, or both.
        """
        try:
            self._get().socket.shutdown(how)
        except OSError:
            return  # it was closed already

    def fileno(self) -> int:
        """
        Give the descriptor, to wait for.
        """
        return self._get().socket.fileno()

    def __getattr__(self, name: str) -> Any:
        """
        Give what else a socket has.
        """
        return getattr(self._get().socket, name)


def _limit_sending(sock: socket.socket, seconds: float) -> None:
    # Not settimeout(), which would be for reading too.
    whole = int(seconds)
    value = struct.pack("ll", whole, int((seconds - whole) * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def _with_fields(data: bytes, fields: bytes) -> bytes:
    """
    Add lines to the head of an accepted handshake.
    """
    line, end, rest = data.partition(b"\r\n")
    if not data.startswith(_ACCEPTED) or not end:
        return data
    return b"%b\r\n%b%b" % (line, fields, rest)

"""
The end of a worker's plain connection, in every way that it can come.

A protocol is never told from inside a call of its own: what a call asks for is done
when it has returned, or in the next turn of the loop.
"""

from __future__ import annotations

from socket import SHUT_WR
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted
from twisted.logger import Logger

from stickyd.net.lingering_close import LingeringClose, hang_up, reset
from stickyd.net.stream_output import SocketOutput, failure_of

if TYPE_CHECKING:
    from socket import socket

    from twisted.python.failure import Failure

    from stickyd.interfaces import IReadiness


class SocketEnd(SocketOutput):
    """
    A connection's state, and how it is closed.

    :ivar protocol: what is served; may be replaced at any time.
    :ivar connected: until the connection has ended or was detached.
    :ivar disconnecting: it ends as soon as the output is written.
    :ivar disconnected: it has ended, or was detached.
    :ivar lingering: set it before closing when the client is known to be still sending
        (the rest of a request's body): the input is then read and dropped for a while,
        for the client to get its response and not a reset.
    """

    _log = Logger()

    protocol: Any = None
    connected = True
    disconnecting = False
    disconnected = False
    lingering = False

    _doomed = False  # _end() will be called

    def __init__(self, readiness: IReadiness, sock: socket, delaying: bool) -> None:
        super().__init__(readiness, sock, delaying)
        self._paused = False  # do not read: paused, closing, at EOF, or over
        self._watching = False  # the loop has our reader

    def _lost(self, reason: Failure) -> None:
        """
        Tell the protocol that the connection is over.
        """
        raise NotImplementedError

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching = False
            self._readiness.remove_reader(self._descriptor)

    def _close(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = self._paused = True
            self._await_empty()

    def _shut_output(self) -> bool:
        """
        Send the FIN but go on reading.

        :return: :obj:`False` if the client has reset the connection; reading tells.
        """
        self._attention = False
        self._mute = True
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError:
            return False
        return True

    def _crash(self, error: Exception) -> None:
        failure = failure_of(error)
        self._log.failure("A protocol failed; its connection is closed.", failure)
        self._doom(failure)

    def _doom(self, reason: Failure) -> None:
        """
        End the connection in the next turn: never inside a call of the protocol.
        """
        if self._doomed or not self.connected:
            return
        self._doomed = self._mute = self._paused = self.disconnecting = True
        self._attention = self._dry = False
        self._stop_watching()
        self._discard_output()
        self._readiness.call_soon(self._end, reason)

    def _abort(self) -> None:
        self._doom(failure_of(ConnectionAborted()))

    def _retire(self) -> None:
        self.connected = self._attention = False
        self.disconnected = self._mute = self._paused = True

    def _end(self, reason: Failure) -> None:
        """
        End the connection now.  Only the loop and the ends of calls come here.
        """
        if not self.connected:
            return
        # Strictly before close: epoll goes on reporting a closed descriptor as long
        # as another copy of the socket exists, and then nobody can remove it.
        self._stop_watching()
        self._discard_output()
        self._retire()
        remains = False
        if isinstance(reason.value, ConnectionAborted):
            reset(self.socket)
        else:
            remains = hang_up(self.socket, self._dry, self.lingering)
        try:
            self._lost(reason)
        except Exception:  # noqa: BLE001 - there is nothing left for it to end
            self._log.failure("A protocol failed at the end of its connection.")
        # Protocol and transport refer to each other; as long as they do, only the
        # garbage collector frees them.
        self.protocol = None
        # Closed after the protocol was told, as asyncio does, for it may still ask for
        # our address; the FIN has left already.
        if remains:
            LingeringClose(self._readiness, self.socket).start()
        else:
            self.socket.close()

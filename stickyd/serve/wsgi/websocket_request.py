"""
A request that asks for a WebSocket.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from stickyd.serve.wsgi.lent_socket import Lent, LentSocket
from stickyd.serve.wsgi.websockets import LentConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket

    from stickyd.serve.wsgi.backend import Backend
    from stickyd.serve.wsgi.call import ApplicationCall


def asks_for_websocket(environ: Mapping[str, Any]) -> bool:
    """
    Whether a request is the client's part of an opening handshake (RFC 6455, 4.1).
    """
    options = environ.get("HTTP_CONNECTION", "").lower().split(",")
    return (
        environ["HTTP_UPGRADE"].lower() == "websocket"
        and "upgrade" in [option.strip(" \t") for option in options]
        and environ["REQUEST_METHOD"] == "GET"
        and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    )


class WebSocketRequest:
    """
    Has the connection ready for the application, if it takes it.

    :ivar socket: what the application may take.
    """

    def __init__(
        self,
        backend: Backend,
        call: ApplicationCall,
        stall_seconds: float | None,
        channel: Callable[[], Any],
        lent: Callable[[], object],
        log: Callable[[], object] | None,
    ) -> None:
        """
        :param call: the application's.
        :param stall_seconds: how long the client may take nothing of what is sent.
        :param channel: gives the request's connection; :obj:`None` if the client has left.
        :param lent: called in the loop when the application has the connection itself.
        :param log: writes a line into the access log, if there is one: called when all is over.
        """
        self._backend = backend
        self._call = call
        self._channel = channel
        self._lent = lent
        self._log = log
        self._connection: LentConnection | None = None
        self.socket = LentSocket(self._borrow, stall_seconds)

    def _borrow(self) -> Lent:
        """
        Have the loop give the connection; in a thread of the application.
        """
        given = threading.Event()
        result: list[Lent] = []

        def lend() -> None:
            try:
                self._lend(result)
            finally:
                given.set()

        self._backend.call_from_thread(lend)
        given.wait()
        if not result:
            raise ConnectionResetError("the client has left, or was answered already")
        return result[0]

    def _lend(self, result: list[Lent]) -> None:
        channel = self._channel()
        if channel is None:
            return
        fields = channel.respond([])
        handoff = channel.handoff

        def take(sock: socket, unread: bytes) -> None:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in fields)
            self._connection = self._backend.websockets.begin(
                self._backend.readiness, sock, self.socket, handoff
            )
            result.append(Lent(sock, unread, lines))

        try:
            channel.lend(take)
        except RuntimeError:
            return  # Something of an earlier response is still to be written.
        self._lent()
        seat = self._call.seat
        if seat is not None:
            self._backend.threads.set_apart(seat)

    def finish(self) -> None:
        """
        The application has returned; in the loop.
        """
        self._backend.websockets.leave()
        if self._connection is not None:
            self._connection.finish()
            if self._log is not None:
                self._log()

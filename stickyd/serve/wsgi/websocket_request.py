"""
A request that asks for a WebSocket.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from stickyd.serve.wsgi.lent_socket import Lent, LentSocket
from stickyd.serve.wsgi.websockets import LentConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket

    from stickyd.serve.wsgi.backend import Backend
    from stickyd.serve.wsgi.call import ApplicationCall


class Lender(Protocol):
    """
    The request, as far as it is needed here.

    :ivar channel: its connection, or :obj:`None` if the client has left.
    :ivar lent: whether the application has the connection itself.
    """

    channel: Any
    lent: bool
    method: bytes
    uri: bytes
    clientproto: bytes

    def getHeader(self, key: bytes) -> bytes | None:  # noqa: N802 - Twisted's name
        """
        Give the last of the fields of a name in lower case.
        """


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

    def __init__(self, request: Lender, backend: Backend, call: ApplicationCall) -> None:
        """
        :param call: the application's.
        """
        self._request = request
        self._backend = backend
        self._call = call
        self._connection: LentConnection | None = None
        self._log: Callable[[], object] | None = None
        self.socket = LentSocket(self._borrow, request.channel.context.limits.stall)

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
        channel = self._request.channel
        if channel is None:
            return
        fields = channel.respond([])
        handoff = channel.handoff
        self._request.lent = True
        self._log = self._prepare_log(channel)

        def take(sock: socket, unread: bytes) -> None:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in fields)
            connection = LentConnection(self._backend.readiness, sock, self.socket)
            connection.handoff = handoff
            self._connection = connection
            self._backend.websockets.begin(connection)
            result.append(Lent(sock, unread, lines))

        try:
            channel.lend(take)
        except RuntimeError:
            # Something of an earlier response is still to be written.
            self._request.lent = False
            return
        self._request.channel = None
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

    def _prepare_log(self, channel: Any) -> Callable[[], object] | None:
        """
        Give what writes a line into the access log, if there is one: when all is over.
        """
        log = channel.factory.access_log
        if log is None:
            return None
        request = self._request
        host = getattr(channel.getPeer(), "host", "")
        about = (request.getHeader(b"referer"), request.getHeader(b"user-agent"))
        return partial(
            log.write, host, request.method, request.uri, request.clientproto, 101, 0, *about
        )

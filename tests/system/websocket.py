"""
A WebSocket client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request, TextMessage

from tests.system.client import Client

if TYPE_CHECKING:
    import ssl

    from wsproto.events import Event


class WebSocket(Client):
    """
    One WebSocket, open when it is made.  Close it, or use it in a ``with``.
    """

    def __init__(
        self,
        target: tuple[str, int],
        path: str = "/ws",
        context: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
        cookies: str = "",
    ) -> None:
        """
        Open it.

        :param context: for one over TLS.
        :param source: the address that it comes from.
        :param cookies: that it sends.
        """
        super().__init__(target, source)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        fields = [(b"Cookie", cookies.encode())] if cookies else []
        request = Request(host="localhost", target=path, extra_headers=fields)
        self.socket.sendall(self._protocol.send(request))
        assert isinstance(self._next(), AcceptConnection)

    def _next(self) -> Event:
        while not self._events:
            data = self.socket.recv(65536)
            # None tells the protocol of the end, which it takes for an event.
            self._protocol.receive_data(data or None)
            self._events.extend(self._protocol.events())
        return self._events.pop(0)

    def say(self, text: str) -> str:
        """
        Send a message and wait for the next one.
        """
        self.socket.sendall(self._protocol.send(TextMessage(text)))
        event = self._next()
        assert isinstance(event, Message), event
        return str(event.data)

    def closed_with(self) -> int:
        """
        Wait for the server to close it.

        :return: the code; 1006 if there was none.
        """
        event = self._next()
        assert isinstance(event, CloseConnection), event
        return event.code

    def bid_farewell(self) -> None:
        """
        Close it in good order.
        """
        self.socket.sendall(self._protocol.send(CloseConnection(1000)))
        assert self.closed_with() == 1000

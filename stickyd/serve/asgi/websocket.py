"""
WebSockets for ASGI applications: uvicorn's, begun with a head that was read already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from websockets.frames import Frame
    from websockets.http11 import Request, Response

#: What the library is given to read in the place of the head, as it wants to read one.
_ANY_HEAD = b"GET / HTTP/1.1\r\n\r\n"

_VERSION = "Sec-WebSocket-Version"


class _Connection(ServerProtocol):
    """
    The library's, which lets a close frame stand between the fragments of a message (RFC
    6455, 5.4 and 5.5.1: a control frame, answered with its own code), and names the version
    that it speaks to those who speak another.
    """

    @override
    def accept(self, request: Request) -> Response:
        response = super().accept(request)
        if response.status_code != 101 and request.headers.get_all(_VERSION) != ["13"]:
            # RFC 6455, 4.2.2 and 4.4: so that the client learns which version to speak.
            response.status_code, response.reason_phrase = 426, "Upgrade Required"
            response.headers["Upgrade"] = "websocket"
            response.headers[_VERSION] = "13"
        return response

    @override
    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            for size in ("current_size", "cur_size"):  # the latter before websockets 15
                if hasattr(self, size):
                    setattr(self, size, None)
        super().recv_frame(frame)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """
    One WebSocket.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """
        :param arguments: uvicorn's, and ``named`` too.
        """
        super().__init__(*arguments, **named)
        self.conn: ServerProtocol = _Connection(
            extensions=self.conn.available_extensions,
            max_size=self.config.ws_max_size,
            logger=self.conn.logger,
        )

    @override
    def shutdown(self) -> None:
        said = self.conn.state in (State.CLOSING, State.CLOSED)
        if self.handshake_complete and said and not getattr(self, "close_sent", False):
            # Who is closing already cannot say why once more.
            self.transport.close()
        else:
            super().shutdown()

    def begin(
        self, transport: asyncio.Transport, target: bytes, pairs: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """
        Answer a handshake.

        The head is not read once more: the library has bounds of its own, and past them it
        would say nothing at all.
        """
        self.connection_made(transport)
        self.conn.receive_data(_ANY_HEAD)
        [request] = self.conn.events_received()
        request.path = target.decode("ascii")  # type: ignore[union-attr]  # no frame can come first
        request.headers = Headers(  # type: ignore[union-attr]
            [(name.decode("ascii"), value.decode("iso-8859-1")) for name, value in pairs]
        )
        self.handle_connect(request)  # type: ignore[arg-type]

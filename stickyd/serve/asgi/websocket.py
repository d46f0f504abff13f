"""
WebSockets for ASGI applications: uvicorn's, begun with a head that was read already.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Any

from typing_extensions import override
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from stickyd.serve.asgi.inbox import Inbox
from stickyd.serve.asgi.response_start import ResponseStart, read_bytes, read_pairs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from websockets.frames import Frame
    from websockets.http11 import Request, Response

#: What the library is given to read in the place of the head, as it wants to read one.
_ANY_HEAD = b"GET / HTTP/1.1\r\n\r\n"

_VERSION = "Sec-WebSocket-Version"

_CLOSE = Opcode.CLOSE
_MESSAGES = (Opcode.TEXT, Opcode.BINARY)

#: How much is read of what comes before the handshake is answered.
MOST_EARLY_BYTES = 65536

#: Fields of a response that say where it ends, which are the library's.
_FRAMING = frozenset([b"connection", b"content-length", b"transfer-encoding"])

#: Those of a response that accepts a handshake.
_ACCEPTED = _FRAMING | {b"sec-websocket-accept", b"sec-websocket-extensions", b"upgrade"}


class _Connection(ServerProtocol):
    """
    The library's, which lets a close frame stand between the fragments of a message (RFC
    6455, 5.4 and 5.5.1: a control frame, answered with its own code), and names the version
    that it speaks to those who speak another.

    Messages that no extension changes leave without being copied together first.
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
        if frame.opcode is _CLOSE:
            for size in ("current_size", "cur_size"):  # the latter before websockets 15
                if hasattr(self, size):
                    setattr(self, size, None)
        super().recv_frame(frame)

    @override
    def send_frame(self, frame: Frame) -> None:
        if self.extensions or self.debug or frame.opcode not in _MESSAGES:
            super().send_frame(frame)
            return
        # RFC 6455, 5.2; a server's are not masked.
        data: Any = frame.data
        size = len(data)
        first = frame.opcode | 0x80 if frame.fin else frame.opcode
        if size < 126:
            head = bytes((first, size))
        elif size < 65536:
            head = pack("!BBH", first, 126, size)
        else:
            head = pack("!BBQ", first, 127, size)
        self.writes += (head, data)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """
    One WebSocket.
    """

    _bodiless = False  # the response that refuses the handshake
    _early = b""  # what came before the handshake was answered

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
        self.queue: Inbox = Inbox(self.loop)  # type: ignore[assignment]  # what is asked of one

    @override
    def data_received(self, data: bytes) -> None:
        if self.handshake_complete:
            super().data_received(data)
        else:
            # Whatever is answered to it would stand before the answer to the handshake.
            self._early += data
            if len(self._early) > MOST_EARLY_BYTES:
                self.transport.pause_reading()

    def _take_early(self) -> None:
        if not self.handshake_complete:
            return
        early, self._early = self._early, b""
        if early and not self.transport.is_closing():
            if len(early) > MOST_EARLY_BYTES:
                self.transport.resume_reading()
            self.data_received(early)

    @override
    async def receive(self) -> Any:
        queue = self.queue
        if self.disconnected and queue.empty():
            # Whoever asks once more would wait for ever.
            return {"type": "websocket.disconnect", "code": 1006}
        message = await queue.get()
        if self.read_paused and queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        return message

    @override
    async def send(self, message: Any) -> None:
        """
        Send something; see the ASGI specification.

        :raises ValueError: if something in the response to the handshake cannot be sent.
        :raises TypeError: the same.
        """
        if self.handshake_complete:
            if message["type"] == "websocket.send":
                if (
                    self.writable.is_set()
                    and self.initial_response is None
                    and not (self.disconnected or self.close_sent)
                ):
                    # As uvicorn's own, which would be a call, and a wait for nothing, more.
                    self._write(message.get("bytes"), message.get("text"))
                    return
                if message.get("bytes") is not None:
                    message = {**message, "bytes": read_bytes(message["bytes"])}
            await super().send(message)
            return
        message = _checked(message)
        if message["type"] == "websocket.http.response.start":
            self._bodiless = message["status"] in (204, 304)
        elif message["type"] == "websocket.http.response.body" and self._bodiless:
            message = {**message, "body": b""}
        await super().send(message)
        if self._early:
            self._take_early()

    def _write(self, data: Any, text: str | None) -> None:
        """
        Write a message, in frames of the library's.
        """
        connection = self.conn
        try:
            if data is not None:
                # A memoryview has a length of its own.
                connection.send_binary(read_bytes(data))
            elif text is not None:
                connection.send_text(text.encode())
        except InvalidState:
            raise ClientDisconnected from None
        self.transport.write(b"".join(connection.data_to_send()))

    @override
    def send_500_response(self) -> None:
        if self.close_sent or self.handshake_complete:
            return
        # A response that was announced, and of which nothing was written yet.
        self.initial_response = None
        super().send_500_response()
        # Or a stop and the application would answer once each.
        self.handshake_complete = self.close_sent = True

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


def _checked(message: Any) -> Any:
    """
    Check what would be in the head of the response to a handshake, which the library writes
    as it comes.
    """
    kind = message["type"]
    if kind == "websocket.accept":
        subprotocol = message.get("subprotocol")
        if subprotocol:
            read_pairs([(subprotocol.encode(), b"")])
        return {**message, "headers": _others(message, _ACCEPTED)}
    if kind == "websocket.http.response.start":
        ResponseStart({"status": message["status"]})
        if message["status"] > 599:
            raise ValueError("the library has no status above 599")
        return {**message, "headers": _others(message, _FRAMING)}
    if kind == "websocket.http.response.body":
        return {**message, "body": read_bytes(message.get("body", b""))}
    return message


def _others(message: Any, ours: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in read_pairs(message.get("headers", ())) if pair[0] not in ours]

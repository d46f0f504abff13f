"""
A client and a server of HTTP/2, and the bytes between them, in memory.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
)
from hyperframe.frame import GoAwayFrame, SettingsFrame
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from stickyd.handoff.frame import Handoff
from stickyd.serve.access_log import AccessLog
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.sticky import StickySite
from stickyd.serve.http2.connection import HTTP2Connection
from stickyd.serve.stickiness import Stickiness
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from tests.http_wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable


GET = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/p?q=1")]
POST = [(":method", "POST"), *GET[1:]]


@implementer(ISSLTransport)
class SecureTransport(StringTransport):
    """
    Keeps what is written.
    """

    def getPeerCertificate(self) -> None:  # noqa: N802 - Twisted's name
        pass

    def loseWriteConnection(self) -> None:  # noqa: N802 - Twisted's name
        pass

    def getTcpKeepAlive(self) -> bool:  # noqa: N802 - Twisted's name
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802 - Twisted's name
        pass

    def getTcpNoDelay(self) -> bool:  # noqa: N802 - Twisted's name
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802 - Twisted's name
        pass


class Output(list[str]):
    """
    A file for the access log.
    """

    def write(self, text: str) -> None:
        self.append(text)

    def flush(self) -> None:
        pass


class Wire:
    """
    A client and a server, and the bytes between them.

    :ivar heard: what the server told the client.
    :ivar requests: what was rendered.
    """

    def __init__(
        self,
        render: Callable[[Any], Any] | None = None,
        stickiness: Stickiness | None = None,
        route: Any = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.requests: list[Any] = []
        self.heard: list[Any] = []
        self.log = Output()
        self._answer = render or (lambda request: b"hello")
        self.site = StickySite(
            Answer(self._render),
            HTTPContext(self.clock, HTTPLimits(**limits), route, stickiness=stickiness),
            AccessLog(self.log, self.clock),
            SessionRegistry(MemorySessionStore(self.clock), self.clock),
        )
        self.ended: list[Any] = []
        handoff = Handoff(-1, "127.0.0.1", 1, b"key")
        self.channel = HTTP2Connection(self.site, handoff, self.ended.append)
        self.transport = SecureTransport()
        self.client = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.channel.makeConnection(self.transport)

    def _render(self, request: Any) -> Any:
        self.requests.append(request)
        return self._answer(request)

    def begin(self) -> None:
        self.client.initiate_connection()
        self.exchange()

    def exchange(self) -> list[Any]:
        """
        Carry everything there is in both directions.
        """
        for _ in range(40):
            self.feed(self.client.data_to_send())
            self.clock.advance(0)
            output = self.transport.value()
            self.transport.clear()
            if output:
                self.heard += self.client.receive_data(output)
        return self.heard

    def feed(self, data: bytes) -> None:
        if data:
            self.channel.dataReceived(data)

    def ask(self, headers: Any = GET, body: bytes | None = None, end: bool = True) -> int:
        """
        Send a request.

        :return: its stream.
        """
        stream: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, headers, end_stream=body is None and end)
        if body is not None:
            self.client.send_data(stream, body, end_stream=end)
        self.exchange()
        return stream

    def told(self, kind: type, stream: int | None = None) -> list[Any]:
        return [
            event
            for event in self.heard
            if isinstance(event, kind)
            and (stream is None or getattr(event, "stream_id", None) == stream)
        ]

    def status(self, stream: int) -> str:
        [response] = self.told(ResponseReceived, stream)
        return str(dict(response.headers)[":status"])

    def body(self, stream: int) -> bytes:
        return b"".join(event.data for event in self.told(DataReceived, stream))

    def take(self, stream: int, size: int) -> None:
        """
        Make room for so much more of a response, unless it is whole.
        """
        if not self.told(StreamEnded, stream):
            self.client.increment_flow_control_window(size)
            self.client.increment_flow_control_window(size, stream)
        self.exchange()

    def goaway(self) -> tuple[int, int]:
        """
        The code and the last stream of the last GOAWAY.
        """
        event = self.told(ConnectionTerminated)[-1]
        return event.error_code, event.last_stream_id

    def goaways(self) -> list[tuple[int, int]]:
        """
        The code and the last stream of each GOAWAY in what waits to be read by the client,
        who would take nothing after the first.
        """
        found, data = [], memoryview(self.transport.value())
        while data:
            frame, length = GoAwayFrame.parse_frame_header(data[:9])
            if isinstance(frame, GoAwayFrame):
                frame.parse_body(data[9 : 9 + length])
                found.append((frame.error_code, frame.last_stream_id))
            data = data[9 + length :]
        return found

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)

    @property
    def closed(self) -> bool:
        return self.transport.disconnecting and self.transport.producer is None


def begun(render: Callable[[Any], Any] | None = None, **limits: Any) -> Wire:
    """
    A connection whose settings are agreed on.
    """
    wire = Wire(render, **limits)
    wire.begin()
    return wire


def later(request: Any) -> Any:
    """
    Render by and by.
    """
    return NOT_DONE_YET


SETTINGS = SettingsFrame(0).serialize()


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """
    Take frames apart: type, stream, payload (RFC 9113, section 4.1).
    """
    found = []
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        found.append((data[3], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found

"""
HTTP/2: requests, mistakes of clients and what they are told, limits, times, draining.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

import tempfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Request as TwistedRequest
from zope.interface import implementer

from stickyd.affinity.address import parse_ip_key
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.handoff.frame import Handoff
from stickyd.serve.access_log import AccessLog
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.sticky import StickySite
from stickyd.serve.http2.connection import HTTP2Connection
from stickyd.serve.http2.flood_guard import RESETS, RESETS_A_SECOND
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
            AccessLog(self.log, self.clock),  # type: ignore[arg-type]  # enough of a file
            SessionRegistry(MemorySessionStore(self.clock), self.clock),
        )
        self.ended: list[Any] = []
        self.channel = HTTP2Connection(self.site, Handoff(-1, "127.0.0.1", 1, b"key"))
        self.channel.ended = self.ended.append
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


def test_request_and_response() -> None:
    """
    A resource sees a request as it would over HTTP/1.1, and the client its answer; it is
    counted and logged.
    """

    def render(request: Any) -> bytes:
        assert (request.uri, request.args) == (b"/p?q=1", {b"q": [b"1"]})
        assert request.requestHeaders.getRawHeaders(b"host") == [b"a.test"]
        assert request.clientproto == b"HTTP/2"
        assert request.isSecure()
        request.setHeader(b"X-Y", b"z")
        return b"hello"

    wire = begun(render)
    stream = wire.ask([*GET, ("host", "a.test"), ("cookie", "a=1"), ("cookie", "b=2")])
    fields = dict(wire.told(ResponseReceived, stream)[0].headers)
    assert (fields[":status"], fields["x-y"], fields["content-length"]) == ("200", "z", "5")
    assert wire.body(stream) == b"hello"
    assert wire.told(StreamEnded, stream)
    [request] = wire.requests
    assert request.getHeader(b"cookie") == b"a=1; b=2"
    assert request.received_cookies == {b"a": b"1", b"b": b"2"}
    assert wire.site.context.requests == 1
    wire.clock.advance(1)
    assert '"GET /p?q=1 HTTP/2" 200 5 ' in wire.log[0]


def test_session_is_carried_with_its_key() -> None:
    """
    ``getSession()`` gives a session of this worker, with the key of the connection, and a
    cookie that is sent over TLS alone.
    """

    def render(request: Any) -> bytes:
        session = request.getSession()
        assert session.live.key == b"key"
        return bytes(session.uid)

    wire = begun(render)
    first = wire.ask()
    cookie = dict(wire.told(ResponseReceived, first)[0].headers)["set-cookie"]
    assert "Secure" in cookie
    second = wire.ask([*GET, ("cookie", cookie.partition(";")[0])])
    assert wire.body(first) == wire.body(second)


def test_body_and_big_response() -> None:
    """
    A body arrives whole, and a response larger than the client's window too.
    """

    def render(request: Any) -> bytes:
        return bytes(request.content.read()) * 30_000

    wire = begun(render)
    stream = wire.ask(POST, b"0123456789")
    for _ in range(20):
        wire.take(stream, 60_000)
    assert wire.body(stream) == b"0123456789" * 30_000


def test_response_as_large_as_its_windows() -> None:
    """
    The end of a response needs no room in a window.
    """
    wire = begun(lambda request: b"x" * 70_000)
    stream = wire.ask()
    assert len(wire.body(stream)) == 65_535
    wire.client.increment_flow_control_window(100_000, stream)
    wire.exchange()
    wire.client.increment_flow_control_window(70_000 - 65_535)
    wire.exchange()
    assert len(wire.body(stream)) == 70_000
    assert wire.told(StreamEnded, stream)


def test_failure_in_the_middle_looks_like_one() -> None:
    """
    A response that breaks off is ended by RST_STREAM with an error, not as if it were whole.
    """

    def render(request: Any) -> Any:
        request.write(b"half")
        raise ValueError("broken")

    wire = begun(render)
    stream = wire.ask()
    [reset] = wire.told(StreamReset, stream)
    assert reset.error_code == ErrorCodes.INTERNAL_ERROR
    assert not wire.told(StreamEnded, stream)
    assert wire.status(wire.ask()) == "200"


def test_early_answer_does_not_break_the_connection() -> None:
    """
    Who is answered before his body is whole is told to stop; what is on its way is dropped,
    and the connection serves on.
    """
    wire = begun(lambda request: b"")
    wire.client.send_headers(1, POST)
    wire.exchange()
    [stream] = wire.channel.streams.by_number.values()
    stream.request.setResponseCode(403)
    stream.request.finish()
    wire.feed(wire.client.data_to_send())
    wire.clock.advance(0)
    # On its way before the client hears of it.
    wire.client.send_data(1, b"x" * 1000)
    wire.exchange()
    assert wire.status(1) == "403"
    assert wire.told(StreamReset, 1)[0].error_code == ErrorCodes.NO_ERROR
    assert wire.status(wire.ask()) == "200"
    assert not wire.closed


SETTINGS = SettingsFrame(0).serialize()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", ErrorCodes.PROTOCOL_ERROR),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrorCodes.PROTOCOL_ERROR),
        (
            PREFACE + SETTINGS + HeadersFrame(1, b"\xff" * 8, flags=["END_HEADERS"]).serialize(),
            ErrorCodes.COMPRESSION_ERROR,
        ),
        (
            PREFACE + SETTINGS + b"\x00\x00\x06\x04\x01\x00\x00\x00\x00" + b"\0" * 6,
            ErrorCodes.FRAME_SIZE_ERROR,
        ),
        (
            PREFACE + SETTINGS + b"\x00\x00\x05\x04\x00\x00\x00\x00\x00" + b"\0" * 5,
            ErrorCodes.FRAME_SIZE_ERROR,
        ),
        (PREFACE + SETTINGS + b"\x01\x00\x00\x00\x00\x00\x00\x00\x01" + b"\0" * 65536,
         ErrorCodes.FRAME_SIZE_ERROR),
        (
            PREFACE + SETTINGS + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + b"\0" * 4,
            ErrorCodes.PROTOCOL_ERROR,
        ),
        (
            PREFACE + SETTINGS + b"\x00\x00\x01\x00\x01\x00\x00\x00\x01a",
            ErrorCodes.PROTOCOL_ERROR,
        ),
    ],
    ids=["preface", "http/1.1", "hpack", "settings ack", "settings", "long", "window", "idle data"],
)  # fmt: skip
@pytest.mark.parametrize("pieces", [False, True])
def test_client_that_breaks_the_rules_is_told(data: bytes, code: ErrorCodes, pieces: bool) -> None:
    """
    Each mistake ends the connection, by a GOAWAY that names it, and nothing after it is read.
    """
    wire = Wire()
    size = 1 if pieces and len(data) < 1000 else len(data)
    for start in range(0, len(data), size):
        wire.feed(data[start : start + size])
    assert wire.goaways() == [(code, 1 if code == ErrorCodes.COMPRESSION_ERROR else 0)] or (
        wire.goaways() == [(code, 0)]
    )
    assert wire.closed
    wire.feed(PREFACE)
    assert len(wire.goaways()) == 1


def test_streams_hear_of_a_broken_connection() -> None:
    """
    Requests under way are told that their client is gone when it breaks the rules.
    """
    wire = begun(later)
    wire.ask()
    lost: list[Failure] = []
    wire.requests[0].notifyFinish().addErrback(lost.append)
    wire.feed(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + b"\0" * 4)
    assert len(lost) == 1
    assert wire.closed


def test_goaway_of_the_client_lets_streams_finish() -> None:
    """
    A client that says GOAWAY still gets what it asked for; then the connection closes.
    """
    wire = begun(later)
    stream = wire.ask()
    wire.feed(GoAwayFrame(0).serialize())
    assert not wire.closed
    wire.requests[0].write(b"answer")
    wire.requests[0].finish()
    wire.clock.advance(0)
    wire.exchange()
    assert wire.body(stream) == b"answer"
    assert wire.closed


def test_goaway_of_an_idle_client_closes() -> None:
    """
    Without streams a GOAWAY of the client is the end.
    """
    wire = begun()
    wire.feed(GoAwayFrame(0).serialize())
    assert wire.closed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([*GET[:3], (":path", "p")], "400"),
        ([*GET[:3], (":path", "*")], "400"),
        ([*GET[:3], (":path", "/a b")], "400"),
        ([*GET[:3], (":path", "/\xe9")], "400"),
        ([*GET[:3], (":path", "/" + "p" * 300)], "414"),
        ([(":method", "G T"), *GET[1:]], "400"),
        ([(":method", "CONNECT"), (":authority", "a.test:80")], "501"),
        ([*GET[:2], (":authority", "a b"), GET[3]], "400"),
        ([*GET[:2], (":authority", "u@a"), GET[3]], "400"),
        ([*GET, ("x", "y" * 700)], "431"),
        ([*GET, *[("x", "y")] * 25], "431"),
        ([*POST, ("content-length", "2000")], "413"),
    ],
)
def test_refused(headers: Any, status: str) -> None:
    """
    A request that makes no sense, or is too large, is answered with its status before the
    application sees it; other requests go on.
    """
    wire = Wire(head_bytes=600, head_fields=20, target_bytes=200, body_bytes=1000)
    wire.client.config.validate_outbound_headers = False
    wire.client.config.normalize_outbound_headers = False
    wire.begin()
    stream = wire.ask(headers)
    assert wire.status(stream) == status
    assert wire.requests == []
    assert wire.status(wire.ask()) == "200"


def test_body_past_its_limit() -> None:
    """
    A body that grows too large is answered with 413 and not read on; the application does
    not see the request.
    """
    wire = begun(body_bytes=1000)
    stream = wire.ask(POST, b"x" * 1001, end=False)
    assert wire.status(stream) == "413"
    assert wire.told(StreamReset, stream)
    assert wire.requests == []
    assert wire.status(wire.ask()) == "200"


def test_head_that_is_no_head_ends_the_connection() -> None:
    """
    A header list of more than twice the limit is not even decoded to its end.
    """
    wire = begun(head_bytes=600, head_fields=20)
    for _ in range(3):
        try:
            wire.ask([*GET, ("x", "y" * 60_000)])
        except Exception:  # noqa: BLE001 - the client knows that the connection is over
            break
    assert wire.goaway()[0] == ErrorCodes.ENHANCE_YOUR_CALM
    assert wire.closed


def test_idle_connection_is_closed() -> None:
    """
    Without requests the connection ends in good order; PINGs do not count.
    """
    wire = begun(idle=5.0)
    wire.ask()
    wire.pass_time(3)
    wire.client.ping(b"12345678")
    wire.exchange()
    wire.pass_time(4)
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, 1)]
    assert wire.closed


def test_long_request_is_not_idle() -> None:
    """
    An application may take its time.
    """
    wire = begun(later, idle=5.0, body=5.0, stall=5.0)
    stream = wire.ask()
    wire.pass_time(30)
    wire.requests[0].finish()
    wire.exchange()
    assert wire.status(stream) == "200"
    wire.pass_time(8)
    assert wire.closed


def test_slow_body_gets_408() -> None:
    """
    A body that stops coming is answered with 408; one that comes slowly is not.
    """
    wire = begun(body=5.0)
    slow = wire.ask(POST, b"x", end=False)
    stopped = wire.ask(POST, b"x", end=False)
    for _ in range(4):
        wire.pass_time(3)
        wire.client.send_data(slow, b"x")
        wire.exchange()
    assert wire.status(stopped) == "408"
    wire.client.send_data(slow, b"x", end_stream=True)
    wire.exchange()
    assert wire.status(slow) == "200"


def test_client_that_takes_nothing_is_cut_off() -> None:
    """
    A response that the client leaves no room for ends with the connection in the end.
    """
    wire = begun(lambda request: b"x" * 200_000, stall=5.0)
    wire.ask()
    wire.pass_time(4)
    assert not wire.transport.disconnected
    wire.pass_time(12)
    assert wire.transport.disconnected


def test_client_that_takes_little_is_served() -> None:
    """
    A slow client that goes on reading is not cut off.
    """
    wire = begun(lambda request: b"x" * 80_000, stall=5.0)
    stream = wire.ask()
    for _ in range(10):
        wire.pass_time(4)
        wire.take(stream, 2000)
    assert len(wire.body(stream)) == 80_000


def test_drain_finishes_what_is_under_way() -> None:
    """
    A drain says GOAWAY, serves what the client sent before it has read that, refuses what
    comes after, and closes when the last stream has ended.
    """
    wire = begun(later)
    first = wire.ask()
    wire.channel.drain()
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, 2**31 - 1)]
    warning = wire.transport.value()
    wire.transport.clear()
    second = wire.client.get_next_available_stream_id()
    wire.client.send_headers(second, GET, end_stream=True)
    wire.feed(wire.client.data_to_send())
    assert len(wire.requests) == 2
    # The answer to the PING; the client's library would send nothing after the GOAWAY.
    assert warning.endswith(b"farewell")
    wire.feed(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00farewell")
    third = wire.client.get_next_available_stream_id()
    wire.client.send_headers(third, GET, end_stream=True)
    wire.feed(wire.client.data_to_send())
    assert len(wire.requests) == 2
    for request in wire.requests:
        assert not wire.closed
        request.write(b"done")
        request.finish()
        for _ in range(5):
            wire.clock.advance(0)
    assert wire.transport.disconnecting
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, third)]
    wire.exchange()
    assert not wire.channel.busy
    assert wire.body(first) == wire.body(second) == b"done"
    assert wire.told(StreamReset, third)[0].error_code == ErrorCodes.REFUSED_STREAM


def test_fault_10_stream_whose_session_has_left() -> None:
    """
    Fault 10: a stream that begins when its session has gone to another worker already is
    refused before it is begun, so the client makes it again, there; others are served.
    """
    wire = begun()
    registry = wire.site.session_registry
    session = wire.site.makeSession()
    registry.forward(lambda live: None)
    list(registry.export_batches())
    wire.client.send_headers(
        1, [*GET, ("cookie", f"TWISTED_SESSION={session.uid.decode()}")], end_stream=True
    )
    wire.feed(wire.client.data_to_send())
    refusal = RstStreamFrame(1, error_code=ErrorCodes.REFUSED_STREAM).serialize()
    assert refusal in wire.transport.value()
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, 2**31 - 1)]
    assert not wire.requests
    assert not wire.channel.streams


def test_busy_until_the_response_has_begun() -> None:
    """
    A connection counts as busy as long as a request of it has no response.
    """
    wire = begun(later)
    wire.ask()
    wire.ask()
    said = [wire.channel.busy]
    for request in wire.requests:
        request.write(b"begun")
        said.append(wire.channel.busy)
    assert said == [True, True, False]


def test_idle_connection_drains_at_once() -> None:
    """
    Without streams the connection closes when the client has read the GOAWAY, or does not
    say so for too long.
    """
    wire = begun()
    wire.channel.give_away(None, None)
    assert not wire.transport.disconnecting
    wire.feed(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00farewell")
    assert wire.closed
    silent = begun(first=2.0)
    silent.channel.drain()
    silent.pass_time(5)
    assert silent.closed


def test_end_is_told_once() -> None:
    """
    The host hears of the end of the connection, once, and the requests do; no timer is left.
    """
    wire = begun(later)
    wire.ask()
    lost: list[Failure] = []
    wire.requests[0].notifyFinish().addErrback(lost.append)
    wire.channel.streams.output.stopProducing()
    wire.channel.connectionLost()
    assert wire.ended == [wire.channel]
    assert len(lost) == 1
    wire.site.stopFactory()
    assert all(call.getTime() <= wire.clock.seconds() for call in wire.clock.getDelayedCalls())


def test_closing_does_not_wait_for_ever() -> None:
    """
    A client that does not take the end of the connection is cut off.
    """
    wire = begun(idle=2.0, stall=3.0)
    wire.pass_time(5)
    assert wire.closed
    assert not wire.transport.disconnected
    wire.pass_time(5)
    assert wire.transport.disconnected


class Claims:
    """
    The primary's end of ids that are learnt.
    """

    def __init__(self) -> None:
        self.ids: list[bytes] = []
        self.known: Deferred[None] = Deferred()

    def __call__(self, identifiers: list[bytes]) -> Deferred[None]:
        self.ids += identifiers
        return self.known


def stickiness_of(*affinity: str, trust: tuple[str, ...] = ()) -> tuple[Stickiness, Claims]:
    """
    What slot 3 does to requests and responses.
    """
    claims = Claims()
    keys = parse_affinity(affinity, parse_ip_key)
    return Stickiness(keys, Signer([b"x" * 16]), lambda: 3, claims, Networks.parse(trust)), claims


def test_sticky_cookie() -> None:
    """
    A client without our cookie gets it, over TLS only, and no other once it sends it.
    """
    stickiness, _ = stickiness_of("cookie:stickyd", "ip")
    wire = begun(stickiness=stickiness)
    cookie = dict(wire.told(ResponseReceived, wire.ask())[0].headers)["set-cookie"]
    assert cookie.startswith("stickyd=3.")
    assert "; Secure" in cookie
    again = wire.ask([*GET, ("cookie", cookie.partition(";")[0])])
    assert "set-cookie" not in dict(wire.told(ResponseReceived, again)[0].headers)


def test_trusted_proxy_tells_the_client() -> None:
    """
    The application sees the client that a trusted proxy tells of.
    """

    def render(request: Any) -> bytes:
        return f"{request.getClientAddress().host} {request.isSecure()}".encode()

    stickiness, _ = stickiness_of("ip", trust=("192.168.1.1",))
    wire = begun(render, stickiness=stickiness)
    fields = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http")]
    assert wire.body(wire.ask([*GET, *fields])) == b"203.0.113.9 False"
    stranger = begun(render)
    assert stranger.body(stranger.ask([*GET, *fields])) == b"192.168.1.1 True"


@pytest.mark.parametrize("leaves", [False, True])
def test_minted_ids_wait_for_the_primary(leaves: bool) -> None:
    """
    A response that tells a new id leaves when the primary knows it, and whole; unless the
    client has gone by then.
    """

    def render(request: Any) -> Any:
        request.setHeader(b"X-Session", b"s1")
        request.write(b"first ")
        request.write(b"second")
        request.finish()
        return NOT_DONE_YET

    stickiness, claims = stickiness_of("learn:header:X-Session", "ip")
    wire = begun(render, stickiness=stickiness)
    stream = wire.ask()
    assert claims.ids
    assert not wire.told(ResponseReceived)
    if leaves:
        wire.client.reset_stream(stream)
        wire.exchange()
    failures: list[Failure] = []
    claims.known.callback(None)
    claims.known.addErrback(failures.append)
    wire.exchange()
    assert failures == []
    assert wire.body(stream) == (b"" if leaves else b"first second")
    assert not wire.closed


def test_wider_windows_by_settings() -> None:
    """
    A client may open the windows of its streams by a setting too.
    """
    wire = begun(lambda request: b"x" * 1000)
    wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    wire.exchange()
    stream = wire.ask()
    assert wire.body(stream) == b""
    wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 5000})
    wire.exchange()
    assert wire.body(stream) == b"x" * 1000


def test_closed_window_costs_nothing() -> None:
    """
    While the client leaves no room, nothing is tried again and again.
    """
    wire = begun(lambda request: b"x" * 100_000)
    wire.ask()
    now = wire.clock.seconds()
    assert [call for call in wire.clock.getDelayedCalls() if call.getTime() <= now] == []


def test_upload_through_the_window() -> None:
    """
    A body larger than the window is taken piece by piece.
    """
    wire = begun(lambda request: b"%d" % len(request.content.read()))
    stream = wire.ask(POST, b"x" * 10_000, end=False)
    for _ in range(19):
        wire.client.send_data(stream, b"x" * 10_000)
        wire.exchange()
    wire.client.end_stream(stream)
    wire.exchange()
    assert wire.body(stream) == b"200000"
    assert wire.told(WindowUpdated)


# requests of other clients


OTHER = [*GET[:-1], (":path", "/other")]


def route_of(*elsewhere: bytes) -> Any:
    """
    A route that gives requests for some targets away.
    """
    return lambda head, handoff: (lambda sock, unread: None) if head.target in elsewhere else None


def test_request_of_another_client_is_refused_unbegun() -> None:
    """
    The client is told first that the connection takes no more, so that it makes the request
    again on another; what is under way is answered.
    """
    wire = begun(later, route=route_of(b"/other"))
    wire.ask()
    wire.client.send_headers(3, OTHER, end_stream=True)
    wire.feed(wire.client.data_to_send())
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, 2**31 - 1)]
    kinds = frames(wire.transport.value())
    refused = (RstStreamFrame.type, 3, ErrorCodes.REFUSED_STREAM.to_bytes(4, "big"))
    assert kinds.index(refused) > [kind for kind, _, _ in kinds].index(GoAwayFrame.type)
    assert len(wire.requests) == 1
    wire.transport.clear()
    wire.requests[0].write(b"whole")
    wire.requests[0].finish()
    wire.clock.advance(0)
    assert any(
        stream == 1 and b"whole" in body for _, stream, body in frames(wire.transport.value())
    )


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


def test_requests_of_a_proxy_are_served_and_told() -> None:
    """
    Whosever they are, as a proxy would not make them again; the log says so now and then.
    """
    stickiness, _ = stickiness_of("ip", trust=("127.0.0.1",))
    wire = begun(stickiness=stickiness, route=route_of(b"/other"))
    with capturedLogs() as events:
        for _ in range(3):
            assert wire.status(wire.ask(OTHER)) == "200"
    (line,) = [formatEvent(event) for event in events if "log_level" in event]
    assert "The proxy 127.0.0.1 sends requests of several clients" in str(line)
    assert not wire.told(ConnectionTerminated)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("told", [False, True])
def test_fault_35_large_body_lies_in_a_file(method: str, told: bool) -> None:
    """
    Fault 35: whatever the method, and whether or not a length was told, a large body is not
    kept in memory; and its file counts among the descriptors.
    """
    wire = begun(lambda request: b"%d" % len(request.content.read()))
    spool = wire.site.context.spool
    fields = [(":method", method), *GET[1:]]
    if told:
        fields.append(("content-length", "210000"))
    stream = wire.ask(fields, b"x" * 10_000, end=False)
    assert spool.files == 0
    for _ in range(20):
        wire.client.send_data(stream, b"x" * 10_000)
        wire.exchange()
    [current] = wire.channel.streams.by_number.values()
    assert not isinstance(current.request.content, BytesIO)
    assert spool.files == 1
    wire.client.end_stream(stream)
    wire.exchange()
    assert wire.body(stream) == (b"" if method == "HEAD" else b"210000")
    assert spool.files == 0


def test_fault_35_request_of_another_class() -> None:
    """
    Fault 35: a site's own class of requests is told that the length of a GET is not known.
    """
    told: list[Any] = []

    class Foreign(TwistedRequest):
        def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
            told.append(length)
            super().gotLength(length)

    wire = Wire()
    wire.site.requestFactory = Foreign  # type: ignore[assignment]  # as a site may
    wire.begin()
    stream = wire.ask(GET, b"x", end=False)
    assert told[-1] is None
    wire.client.end_stream(stream)
    wire.exchange()
    wire.ask(GET)
    assert told[-1] == 0


def test_body_without_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Fault 35: who sends a body for which there is no room gets 503; others are served on.
    """
    wire = begun()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    stream = wire.ask(POST, b"x" * 10_000, end=False)
    for _ in range(10):
        wire.client.send_data(stream, b"x" * 10_000)
        wire.exchange()
    assert wire.status(stream) == "503"
    assert wire.status(wire.ask()) == "200"


def test_fault_34_form_that_is_refused() -> None:
    """
    Fault 34: a form past its limit gets 413 when the resource asks, and the connection
    goes on; one that nobody asks for is served.
    """
    answers = iter([lambda request: repr(request.args), lambda request: b"unread"])
    wire = begun(lambda request: next(answers)(request), form_bytes=10)
    headers = [*POST, ("content-type", "application/x-www-form-urlencoded")]
    for number, status in ((1, "413"), (3, "200")):
        wire.client.send_headers(number, headers)
        wire.client.send_data(number, b"a=0123456789", end_stream=True)
        wire.exchange()
        assert wire.status(number) == status


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "mistake",
    [
        b"\0\0\4\0\0\0\0\0\1more",  # DATA behind the end of the request
        b"\0\0\4\x08\0\0\0\0\1\x7f\xff\xff\xff",  # a window that grows too much
    ],
)
def test_stream_that_its_client_has_broken_hurts_no_other(mistake: bytes, at_once: bool) -> None:
    """
    A request whose stream is reset for a mistake of its client's is told that its client is
    gone, and the other streams go on.
    """
    wire = begun(later)
    lost: list[Failure] = []

    def render(request: Any) -> Any:
        request.notifyFinish().addErrback(lost.append)
        request.write(b"x" * 100)
        return NOT_DONE_YET

    wire._answer = render
    wire.client.send_headers(1, GET, end_stream=True)
    wire.client.send_headers(3, GET, end_stream=True)
    data = wire.client.data_to_send()
    if at_once:
        wire.feed(data + mistake)
    else:
        wire.feed(data)
        wire.feed(mistake)
    with capturedLogs() as events:
        for _ in range(5):
            wire.clock.advance(0)
    assert [event for event in events if "log_failure" in event] == []
    assert len(lost) == (not at_once)  # then it was never begun
    assert list(wire.channel.streams.by_number) == [3]
    wire.requests[-1].finish()
    wire.exchange()
    assert wire.body(3) == b"x" * 100


@pytest.mark.parametrize("by_whom", ["client", "us"])
def test_rapid_resets_end_the_connection(by_whom: str) -> None:
    """
    A client that begins requests only to reset them, or to have them reset, is told to calm
    down; one that does so now and then is not.
    """
    wire = begun(later)
    mistake = b"\0\0\4\x08\0%c\x7f\xff\xff\xff"  # a window that grows too much
    ended = 0
    while not wire.closed and ended < 2 * RESETS:
        stream = wire.client.get_next_available_stream_id()
        wire.client.send_headers(stream, GET, end_stream=True)
        data = wire.client.data_to_send()
        if by_whom == "client":
            wire.client.reset_stream(stream)
            wire.feed(data + wire.client.data_to_send())
        else:
            wire.feed(data)
            number = stream.to_bytes(4, "big")
            wire.feed(mistake[:5] + number + mistake[7:])
            if not wire.closed:
                wire.exchange()
        ended += 1
        if ended == RESETS:
            assert not wire.closed
            wire.pass_time(2)
    assert ended == RESETS + 2 * RESETS_A_SECOND + 1
    assert wire.goaways()[-1][0] == ErrorCodes.ENHANCE_YOUR_CALM
    assert wire.requests == [] if by_whom == "client" else len(wire.requests) == ended


def test_small_response_is_one_write() -> None:
    """
    Its head, its data and its end leave together, in two frames.
    """
    wire = begun()
    stream = wire.client.get_next_available_stream_id()
    wire.client.send_headers(stream, GET, end_stream=True)
    writes: list[bytes] = []
    wire.transport.write = writes.append  # type: ignore[method-assign]
    wire.feed(wire.client.data_to_send())
    [written] = writes
    assert [(kind, number) for kind, number, _ in frames(written)] == [(1, stream), (0, stream)]


@pytest.mark.parametrize("whole", [True, False])
def test_client_that_asks_no_more_is_answered(whole: bool) -> None:
    """
    Fault 37 over HTTP/2: after a client has shut its sending side down, its whole requests are
    answered, the others told that it is gone, and the connection closes.
    """
    wire = begun(later)
    stream = wire.ask()
    if not whole:
        wire.ask(POST, b"x", end=False)
    wire.channel.readConnectionLost()
    wire.channel.readConnectionLost()
    assert list(wire.channel.streams.by_number) == [stream]
    assert not wire.closed
    wire.requests[0].write(b"x" * 1000)
    wire.requests[0].finish()
    for _ in range(3):
        wire.clock.advance(0)
    data = wire.transport.value()
    assert sum(len(body) for kind, _, body in frames(data) if kind == 0) == 1000
    assert wire.closed


@pytest.mark.parametrize("when", ["before", "after"])
def test_client_that_asks_no_more_opens_no_window(when: str) -> None:
    """
    A response that does not fit into the windows of such a client will never be whole: it is
    given up, and the connection closes.
    """
    wire = begun(later)
    wire.ask()
    lost: list[Failure] = []
    wire.requests[0].notifyFinish().addErrback(lost.append)
    if when == "before":
        wire.requests[0].write(b"x" * 100_000)
        wire.exchange()
    wire.channel.readConnectionLost()
    if when == "after":
        assert not wire.transport.disconnecting
        wire.requests[0].write(b"x" * 100_000)
    for _ in range(5):
        wire.clock.advance(0)
    assert len(lost) == 1
    assert wire.closed


def test_idle_client_that_asks_no_more_is_let_go() -> None:
    """
    There is nothing to wait for.
    """
    wire = begun()
    wire.channel.readConnectionLost()
    assert wire.closed


def test_urgent_response_overtakes() -> None:
    """
    The field Priority says whose data comes first (RFC 9218).
    """
    wire = begun(lambda request: request.uri[1:] * 30_000)
    for path, priority in [("/a", "u=5"), ("/b", "u=1"), ("/c", "u=5")]:
        number = wire.client.get_next_available_stream_id()
        wire.client.send_headers(
            number, [*GET[:-1], (":path", path), ("priority", priority)], end_stream=True
        )
    wire.exchange()
    order = [event.data[:1] for event in wire.told(DataReceived)]
    assert order == sorted(order, key=[b"b", b"a", b"c"].index)


def test_event_streams_end_early() -> None:
    """
    Fault 44: they end in good order when the server goes, and their applications hear of it;
    other responses are not touched.
    """
    lost: list[Failure] = []

    def render(request: Any) -> Any:
        if request.uri == b"/events":
            request.setHeader(b"content-type", b"text/event-stream")
        request.notifyFinish().addErrback(lost.append)
        request.write(b"x")
        return NOT_DONE_YET

    wire = begun(render)
    events = wire.ask([*GET[:-1], (":path", "/events")])
    other = wire.ask()
    wire.channel.end_streams()
    wire.channel.end_streams()
    wire.exchange()
    assert [event.stream_id for event in wire.told(StreamEnded)] == [events]
    assert len(lost) == 1
    assert list(wire.channel.streams.by_number) == [other]


def test_request_that_was_answered_before_its_end_is_not_run_again() -> None:
    """
    A request may answer from its head: what comes after that is dropped, also while the answer
    itself waits for room.
    """
    wire = begun()
    wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    wire.exchange()
    stream = wire.ask(POST, b"", end=False)
    request = wire.channel.streams.by_number[stream].request
    request.method, request.uri, request.clientproto = b"POST", b"/", b"HTTP/2"
    request.write(b"early")
    request.finish()
    wire.client.send_data(stream, b"x" * 1000, end_stream=True)
    wire.exchange()
    assert wire.requests == []
    wire.take(stream, 100)
    assert wire.body(stream) == b"early"
    assert not wire.told(StreamReset)

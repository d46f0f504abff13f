"""
HTTP/2: clients that cost more than they should, and those that only look so.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamReset
from h2.settings import SettingCodes
from twisted.logger import capturedLogs
from twisted.web.server import NOT_DONE_YET

from stickyd.serve.http2.flood_guard import IDLE_FRAMES, IDLE_FRAMES_A_SECOND
from tests.http2_conformance.talk import (
    ACK,
    DATA,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
    settings,
)
from tests.serve.http2.wire import GET, POST, Wire, begun, later

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE: dict[str, Callable[[int], bytes]] = {
    "ping": lambda n: frame(PING, 0, 0, b"12345678"),
    "pong": lambda n: frame(PING, ACK, 0, b"12345678"),
    "settings": lambda n: settings((3, n)),
    "acknowledged settings": lambda n: frame(SETTINGS, ACK, 0),
    "priority of one": lambda n: frame(PRIORITY, 0, 1, number(0) + b"\x0f"),
    "priority of many": lambda n: frame(PRIORITY, 0, 3 + 2 * n, number(0) + b"\x0f"),
    "priority by others": lambda n: frame(PRIORITY, 0, 3, number(5 + 2 * n) + b"\x0f"),
    "window": lambda n: frame(WINDOW_UPDATE, 0, 0, number(1)),
    "window of a stream": lambda n: frame(WINDOW_UPDATE, 0, 1, number(1)),
    "empty data": lambda n: frame(DATA, 0, 1),
    "padding": lambda n: frame(DATA, 0x8, 1, b"\0"),
    "unknown": lambda n: frame(0xBE, 0, 0, b"x"),
}


@pytest.mark.parametrize("make", IDLE.values(), ids=list(IDLE))
def test_frames_that_do_nothing_have_a_bound(make: Callable[[int], bytes]) -> None:
    """
    A thousand are taken at once, whatever they are, and no more; and nothing is logged for it.
    """
    wire = begun(later)
    wire.ask(POST, b"x", end=False)
    with capturedLogs() as events:
        for n in range(IDLE_FRAMES - 10):
            wire.feed(make(n))
            wire.transport.clear()
        assert not wire.transport.disconnecting
        for n in range(IDLE_FRAMES, IDLE_FRAMES + 200):
            wire.feed(make(n))
    assert wire.goaways()[-1][0] == ErrorCodes.ENHANCE_YOUR_CALM
    assert wire.closed
    assert [event for event in events if "log_failure" in event] == []


def test_calm_clients_go_on_for_ever() -> None:
    """
    What comes now and then is no flood.
    """
    wire = begun(later)
    wire.ask()
    for _ in range(100):
        for _ in range(int(IDLE_FRAMES_A_SECOND)):
            wire.feed(frame(PING, 0, 0, b"12345678"))
        wire.transport.clear()
        wire.clock.advance(1)
    assert not wire.closed


def test_windows_that_open_for_data_are_no_flood() -> None:
    """
    A client that opens two windows by little for each frame of a large response is served to
    its end.
    """
    size = 16384 * 600
    wire = begun(lambda request: b"x" * size)
    stream = wire.ask()
    taken = 0
    while taken < size:
        wire.client.increment_flow_control_window(16384)
        wire.client.increment_flow_control_window(16384, stream)
        wire.exchange()
        assert not wire.closed
        taken += sum(len(event.data) for event in wire.told(DataReceived))
        wire.heard.clear()


def test_body_in_small_pieces_is_no_flood() -> None:
    """
    A body may come byte by byte.
    """
    wire = begun(lambda request: b"%d" % len(request.content.read()))
    stream = wire.ask(POST, b"", end=False)
    for _ in range(3000):
        wire.client.send_data(stream, b"x")
        wire.feed(wire.client.data_to_send())
    wire.client.end_stream(stream)
    wire.exchange()
    assert wire.body(stream) == b"3000"


def test_frame_that_is_too_large_is_refused_at_its_head() -> None:
    """
    Its payload is not waited for.
    """
    wire = begun()
    wire.feed(b"\xff\xff\xff\x00\x00\0\0\0\1")
    assert wire.goaways() == [(ErrorCodes.FRAME_SIZE_ERROR, 0)]
    assert wire.closed


def test_client_that_reads_no_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What waits for the transport has a bound: here the heads of responses.
    """
    monkeypatch.setattr("stickyd.serve.http2.connection.MOST_HELD_BYTES", 10_000)
    wire = begun(lambda request: request.setHeader(b"x", b"%d" % len(wire.requests) * 1000) or b"")
    wire.channel.streams.output.pauseProducing()
    with capturedLogs():
        for _ in range(30):
            stream = wire.client.get_next_available_stream_id()
            wire.client.send_headers(stream, GET, end_stream=True)
            wire.feed(wire.client.data_to_send())
            if wire.transport.disconnected:
                break
    assert wire.transport.disconnected
    assert len(wire.requests) < 30


def test_stream_that_its_client_does_not_take_is_given_up() -> None:
    """
    Even if it takes others: a response must not lie in memory for as long as the client likes.
    """
    wire = begun(lambda request: b"x" * 200_000, stall=5.0)
    stuck, moving = wire.ask(), wire.ask()
    wire.client.increment_flow_control_window(2_000_000)
    for _ in range(12):
        wire.pass_time(1)
        wire.client.increment_flow_control_window(1000, moving)
        wire.exchange()
    [reset] = wire.told(StreamReset)
    assert (reset.stream_id, reset.error_code) == (stuck, ErrorCodes.CANCEL)
    assert list(wire.channel.streams.by_number) == [moving]
    assert not wire.transport.disconnected


class Holding:
    """
    Holds the bodies of its requests back.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        make = self.wire.site.requestFactory
        self.held: list[Any] = []

        def factory(channel: Any, queued: bool) -> Any:
            channel.pauseProducing()
            self.held.append(channel)
            return make(channel, queued)

        self.wire.site.requestFactory = factory  # type: ignore[assignment]  # as good as a class
        self.wire.begin()

    def upload(self) -> int:
        """
        Send as much as there is room for.
        """
        stream = self.wire.ask(POST, b"", end=False)
        left = self.wire.client.local_flow_control_window(stream)
        while left:
            self.wire.client.send_data(stream, b"x" * min(left, 16384))
            left -= min(left, 16384)
        self.wire.exchange()
        return stream


@pytest.mark.parametrize("how", ["reset", "refused", "aborted"])
def test_body_that_nobody_reads_gives_its_window_back(how: str) -> None:
    """
    A stream that ends with some of its body held back takes nothing of the connection's window
    with it: later bodies find room.
    """
    holding = Holding()
    wire = holding.wire
    stream = holding.upload()
    assert wire.client.outbound_flow_control_window == 0
    if how == "reset":
        wire.client.reset_stream(stream)
    elif how == "refused":
        holding.held[0]._respondToBadRequestAndDisconnect()
    else:
        holding.held[0].abortConnection()
    wire.exchange()
    assert wire.client.outbound_flow_control_window == 65535


def test_body_that_is_read_later_arrives() -> None:
    """
    What was held back comes in order, and the end after it.
    """
    holding = Holding()
    wire = holding.wire
    wire._answer = lambda request: b"%d" % len(request.content.read())
    stream = holding.upload()
    assert wire.requests == []
    holding.held[0].resumeProducing()
    wire.exchange()
    wire.client.end_stream(stream)
    wire.exchange()
    assert wire.body(stream) == b"65535"


class Producer:
    """
    A producer that knows when it is over.
    """

    stopped = 0

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        pass

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        pass

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.stopped += 1


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("how", ["reset", "gone"])
def test_producer_is_told_that_its_client_is_gone(streaming: bool, how: str) -> None:
    """
    It may have a file to close.
    """
    producer = Producer()

    def render(request: Any) -> Any:
        request.write(b"x")
        request.registerProducer(producer, streaming)
        return NOT_DONE_YET

    wire = begun(render)
    stream = wire.ask()
    if how == "reset":
        wire.client.reset_stream(stream)
        wire.exchange()
    else:
        wire.channel.connectionLost()
    assert producer.stopped == 1


def test_client_that_has_us_remember_much() -> None:
    """
    However much it allows, of the heads of responses little is remembered; they are understood.
    """
    wire = begun(lambda request: request.setHeader(b"x", b"%d" % len(wire.requests) * 100) or b"")
    wire.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**31})
    wire.exchange()
    for _ in range(30):
        assert wire.status(wire.ask()) == "200"
    table = wire.channel._conn.encoder.header_table
    assert table.maxsize == 4096
    assert sum(len(name) + len(value) + 32 for name, value in table.dynamic_entries) <= 4096


def test_frames_have_a_bound_of_ours() -> None:
    """
    A client that takes frames of 16 MB gets smaller ones, between which others have theirs.
    """
    wire = begun(lambda request: b"x" * 200_000)
    wire.client.update_settings({SettingCodes.MAX_FRAME_SIZE: 2**24 - 1})
    wire.client.increment_flow_control_window(1_000_000)
    wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
    wire.exchange()
    stream = wire.ask()
    assert len(wire.body(stream)) == 200_000
    assert max(len(event.data) for event in wire.told(DataReceived)) == 65536

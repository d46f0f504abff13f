"""
HTTP/2: connections that come to their end.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    StreamEnded,
    StreamReset,
)
from hyperframe.frame import GoAwayFrame
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from tests.serve.http2.wire import GET, POST, begun, frames, later


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

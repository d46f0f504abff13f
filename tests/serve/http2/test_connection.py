"""
HTTP/2: requests, mistakes of clients and what they are told, limits, times, draining.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)

from tests.serve.http2.wire import GET, POST, begun, frames


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
    assert wire.site.context.counts.begun == 1
    wire.clock.advance(1)
    assert '"GET /p?q=1 HTTP/2" 200 5 ' in wire.log[0]


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
    Who is answered before its body is whole is told to stop; what is on its way is dropped,
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

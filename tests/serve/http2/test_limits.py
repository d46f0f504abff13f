"""
HTTP/2: bounds of time, of windows and of bodies.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

import tempfile
from io import BytesIO
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from twisted.web.server import Request as TwistedRequest

from tests.serve.http2.wire import GET, POST, Wire, begun, later


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

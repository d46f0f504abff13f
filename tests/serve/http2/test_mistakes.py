"""
HTTP/2: clients that break the rules, and what they are told.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    StreamReset,
)
from h2.settings import SettingCodes
from hyperframe.frame import HeadersFrame
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from stickyd.serve.http2.flood_guard import RESETS, RESETS_A_SECOND
from tests.serve.http2.wire import GET, POST, SETTINGS, Wire, begun, later

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

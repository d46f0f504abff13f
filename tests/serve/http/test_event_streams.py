"""
Fault 44: event streams end when they are told to, other responses by themselves.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone

from tests.http_wire import GET, Wire, hold


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("by", ["setHeader", "responseHeaders"])
def test_event_stream_ends(version: bytes, by: str) -> None:
    """
    The client gets a whole end, and the application is told that the client is gone.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    [request] = requests
    lost: list[Any] = []
    request.notifyFinish().addErrback(lost.append)
    wire.channel.end_streams()
    assert wire.output() == b""
    if by == "setHeader":
        request.setHeader(b"content-type", b"Text/Event-Stream; charset=utf-8")
    else:
        request.responseHeaders.setRawHeaders(b"content-type", [b"text/event-stream"])
    request.write(b"data: 1\n\n")
    wire.channel.end_streams()
    end = b"data: 1\n\n\r\n0\r\n\r\n" if version == b"1.1" else b"\r\n\r\ndata: 1\n\n"
    assert wire.output().endswith(end)
    assert wire.closing
    assert lost[0].check(ConnectionDone)
    request.write(b"data: 2\n\n")
    assert wire.output() == b""
    wire.channel.end_streams()
    wire.lose()
    assert len(lost) == 1


class Producer:
    """
    Writes one event when asked.
    """

    stopped = 0

    def __init__(self, request: Any) -> None:
        self._request = request

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._request.write(b"data: 1\n\n")

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        pass

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.stopped += 1


@pytest.mark.parametrize("streaming", [False, True])
def test_producer_is_stopped(streaming: bool) -> None:
    """
    Who produces the stream is told to stop, once.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(GET)
    [request] = requests
    request.setHeader(b"content-type", b"text/event-stream")
    producer = Producer(request)
    request.registerProducer(producer, streaming)
    producer.resumeProducing()
    wire.channel.end_streams()
    assert producer.stopped == 1
    assert wire.closing
    wire.clock.advance(1)
    wire.lose()
    assert producer.stopped == 1


def test_other_responses_go_on() -> None:
    """
    A download is let to end by itself.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(GET)
    requests[0].write(b"half")
    wire.channel.end_streams()
    assert not wire.closing
    requests[0].finish()
    assert wire.output().endswith(b"half\r\n0\r\n\r\n")

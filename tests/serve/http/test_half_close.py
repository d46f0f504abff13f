"""
Fault 37: clients that have asked, say no more, and wait (RFC 9112, 9.6).
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.http_wire import GET, Wire, WireTransport, bodies, hold


class Breaking(WireTransport):
    """
    A transport that can tell that its client has reset the connection.
    """

    broken = False

    def is_broken(self) -> bool:
        """
        Tell.
        """
        return self.broken


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("length", [True, False])
def test_answer_that_comes_later(version: bytes, length: bool) -> None:
    """
    The answer is what it would be, though its first bytes leave before it.
    """
    outputs = []
    for shuts in (False, True):
        requests: list[Any] = []
        wire = Wire(hold(requests))
        wire.feed(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
        if shuts:
            wire.channel.readConnectionLost()
            assert wire.transport.value() == b"HTTP/%b " % version
            assert not wire.closing
        if length:
            requests[0].setHeader(b"Content-Length", b"6")
        requests[0].write(b"whole")
        requests[0].write(b".")
        requests[0].finish()
        assert wire.closing == (shuts or version == b"1.0")
        outputs.append(wire.output())
    assert outputs[0] == outputs[1]


def test_answer_that_has_begun() -> None:
    """
    In the middle of chunks the next one's size begins with a zero, which means nothing.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(GET)
    requests[0].write(b"wh")
    wire.channel.readConnectionLost()
    requests[0].write(b"ole")
    requests[0].finish()
    assert wire.output().endswith(b"\r\n\r\n2\r\nwh\r\n03\r\nole\r\n0\r\n\r\n")
    assert wire.closing


def test_several_requests_are_answered() -> None:
    """
    All that has come whole is answered before the end.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(GET * 3 + b"GET / HT")
    wire.channel.readConnectionLost()
    for number in range(3):
        assert not wire.closing
        requests[number].setHeader(b"Content-Length", b"1")
        requests[number].write(b"%d" % number)
        requests[number].finish()
    assert bodies(wire.output()) == [(200, b"0"), (200, b"1"), (200, b"2")]
    assert wire.closing


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nHo", GET[:-2] + b"Content-Length: 9\r\n\r\nhalf"]
)
def test_nothing_whole_is_the_end(data: bytes) -> None:
    """
    Who has asked nothing, or not to the end, gets nothing.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(data)
    wire.channel.readConnectionLost()
    assert wire.closing
    assert (wire.output(), requests) == (b"", [])


def test_client_that_has_left() -> None:
    """
    A client that answers to the first bytes with a reset had left; the application is told.
    """
    requests: list[Any] = []
    transport = Breaking()
    wire = Wire(hold(requests), clock=Clock(), transport=transport)
    wire.feed(GET)
    wire.channel.readConnectionLost()
    wire.clock.advance(1)
    assert not transport.disconnected
    transport.broken = True
    wire.clock.pump([1, 1, 1])
    assert transport.disconnected

"""
Connections that a worker closes or gives away because it is relieved.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from tests.http_wire import GET, Wire, bodies
from tests.serve.http.applications import AWAY, Later, Router


def test_drain_closes_an_idle_connection() -> None:
    """
    Draining closes an idle connection at once.
    """
    wire = Wire()
    wire.feed(GET)
    wire.channel.drain()
    assert wire.transport.disconnecting


def test_drain_lets_a_response_finish() -> None:
    """
    Draining lets the response under way finish, which says that the connection closes;
    requests behind it are not served.
    """
    later = Later()
    wire: Any = Wire(later)
    wire.feed(GET + GET)
    wire.channel.drain()
    assert not wire.closing
    later.answer()
    output = wire.output()
    assert bodies(output) == [(200, b"late")]
    assert b"\r\nConnection: close\r\n" in output
    assert wire.closing
    assert later.requests == []


def test_drain_after_the_head_is_written() -> None:
    """
    A response whose head is out already is finished, then the connection closes.
    """
    later = Later()
    wire = Wire(later)
    wire.feed(GET)
    later.requests[0].write(b"a")
    wire.channel.drain()
    later.requests[0].finish()
    assert wire.output().endswith(b"1\r\na\r\n0\r\n\r\n")
    assert wire.transport.disconnecting


@pytest.mark.parametrize("part", [10, 45, 48])
def test_drain_lets_a_request_come(part: int) -> None:
    """
    A request that has begun to come when the drain begins is served, as the last one.
    """
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
    wire = Wire()
    wire.feed(request[:part])
    wire.channel.drain()
    assert not wire.closing
    wire.feed(request[part:])
    output = wire.output()
    assert bodies(output) == [(200, b"POST / abcde")]
    assert b"\r\nConnection: close\r\n" in output
    assert wire.transport.disconnecting


def test_release_of_an_idle_connection() -> None:
    """
    An idle connection that is released leaves at once, with what came of the next head.
    """
    router = Router()
    wire = Wire()
    wire.feed(GET + b"GET /x HT")
    wire.transport.unread = b"TP"
    wire.channel.give_away(lambda _: True, router.take)
    assert [unread for _, unread in router.taken] == [b"GET /x HTTP"]


@pytest.mark.parametrize("unsent", [0, 5])
def test_release_after_the_response(unsent: int) -> None:
    """
    A released connection that is busy leaves after the response under way, when that is
    sent, without having to wait for the next request; a drain in between changes nothing.
    """
    router = Router()
    later = Later()
    wire = Wire(later)
    wire.feed(GET)
    wire.channel.give_away(lambda _: True, router.take)
    wire.channel.drain()
    assert wire.channel.busy
    wire.transport.unsent = unsent
    later.answer()
    assert len(router.taken) == (0 if unsent else 1)
    output = wire.output()
    assert bodies(output) == [(200, b"late")]
    assert b"Connection: close" not in output
    if unsent:
        wire.feed(b"GET")
        wire.transport.unsent = 0
        wire.transport.producer.resumeProducing()
        assert [unread for _, unread in router.taken] == [b"GET"]
    assert not wire.channel.busy


def test_release_in_a_body() -> None:
    """
    A connection that is released in the middle of a request's body leaves after the
    response to it.
    """
    router = Router()
    wire = Wire()
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
    wire.channel.give_away(lambda _: True, router.take)
    assert router.taken == []
    wire.feed(b"bc")
    assert bodies(wire.output()) == [(200, b"POST / abc")]
    assert len(router.taken) == 1


def test_release_takes_pipelined_requests_along() -> None:
    """
    Of pipelined requests a released connection answers the one under way; the rest goes.
    """
    router = Router()
    later = Later()
    wire = Wire(later)
    wire.feed(GET + AWAY)
    wire.channel.give_away(lambda _: True, router.take)
    later.answer()
    assert bodies(wire.output()) == [(200, b"late")]
    assert [unread for _, unread in router.taken] == [AWAY]


def test_release_of_what_cannot_leave() -> None:
    """
    On a transport that cannot be detached a release is a drain.
    """
    transport = StringTransport()
    wire = Wire(transport=transport)
    wire.channel.give_away(lambda _: True, Router().take)
    assert transport.disconnecting

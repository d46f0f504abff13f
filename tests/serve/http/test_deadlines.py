"""
Tests of the one timer, and of what the channel does when a client is slow.
"""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from stickyd.serve.http import HTTPLimits
from stickyd.serve.http.deadlines import Deadlines
from tests.http_wire import GET, Wire, bodies, hold


class Item:
    """
    Remembers when it expired.
    """

    bucket = 0
    deadline = inf

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.expired: list[float] = []

    def expire(self) -> None:
        """
        Remember.
        """
        self.expired.append(self._clock.seconds())


def _run(clock: Clock, seconds: int) -> None:
    for _ in range(seconds * 2):
        clock.advance(0.5)


@settings(deadline=None)
@given(st.floats(0, 3), st.lists(st.floats(0.1, 20), min_size=1, max_size=6))
def test_never_early_and_soon(start: float, waits: list[float]) -> None:
    """
    Each item expires once, never before its deadline and at most two seconds after.
    """
    clock = Clock()
    clock.advance(start)
    deadlines = Deadlines(clock)
    items = [Item(clock) for _ in waits]
    for item, wait in zip(items, waits, strict=True):
        deadlines.add(item, wait)
    _run(clock, 30)
    for item in items:
        assert len(item.expired) == 1
        assert item.deadline == inf
    for item, wait in zip(items, waits, strict=True):
        assert 0 <= item.expired[0] - (start + wait) <= 2


def test_time_goes_on_while_nothing_is_watched() -> None:
    """
    Whoever comes after a long time without anybody has all its time.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    clock.advance(1000)
    item = Item(clock)
    deadlines.add(item, 5)
    _run(clock, 4)
    assert item.expired == []
    _run(clock, 4)
    assert len(item.expired) == 1


def test_later_deadlines_are_found_without_a_word() -> None:
    """
    A deadline may be moved away by assignment alone.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    item = Item(clock)
    deadlines.add(item, 5)
    for _ in range(10):
        _run(clock, 3)
        item.deadline = deadlines.now + 5
    assert item.expired == []
    _run(clock, 10)
    assert len(item.expired) == 1


def test_sooner_deadlines_need_haste() -> None:
    """
    A deadline that comes nearer is met after ``hasten``, also for those that had none.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    items = [Item(clock), Item(clock)]
    for item, wait in zip(items, (50, None), strict=True):
        deadlines.add(item, wait)
        item.deadline = 5
        deadlines.hasten(item)
    _run(clock, 8)
    assert [len(item.expired) for item in items] == [1, 1]


def test_discarded_items_do_not_expire() -> None:
    """
    An item that was discarded never expires.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    item = Item(clock)
    deadlines.add(item, 5)
    deadlines.discard(item)
    _run(clock, 200)
    assert item.expired == []


def test_the_timer_rests() -> None:
    """
    There is one delayed call for any number of items, and none when there are no items.
    """
    clock = Clock()
    deadlines = Deadlines(clock)
    items = [Item(clock) for _ in range(10)]
    for n, item in enumerate(items):
        deadlines.add(item, 5 + n)
    assert len(clock.getDelayedCalls()) == 1
    for item in items:
        deadlines.discard(item)
    _run(clock, 30)
    assert clock.getDelayedCalls() == []
    deadlines.add(Item(clock), 5)
    assert len(clock.getDelayedCalls()) == 1
    deadlines.stop()
    deadlines.stop()
    assert clock.getDelayedCalls() == []


def test_an_error_does_not_stop_the_timer() -> None:
    """
    An item that raises keeps neither itself nor the others from being swept again.
    """
    clock = Clock()
    deadlines = Deadlines(clock)

    class Bad(Item):
        def expire(self) -> None:
            raise ZeroDivisionError

    deadlines.add(Bad(clock), 2)
    item = Item(clock)
    deadlines.add(item, 6)
    with pytest.raises(ZeroDivisionError):
        _run(clock, 4)
    _run(clock, 6)
    assert len(item.expired) == 1


def test_idle_connection_is_closed_silently() -> None:
    """
    A connection on which nothing happens is closed without a word, before the first
    request and between two.
    """
    wire = Wire(idle=10)
    _run(wire.clock, 9)
    assert not wire.closing
    wire.feed(GET)
    wire.output()
    _run(wire.clock, 9)
    assert not wire.closing
    _run(wire.clock, 3)
    assert wire.transport.disconnecting
    assert wire.output() == b""


def test_slow_head_is_refused() -> None:
    """
    A head that comes a byte a second gets 408 when its time is over, from its first byte.
    """
    wire = Wire(head=10, idle=100)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 50
    for n in range(10):
        wire.feed(head[n : n + 1])
        _run(wire.clock, 1)
    assert not wire.closing
    for n in range(10, 13):
        wire.feed(head[n : n + 1])
        _run(wire.clock, 1)
    assert [status for status, _ in bodies(wire.output())] == [408]
    assert wire.transport.half_closed


def test_slow_body_is_refused() -> None:
    """
    A body that comes a byte a second is read; one that stops gets 408.
    """
    wire = Wire(body=10)
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n")
    for _ in range(20):
        wire.feed(b"x")
        _run(wire.clock, 1)
    assert not wire.closing
    content = wire.channel.unanswered[0].content
    _run(wire.clock, 12)
    assert [status for status, _ in bodies(wire.output())] == [408]
    assert content.closed


def test_application_may_take_its_time() -> None:
    """
    No timeout runs while the application is at work; the idle one runs after it.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests), idle=10)
    wire.feed(GET)
    _run(wire.clock, 500)
    assert not wire.closing
    requests[0].finish()
    _run(wire.clock, 8)
    assert not wire.closing
    _run(wire.clock, 4)
    assert wire.transport.disconnecting


def test_lingering_ends() -> None:
    """
    A client that goes on sending after a refusal is cut off when the linger is over.
    """
    wire = Wire(linger=5)
    wire.feed(b"bad\r\n\r\n")
    for _ in range(8):
        wire.feed(b"x" * 1000)
        _run(wire.clock, 1)
    assert wire.transport.disconnected


def test_stalled_client_is_aborted() -> None:
    """
    A client that takes nothing of a full buffer is aborted; one that takes a little in
    each period is not.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests), stall=20)
    wire.feed(GET)
    requests[0].write(b"x")
    wire.transport.unsent = 1000
    wire.channel.pauseProducing()
    for _ in range(5):
        _run(wire.clock, 20)
        wire.transport.unsent -= 1
    assert not wire.transport.disconnected
    _run(wire.clock, 50)
    assert wire.transport.disconnected


def test_a_client_that_takes_again_is_not_aborted() -> None:
    """
    When a full buffer drains, the response under way has all the time it wants again.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests), stall=20)
    wire.feed(GET)
    wire.channel.pauseProducing()
    _run(wire.clock, 10)
    wire.channel.resumeProducing()
    _run(wire.clock, 200)
    assert not wire.transport.disconnected


def test_slow_client_gets_a_long_last_response() -> None:
    """
    A close waits for a slow client as long as that takes something, and no longer.
    """
    wire = Wire(lambda request: b"x" * 100000, stall=20, idle=None)
    wire.transport.unsent = 90000
    wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert wire.transport.disconnecting
    for _ in range(10):
        _run(wire.clock, 20)
        wire.transport.unsent -= 1000
    assert not wire.transport.disconnected
    _run(wire.clock, 50)
    assert wire.transport.disconnected


def test_timeouts_may_be_off() -> None:
    """
    With :obj:`None` for the times nothing is ever closed.
    """
    wire = Wire(idle=None, head=None, body=None, stall=None)
    for data in (b"", b"POST / HTTP/1.1\r\n", b"Host: a\r\nContent-Length: 3\r\n\r\n", b"a"):
        wire.feed(data)
        _run(wire.clock, 1000)
    wire.channel.pauseProducing()
    _run(wire.clock, 1000)
    assert not wire.closing
    assert not wire.transport.disconnected


@pytest.mark.parametrize(
    "bad", [{"head_bytes": 0}, {"head_fields": 0}, {"idle": -1}, {"body_bytes": -1}]
)
def test_limits_are_checked(bad: dict[str, Any]) -> None:
    """
    A limit that makes no sense is an error that names it.
    """
    with pytest.raises(ValueError, match=next(iter(bad))):
        HTTPLimits(**bad)

"""
Readers that are watched until their first event, and by the loop from then on.  What a loop
promises of readers is in :mod:`tests.net.test_readiness`, for this one too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
from zope.interface.verify import verifyObject

from stickyd.interfaces import IReadiness
from stickyd.net.brief_watches import BriefWatches, end_brief_watches, watching_briefly
from tests.transport_harness import CountedReadiness, LoopDrive, logged_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def reached(calls: list[str], count: int) -> bool:
    """
    Whether there were so many calls.
    """
    return len(calls) == count


class Rig(LoopDrive):
    """
    Watches on a loop that is counted.
    """

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self.counted = CountedReadiness(cast("IReadiness", self.loop))
        self.watches = BriefWatches(self.counted)
        self.sockets: list[socket.socket] = []
        # With the first one, it begins to be watched itself.
        ours, _ = self.pair()
        self.watches.add_reader(ours.fileno(), lambda: None)
        self.watches.remove_reader(ours.fileno())
        self.counted.changes = 0

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Connect two sockets, closed with the rig.
        """
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]
        return ours, theirs

    def reading(self, ours: socket.socket, calls: list[str], name: str) -> Callable[[], None]:
        """
        Make a callback that reads, and writes its name down.
        """

        def read() -> None:
            ours.recv(100)
            calls.append(name)

        return read


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A rig.
    """
    rig = Rig()
    yield rig
    rig.watches.close()
    for sock in rig.sockets:
        sock.close()
    rig.close()


def test_one_event_costs_the_loop_nothing(rig: Rig) -> None:
    """
    Whoever is watched for one event only is no business of the loop.
    """
    verifyObject(IReadiness, rig.watches)
    ours, theirs = rig.pair()
    calls: list[str] = []

    def end() -> None:
        calls.append("end")
        rig.watches.remove_reader(ours.fileno())

    rig.watches.add_reader(ours.fileno(), end)
    theirs.close()
    rig.until(lambda: calls)
    rig.turns(3)
    assert calls == ["end"]
    assert rig.counted.changes == 0


def test_whoever_stays_is_given_to_the_loop(rig: Rig) -> None:
    """
    After the first event the loop watches, and is told of the end.
    """
    ours, theirs = rig.pair()
    calls: list[str] = []
    rig.watches.add_reader(ours.fileno(), rig.reading(ours, calls, "read"))
    for count in range(1, 4):
        theirs.send(b"x")
        rig.until(partial(reached, calls, count))
    assert rig.counted.changes == 1
    rig.watches.remove_reader(ours.fileno())
    assert rig.counted.changes == 2
    theirs.send(b"x")
    rig.turns(3)
    assert len(calls) == 3


def test_a_callback_may_remove_the_others(rig: Rig) -> None:
    """
    Of two that are ready in one turn the first may remove the second, which is not called then.
    """
    pairs = [rig.pair() for _ in range(2)]
    calls: list[int] = []

    def leave(number: int) -> None:
        calls.append(number)
        for ours, _ in pairs:
            rig.watches.remove_reader(ours.fileno())

    for number, (ours, _) in enumerate(pairs):
        rig.watches.add_reader(ours.fileno(), partial(leave, number))
    for _, theirs in pairs:
        theirs.send(b"x")
    rig.until(lambda: calls)
    rig.turns(3)
    assert len(calls) == 1


def test_another_callback_takes_the_place(rig: Rig) -> None:
    """
    The callback that was given last is called, also by the loop.
    """
    ours, theirs = rig.pair()
    calls: list[str] = []
    rig.watches.add_reader(ours.fileno(), rig.reading(ours, calls, "first"))
    rig.watches.add_reader(ours.fileno(), rig.reading(ours, calls, "second"))
    for count in (1, 2):
        theirs.send(b"x")
        rig.until(partial(reached, calls, count))
    assert calls == ["second", "second"]
    rig.watches.remove_reader(ours.fileno())


def test_failing_callback_costs_nobody_else_anything(rig: Rig) -> None:
    """
    An error is logged, and the others that were ready in that turn are called.
    """
    pairs = [rig.pair() for _ in range(2)]
    calls: list[str] = []

    def fail(ours: socket.socket) -> None:
        ours.recv(1)
        calls.append("fail")
        raise ZeroDivisionError

    with logged_failures() as failures:
        for ours, theirs in pairs:
            rig.watches.add_reader(ours.fileno(), partial(fail, ours))
            theirs.send(b"x")
        rig.until(lambda: len(calls) == 2)
    assert [failure.type for failure in failures] == [ZeroDivisionError] * 2
    for ours, _ in pairs:
        rig.watches.remove_reader(ours.fileno())


def test_loop_is_used_where_there_is_no_epoll(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Other systems have none.
    """
    watches = watching_briefly(rig.counted)
    assert isinstance(watches, BriefWatches)
    monkeypatch.delattr("select.epoll")
    assert watching_briefly(rig.counted) is rig.counted


def test_no_descriptor_is_left(rig: Rig) -> None:
    """
    There is one until the end, or until they are dropped that nobody used; who is watched then is
    so by the loop.
    """
    (one, first), (two, second) = rig.pair(), rig.pair()
    before = os.listdir("/dev/fd")
    watching_briefly(rig.counted)
    gc.collect()
    assert os.listdir("/dev/fd") == before
    watches = watching_briefly(rig.counted)
    calls: list[str] = []
    watches.add_reader(one.fileno(), rig.reading(one, calls, "one"))
    assert len(os.listdir("/dev/fd")) == len(before) + 1
    for _ in range(2):
        end_brief_watches(watches)
        end_brief_watches(rig.counted)
    assert os.listdir("/dev/fd") == before
    watches.add_reader(two.fileno(), rig.reading(two, calls, "two"))
    for theirs in (first, second):
        theirs.send(b"x")
    rig.until(lambda: len(calls) == 2)
    for ours in (one, two):
        assert watches.remove_reader(ours.fileno())

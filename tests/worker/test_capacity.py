"""
How many connections may come.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from stickyd.testing import FakeHost
from stickyd.worker.capacity import FULL_SECONDS, HEADROOM, QUIET_SECONDS, Capacity

LIMIT = 1000


class Rig:
    """
    The capacity of a host that serves nothing.
    """

    def __init__(self, window: int = 64) -> None:
        self.clock = Clock()
        self.host = FakeHost()
        self.capacity = Capacity(self.clock, self.host, window)
        self.capacity.count_own()
        self.announced: list[int] = []
        self.capacity.watch(lambda: self.announced.append(self.capacity.window()))

    def fill(self, room: int) -> None:
        """
        Let the host have so many connections that there is room for so many more.
        """
        self.host.connections = 0
        whole = Rig(10 * LIMIT).capacity.window()
        self.host.connections = whole - room


@pytest.fixture
def rig() -> Rig:
    """
    A rig.
    """
    return Rig()


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """
    A known limit of open files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_window_with_plenty_of_room(rig: Rig) -> None:
    """
    With room, as many may be under way as the settings say.
    """
    assert rig.capacity.window() == 64
    assert not rig.clock.getDelayedCalls()


def test_window_counts_what_is_open(few_descriptors: None) -> None:
    """
    What the process had open at first and its connections count against nine tenths of
    the limit; the rest is the application's.
    """
    rig = Rig(window=LIMIT)
    # The listing has itself open for a moment, there as here.
    had = len(os.listdir("/dev/fd"))
    rig.host.connections = 100
    assert rig.capacity.window() == int(LIMIT * HEADROOM) - had - 100


@pytest.mark.parametrize(("room", "window"), [(65, 64), (64, 64), (63, 63), (1, 1)])
def test_window_closes_towards_the_limit(
    rig: Rig, few_descriptors: None, room: int, window: int
) -> None:
    """
    Near the limit only as many may be under way as there is room for.
    """
    rig.fill(room)
    assert rig.capacity.window() == window
    assert not rig.announced


@pytest.mark.parametrize("room", [0, -5])
def test_full_worker_looks_again_until_there_is_room(
    rig: Rig, few_descriptors: None, room: int
) -> None:
    """
    A full worker takes nobody, looks again by the clock, and announces the room it finds.
    """
    rig.fill(room)
    assert rig.capacity.window() == 0
    assert rig.capacity.window() == 0
    assert len(rig.clock.getDelayedCalls()) == 1
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [0]
    rig.fill(7)
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [0, 7]
    assert not rig.clock.getDelayedCalls()


def test_full_worker_says_so_once_in_a_while(rig: Rig, few_descriptors: None) -> None:
    """
    However long it stays full, the log has one line for each QUIET_SECONDS seconds.
    """
    rig.fill(0)
    with capturedLogs() as events:
        rig.capacity.window()
        for _ in range(int(2 * QUIET_SECONDS / FULL_SECONDS)):
            rig.clock.advance(FULL_SECONDS)
    lines = [event for event in events if "No more connections for now" in event["log_format"]]
    assert len(lines) in (2, 3)  # the steps' rounding errors decide on the last
    assert lines[0]["connections"] == rig.host.connections


def test_starved_worker_takes_nobody_for_a_moment(rig: Rig) -> None:
    """
    A dropped descriptor closes the window whatever the count says, and time opens it.
    """
    rig.capacity.starve()
    assert rig.capacity.window() == 0
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [64]


def test_limit_that_is_changed_is_noticed(rig: Rig, few_descriptors: None) -> None:
    """
    More descriptors are noticed where they are needed, fewer as soon as one is dropped.
    """
    rig.fill(1)
    assert rig.capacity.window() == 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT + 200, hard))
    assert rig.capacity.window() == 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    rig.capacity.starve()
    assert rig.capacity.window() == 0
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [1]


def test_closing_worker_takes_nobody(rig: Rig) -> None:
    """
    A worker that drains has no window, says so, and does not look for one.
    """
    rig.capacity.close()
    assert rig.announced == [0]
    assert rig.capacity.window() == 0
    assert not rig.clock.getDelayedCalls()


def test_another_window_is_told(rig: Rig) -> None:
    """
    Whoever watches hears of another number.
    """
    rig.capacity.change_window(3)
    assert rig.announced == [3]

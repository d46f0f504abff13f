"""
Reaping orphans: :mod:`stickyd.system.reaper`.
"""

from __future__ import annotations

import os

from twisted.internet.task import Clock

from stickyd.system.reaper import LOOK_SECONDS, Reaper, reap, zombie_children
from tests.system.processes import eventually


def test_child_that_nobody_waits_for_is_found_and_reaped() -> None:
    """
    It stands in the process table, under whatever name, until it is reaped; twice does no harm.
    """
    child = os.posix_spawn("/bin/sh", ["a) Z 1 (", "-c", "exit 3"], os.environ)
    assert eventually(lambda: child in zombie_children())
    reap(child)
    assert child not in zombie_children()
    reap(child)


def test_who_is_waited_for_is_left_alone() -> None:
    """
    Only what is a zombie at two looks in a row is nobody's.
    """
    clock, reaped = Clock(), list[int]()
    seen = iter([[1], [2, 3], [3, 4], [4], []])
    reaper = Reaper(clock, lambda: next(seen), reaped.append)
    reaper.start()
    for _ in range(5):
        clock.advance(LOOK_SECONDS)
    assert reaped == [3, 4]
    reaper.stop()
    assert clock.getDelayedCalls() == []

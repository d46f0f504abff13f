"""
Very many workers, one after the other: nothing of those that are gone stays in the primary.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from twisted.logger import globalLogBeginner

from tests.channels import open_sockets
from tests.fleet.test_fleet_model import MOST_REQUESTS, FleetModel
from tests.fleet_workers import KILLED

if TYPE_CHECKING:
    from tests.fleet_workers import Child

#: Bytes of all containers by which the process may have grown, over thousands of workers.
SLACK_BYTES = 20_000


def replace(model: FleetModel, number: int) -> None:
    """
    Have the worker of the one slot replaced: recycled, relieved by a reload, told to leave, or
    killed; and wait until its successor serves and it is gone.
    """
    (old,) = serving = [child for child in model.primary.children if child.alive]
    way = number % 4
    if way == 0:
        old.extra_requests = 2 * MOST_REQUESTS
    elif way == 1:
        model.operator_changes("reload", 0)
    elif way == 2:
        old.ask_to_leave()
    else:
        model.advance(6)  # so that its successor need not wait
        old.die(KILLED)
    for _ in range(100):
        model.everything_gets_ready()
        for child in model.primary.dead():
            model.primary.reap(child)
        serving = [child for child in model.primary.children if child.alive]
        if serving != [old] and len(serving) == 1 and serving[0].is_served:
            break
        model.time_passes(1.0)
    else:
        raise AssertionError(f"generation {number} never comes to rest")
    forget(model, serving[0])


def forget(model: FleetModel, serving: Child) -> None:
    """
    Have the model itself keep nothing of workers that are gone.
    """
    assert not model.changing()
    model.changes_made.clear()
    steering: Any = model.fleet.steering
    steering.occupations.clear()
    model.primary.children[:] = [serving]
    model.primary.attempts[:] = [serving.process]


def measure() -> tuple[int, Counter[str]]:
    """
    What this process has: the bytes of all that is tracked, and how many of each kind.
    """
    # As nobody has begun to log here, Twisted keeps what there would have been to log.
    globalLogBeginner._initialBuffer._buffer.clear()
    gc.collect()
    tracked = gc.get_objects()
    kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in tracked)
    return sum(sys.getsizeof(each, 0) for each in tracked), kinds


def check(generations: int) -> None:
    """
    Have so many workers, one after the other.
    """
    model = FleetModel()
    try:
        model.start(0, 1, "calm", "connection")
        warm = 40
        for number in range(warm):
            replace(model, number)
        # First, as it frees what other tests have left.
        memory, kinds = measure()
        sockets, descriptors = len(open_sockets()), len(os.listdir("/dev/fd"))
        for number in range(warm, generations):
            replace(model, number)
        grown, more = measure()
        assert len(open_sockets()) == sockets
        assert len(os.listdir("/dev/fd")) == descriptors
        new = {
            kind: (kinds[kind], count) for kind, count in more.items() if count > kinds[kind] + 5
        }
        assert not any(kind.startswith(("stickyd.", "twisted.")) for kind in new), new
        assert grown - memory < SLACK_BYTES, (grown - memory, new)
        figures = model.fleet.table.members[0].slot.figures
        assert sum(figures.restarts.values()) == generations, figures.restarts
    finally:
        model.teardown()


def test_some_hundred_workers_leave_nothing() -> None:
    """
    Neither objects nor descriptors nor memory.
    """
    check(240)


@pytest.mark.soak
def test_10000_workers_leave_nothing() -> None:
    """
    The same of as many as a server may have in months.
    """
    check(10_000)

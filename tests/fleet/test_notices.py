"""
What is said while somebody waits: :mod:`stickyd.fleet.start_notice` and
:mod:`stickyd.fleet.stop_notice`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from stickyd.fleet.departure_notice import DepartureNotice
from stickyd.fleet.start_notice import StartNotice
from stickyd.fleet.stop_notice import StopNotice


@dataclass
class Slot:
    """
    A slot, as far as is looked at it.
    """

    worker: object = None
    failed: bool = False


@dataclass
class Worker:
    """
    A worker, as far as is looked at it.
    """

    requests: int = 0
    streams: int = 0
    lives: bool = True
    figures: Any = field(init=False, default=None)

    def count(self) -> None:
        self.figures = SimpleNamespace(
            in_flight=99, told={"waiting": float(self.requests), "streams": float(self.streams)}
        )


def test_start_that_takes_long() -> None:
    """
    After a second, and every ten, until each slot serves or has failed.
    """
    clock = Clock()
    slots = [Slot(), Slot(), Slot()]
    table: Any = SimpleNamespace(members=[SimpleNamespace(slot=slot) for slot in slots])
    notice = StartNotice(clock, table, "shop.main:app")
    with capturedLogs() as events:
        notice.begin()
        clock.advance(1)
        slots[0].worker = object()
        clock.advance(10)
        slots[1].failed, slots[2].worker = True, object()
        clock.advance(10)
    assert [formatEvent(event) for event in events] == [
        "Importing shop.main:app … 0 of 3 workers are ready after 1 s",
        "Importing shop.main:app … 1 of 3 workers are ready after 11 s",
    ]
    assert clock.getDelayedCalls() == []
    notice.begin()
    notice.end()
    assert clock.getDelayedCalls() == []


def test_stop_that_takes_long() -> None:
    """
    What is left, and how long it may take; then that only the application itself is waited for.
    """
    clock = Clock()
    workers = [Worker(2, 1), Worker(1, 1), Worker(9, lives=False)]
    notice = StopNotice(clock, lambda: workers)  # type: ignore[arg-type, return-value]
    with capturedLogs() as events:
        notice.begin(22)
        clock.advance(1)
        workers[0] = Worker(1)
        workers[1] = Worker(0, 1)
        clock.advance(5)
        workers[0] = Worker()
        clock.advance(5)
        workers[1] = Worker()
        clock.advance(5)
    assert [formatEvent(event) for event in events] == [
        "3 requests and 2 streams left, at most 21 s more",
        "1 request and 1 stream left, at most 16 s more",
        "1 stream left, at most 11 s more",
        "2 workers left, which no request keeps any more",
    ]
    notice.end()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("keeping", [False, True])
def test_old_workers_of_a_reload(keeping: bool) -> None:
    """
    How many stay, and when the last one has left, also if they stay for their clients; nothing
    where none stays.
    """
    clock = Clock()
    leaving = [SimpleNamespace(seconds_left=3.0 if keeping else 300.0)] * 2
    keeper = SimpleNamespace(until=clock.seconds() + 300.0) if keeping else None
    members = [SimpleNamespace(workers=SimpleNamespace(leaving=leaving))]
    table: Any = SimpleNamespace(
        all_members=lambda: members, keepers=SimpleNamespace(of=lambda worker: keeper)
    )
    notice = DepartureNotice(clock, table)
    with capturedLogs() as events:
        notice.begin()
        clock.advance(1)
        leaving.pop()
        clock.advance(1)
        leaving.pop()
        clock.advance(1)
        notice.begin()
    assert [formatEvent(event) for event in events] == [
        "2 old workers finish what cannot be handed over, for 300 s at most",
        "Every old worker has left",
    ]
    assert clock.getDelayedCalls() == []

"""
Replacing workers that have served enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from stickyd.fleet.process.heartbeats import Heartbeats
from stickyd.fleet.process.recycle import JITTER, PAUSE_BEATS, Recycling
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_workers import STOPPED
from stickyd.testing import FakeRefusal, FakeWorker

if TYPE_CHECKING:
    from stickyd.fleet.process.process import WorkerProcess


class Measured(FakeWorker):
    """
    A worker with figures, in a slot that it occupies.
    """

    def __init__(self, pid: int, slot: Slot) -> None:
        super().__init__(pid, slot, lambda: None, lambda cause: None)
        self.heartbeats = Heartbeats()
        self.heartbeats.heard({"requests": 0.0, "memory": 0.0}, None, 0)
        slot.occupy(self)


class Rig:
    """
    A recycling whose reloads the test ends; at most 100 requests or 1,000 bytes.
    """

    def __init__(self, most_requests: int = 100, most_memory: int = 1000) -> None:
        self.reloads: list[tuple[int, Deferred[list[str]]]] = []
        self.recycling = Recycling(most_requests, most_memory, lambda: 0.5, self.reload)
        self.slot = Slot(3, Clock(), QueueLimits(1, 1.0), FakeRefusal())
        self.worker = Measured(4711, self.slot)

    def reload(self, index: int) -> Deferred[list[str]]:
        """
        Keep what is asked for.
        """
        done: Deferred[list[str]] = Deferred()
        self.reloads.append((index, done))
        return done

    def beat(self, times: int = 1) -> int:
        """
        Let the worker's heart beat.

        :return: how many reloads there were so far.
        """
        for _ in range(times):
            self.recycling.seen(cast("WorkerProcess", self.worker))
        return len(self.reloads)


def test_worker_that_has_answered_enough_is_replaced_once() -> None:
    """
    Past its own limit, which is a little above the setting, its slot is reloaded; further
    heartbeats meanwhile change nothing.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["requests"] = 100 * (1 + JITTER / 2) - 1
    assert rig.beat() == 0
    rig.worker.heartbeats.figures["requests"] += 1
    assert rig.beat(10) == 1
    assert rig.reloads[0][0] == 3


def test_worker_that_has_grown_is_replaced() -> None:
    """
    More resident memory than the limit is reason enough.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["memory"] = 1000
    assert rig.beat() == 0
    rig.worker.heartbeats.figures["memory"] = 1001
    assert rig.beat() == 1


def test_no_limit_replaces_nobody() -> None:
    """
    Without limits no figure is too large.
    """
    rig = Rig(0, 0)
    rig.worker.heartbeats.figures = {"requests": 1e9, "memory": 1e12}
    assert rig.beat() == 0


def test_relieved_worker_is_not_replaced() -> None:
    """
    One that only finishes what it has does not count, nor does one without a slot.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["requests"] = 1000
    Measured(4712, rig.slot)
    assert rig.beat() == 0
    rig.worker.slot = None  # type: ignore[assignment] # a spare
    assert rig.beat() == 0
    rig.recycling.recycle(cast("WorkerProcess", rig.worker), "told", "it was told to end")
    assert not rig.reloads


def test_worker_whose_successor_did_not_start_is_let_alone_for_a_while() -> None:
    """
    Why it stays is told; the next attempt comes after so many heartbeats, not at the next,
    and the pause begins anew when that fails too.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["requests"] = 1000
    for attempt in range(1, 4):
        assert rig.beat() == attempt
        with capturedLogs() as events:
            rig.reloads[-1][1].callback(["slot 3: the fresh worker exited with code 1"])
        assert [formatEvent(event) for event in events] == [
            "Not replaced: slot 3: the fresh worker exited with code 1"
        ]
        assert rig.beat(PAUSE_BEATS) == attempt


def test_replaced_worker_is_not_tried_again() -> None:
    """
    A worker that was relieved stays told, whatever its last heartbeats say.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["requests"] = 1000
    rig.beat()
    rig.reloads[0][1].callback([])
    assert rig.beat(2 * PAUSE_BEATS) == 1


def test_stop_is_no_failure() -> None:
    """
    That the slot is being stopped is not told as an error.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["requests"] = 1000
    rig.beat()
    with capturedLogs() as events:
        rig.reloads[0][1].callback([f"slot 3: {STOPPED}"])
    assert not events


@pytest.mark.parametrize("told", [False, True])
def test_pid_can_be_another_workers(told: bool) -> None:
    """
    Nothing is remembered of a worker that has ended, even if its reload ends later.
    """
    rig = Rig()
    rig.worker.heartbeats.figures["requests"] = 1000
    rig.beat()
    if told:
        rig.reloads[0][1].callback(["x"])
        rig.recycling.forget(4711)
    else:
        rig.recycling.forget(4711)
        rig.reloads[0][1].callback(["x"])
    rig.worker = Measured(4711, rig.slot)
    assert rig.beat() == 1
    rig.worker.heartbeats.figures["requests"] = 1000
    assert rig.beat() == 2

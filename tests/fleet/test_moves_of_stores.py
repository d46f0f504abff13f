"""
Moves where sessions are in a store of each slot, which outlives its worker.
"""

from __future__ import annotations

import pytest

from stickyd.errors import WorkerError
from stickyd.fleet.slot_changes import MOVE_SECONDS, SlotChanges
from stickyd.fleet.worker_limits import WorkerLimits
from tests.fleet.test_fleet import Rig


@pytest.mark.parametrize("keeps_in_slots", [True, False])
def test_move_waits_for_who_dies_with_a_store(keeps_in_slots: bool) -> None:
    """
    Where a slot's sessions outlive its worker, a resize waits for the successor of one that dies
    meanwhile, has it give away what it finds, and the others what they could not send to it.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2), keeps_in_slots)
    outcomes: list[str] = []
    changes.resize(3).addCallback(outcomes.append)
    rig.ready(2)
    dead, other, new = (rig.worker(slot) for slot in range(3))
    dead.died("died of signal 9 (SIGKILL)")
    dead.releases[-1][1].errback(WorkerError("it is gone"))
    other.releases[-1][1].callback(None)
    # Who comes to serve in a new slot may find the store of a former one.
    assert len(new.releases) == keeps_in_slots
    for _, released in new.releases:
        released.callback(None)
    assert (outcomes == [""]) is not keeps_in_slots
    if keeps_in_slots:
        rig.clock.advance(1)
        successor = rig.worker(0)
        assert successor is not dead
        successor.ready()
        assert len(successor.releases) == 1
        successor.releases[-1][1].callback(None)
        while outcomes == []:
            for worker in (successor, other, new):
                deferred = worker.releases[-1][1]
                if not deferred.called:
                    deferred.callback(None)
        assert len(other.releases) == 2


def test_move_waits_for_who_is_about_to_be_found_dead() -> None:
    """
    A worker that answers no more is waited for as one that has died: its death may be heard
    later than the end of its channel.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2), True)
    outcomes: list[str] = []
    changes.resize(1).addCallback(outcomes.append)
    dead, other = rig.worker(1), rig.worker(0)
    other.releases[-1][1].callback(None)
    dead.releases[-1][1].errback(WorkerError("it is gone"))
    assert outcomes == []
    dead.died("died of signal 9 (SIGKILL)")
    rig.clock.advance(1)
    successor = rig.worker(1)
    successor.ready()
    assert successor.releases[-1][0] == (1, [0])
    while outcomes == []:
        for worker in (successor, other):
            if not worker.releases[-1][1].called:
                worker.releases[-1][1].callback(None)
    assert outcomes == [""]
    assert successor.stopped == [1.0]


def test_move_goes_on_until_all_has_arrived() -> None:
    """
    Sessions that could not be given to a slot are with their sender: it is asked again.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2), True)
    outcomes: list[str] = []
    changes.resize(1).addCallback(outcomes.append)
    first, second = rig.worker(0), rig.worker(1)
    refused = rig.fleet.adopt_sessions(7, b"chunk")
    refused.addErrback(lambda failure: failure.trap(WorkerError))
    for worker in (first, second):
        worker.releases[-1][1].callback(None)
    assert outcomes == []
    for worker in (first, second):
        worker.releases[-1][1].callback(None)
    assert outcomes == [""]


@pytest.mark.parametrize("cause", ["exited with code 0", "died of signal 9 (SIGKILL)"])
@pytest.mark.parametrize("keeps_in_slots", [True, False])
def test_who_is_killed_in_a_slot_that_goes_leaves_its_store(
    keeps_in_slots: bool, cause: str
) -> None:
    """
    What a worker that was told to end had yet, and has not given away as it was killed, is taken
    in by the others.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2), keeps_in_slots)
    # As the service has it: the slots' workers tell the changes.
    for member in rig.fleet.table.members:
        member.workers.ended = changes.ended
    changes.resize(1)
    for worker in (goes := rig.worker(1), stays := rig.worker(0)):
        worker.releases[-1][1].callback(None)
    before = len(stays.releases)
    goes.died(cause)
    asked = stays.releases[before:]
    assert [placement for placement, _ in asked] == (
        [(1, [0])] if keeps_in_slots and "died" in cause else []
    )
    for _, released in asked:
        released.callback(None)
    assert rig.fleet.slots[0].worker is stays


def test_move_ends_without_who_does_not_come_back() -> None:
    """
    It does not wait for a slot's successor for ever.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2), True)
    outcomes: list[str] = []
    changes.resize(3).addCallback(outcomes.append)
    rig.ready(2)
    dead, other = rig.worker(0), rig.worker(1)
    dead.died("died of signal 9 (SIGKILL)")
    dead.releases[-1][1].errback(WorkerError("it is gone"))
    other.releases[-1][1].callback(None)
    for _ in range(int(MOVE_SECONDS) + 15):
        rig.clock.advance(1)
        for _, released in other.releases:
            if not released.called:
                released.callback(None)
    assert outcomes == [""]


@pytest.mark.parametrize("keeps_in_slots", [True, False])
def test_who_comes_after_a_death_gives_away_what_it_finds(keeps_in_slots: bool) -> None:
    """
    A worker may die while a request holds a session that belongs elsewhere by now: its successor
    finds that in the store, and sends it on, while it serves.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2), keeps_in_slots)
    for member in rig.fleet.table.members:
        member.workers.came_back = changes.came_back
    rig.worker(0).died("died of signal 9 (SIGKILL)")
    rig.clock.advance(1)
    successor = rig.worker(0)
    successor.ready()
    assert [placement for placement, _ in successor.releases] == [(2, [0, 1])] * keeps_in_slots
    assert len(rig.worker(1).releases) == 0
    for _, released in successor.releases:
        released.callback(None)
    # It serves meanwhile.  Once for each death.
    changes.resize(1)
    assert len(successor.releases) == 1 + keeps_in_slots

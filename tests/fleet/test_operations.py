"""
Changing a fleet while it serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stickyd.fleet.slot_changes import STOPS
from stickyd.fleet.slot_workers import SWITCH_OVER_SECONDS
from tests.fleet.test_fleet import Rig as FleetRig

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from stickyd.testing import FakeWorker


class Rig(FleetRig):
    """
    A fleet that may be changed; its first slots serve.
    """

    def __init__(self, count: int = 3, most_crashes: int = 1) -> None:
        super().__init__(count, most_crashes)
        self.ready(*range(count))

    def given(self, worker: FakeWorker, which: int = -1) -> object:
        """
        Let a worker have given away what it was asked to.

        :return: the placement by which it was to.
        """
        placement, released = worker.releases[which]
        released.callback(None)
        return placement


def outcome(done: Deferred[str]) -> list[str]:
    """
    What a change comes to, once it does.
    """
    outcomes: list[str] = []
    done.addCallback(outcomes.append)
    return outcomes


def test_slots_are_reloaded_one_after_the_other() -> None:
    """
    The second slot's fresh worker starts when the first one's serves, and one slot that
    keeps its old worker does not keep the others from fresh ones.
    """
    rig = Rig(2)
    old = [rig.worker(0), rig.worker(1)]
    problems: list[list[str]] = []
    rig.changes.reload().addCallback(problems.append)
    assert rig.worker(1) is old[1]
    rig.worker(0).died("exited with code 1")
    rig.ready(1)
    rig.given(old[1])
    assert problems == [["slot 0: the fresh worker exited with code 1"]]
    assert (rig.worker(0), rig.fleet.slots[0].worker) == (rig.spawner.workers[2], old[0])
    assert rig.fleet.slots[1].worker is rig.spawner.workers[3]


def test_recovered_slot_gets_its_clients_back_when_the_others_have_given_them_away() -> None:
    """
    Newcomers wait until those who had its clients meanwhile have given away what is its own,
    its sessions first of all; then its clients go to it again.
    """
    rig = Rig(2)
    rig.worker(0).died("x")
    rig.clock.advance(0)
    rig.fail(0)
    other = rig.worker(1)
    assert rig.fleet.table.available_slots() == [1]
    away = rig.deliver(0)
    other.acknowledge()
    assert other.sent == [away]
    rig.changes.reload([0])
    rig.ready(0)
    assert rig.fleet.table.available_slots() == [0, 1]
    back = rig.deliver(0)
    assert rig.worker(0).sent == []
    assert other.sent == [away]
    assert rig.given(other) == (2, [0, 1])
    rig.given(rig.worker(0))
    assert rig.worker(0).sent == [back]
    assert other.places[-1] == (2, [0, 1])


def test_recovery_waits_for_the_change_under_way() -> None:
    """
    Nothing is moved for a slot that is available again while another change moves.
    """
    rig = Rig(3)
    rig.worker(0).died("x")
    rig.clock.advance(0)
    rig.fail(0)
    drained = outcome(rig.changes.drain(2))
    rig.fleet.table.members[0].machine.start()
    rig.ready(0)
    assert [len(rig.worker(slot).releases) for slot in range(3)] == [0, 1, 1]
    rig.given(rig.worker(1))
    rig.given(rig.worker(2))
    # It began to serve meanwhile, so it is asked too.
    assert rig.given(rig.worker(0)) == (3, [1])
    assert drained == [""]
    assert [worker.releases[-1][0] for worker in map(rig.worker, range(3))] == [(3, [0, 1])] * 3


def test_worker_that_gets_ready_in_the_middle_of_a_move_gives_away_too() -> None:
    """
    What it finds in its store may belong elsewhere by now, as may what waits for it: it gets
    nothing before it has given away, and then what is its own.
    """
    rig = Rig(2)
    rig.worker(1).died("x")
    rig.clock.advance(0)
    waiting = rig.deliver(1)
    resized = outcome(rig.changes.resize(1))
    late = rig.worker(1)
    late.ready()
    rig.given(rig.worker(0))
    assert resized == []
    assert late.stopped == []
    newcomer = rig.deliver(1)
    assert rig.given(late) == (1, [0])
    assert resized == [""]
    assert late.stopped == [7.0]
    assert late.sent == []
    assert rig.worker(0).sent == [waiting, newcomer]


def test_worker_that_gets_ready_in_the_middle_of_a_move_has_what_is_its_own() -> None:
    """
    The slot of a worker that begins to serve meanwhile goes on with it, from the end of the
    move.
    """
    rig = Rig(2)
    rig.worker(1).died("x")
    rig.clock.advance(0)
    waiting = rig.deliver(1)
    resized = outcome(rig.changes.resize(3))
    rig.ready(2)
    late = rig.worker(1)
    late.ready()
    assert late.sent == []
    rig.given(rig.worker(0))
    rig.given(late)
    assert resized == [""]
    assert [*late.sent, *rig.worker(2).sent] == [waiting]
    late.acknowledge()
    assert rig.fleet.slots[1].worker is late


def test_who_waits_for_a_worker_is_placed_anew_by_a_move() -> None:
    """
    A client in the queue of a slot whose worker is not there yet goes where it belongs from
    now on, as its session will be there.
    """
    rig = Rig(1)
    rig.worker(0).died("x")
    rig.clock.advance(0)
    stays, goes = rig.deliver(2), rig.deliver(1)
    resized = outcome(rig.changes.resize(2))
    rig.ready(1)
    assert resized == [""]
    assert rig.worker(1).sent == [goes]
    rig.ready(0)
    assert rig.worker(0).sent == [stays]


def test_stuck_worker_holds_nobody_up_for_ever() -> None:
    """
    Newcomers are placed after a while, whether or not a worker has given away; what it says
    later changes nothing.
    """
    rig = Rig(2)
    drained = outcome(rig.changes.drain(1))
    waiting = rig.deliver(1)
    rig.given(rig.worker(0))
    rig.clock.advance(SWITCH_OVER_SECONDS)
    assert drained == [""]
    assert rig.worker(0).sent == [waiting]
    rig.given(rig.worker(1))
    assert rig.worker(0).sent == [waiting]


def test_worker_that_dies_as_it_gives_away_is_replaced() -> None:
    """
    The change goes on without it, and its successor serves the slot.
    """
    rig = Rig(2)
    undrained = outcome(rig.changes.drain(1))
    dead = rig.worker(0)
    waiting = rig.deliver(0)
    dead.died("x")
    dead.releases[0][1].errback(RuntimeError("the worker ended"))
    rig.given(rig.worker(1))
    assert undrained == [""]
    rig.clock.advance(0)
    rig.ready(0)
    assert rig.worker(0).sent == [waiting]


@pytest.mark.parametrize("change", ["resize", "drain", "undrain"])
def test_nothing_is_changed_any_more_when_the_server_stops(change: str) -> None:
    """
    What waits for its turn at the stop is not begun after it, so no worker is started that
    nobody would end.
    """
    rig = Rig(2)
    rig.fleet.slots[0].drained = change == "undrain"
    reloaded: list[list[str]] = []
    rig.changes.reload([0]).addCallback(reloaded.append)
    index = 5 if change == "resize" else 0
    waiting = outcome(getattr(rig.changes, change)(index))
    stopped = rig.stop()
    assert waiting == [STOPS]
    for worker in rig.spawner.workers:
        worker.died("exited with code 0")
    assert (len(rig.spawner.workers), stopped) == (3, [None])


def test_resize_ends_when_the_server_stops() -> None:
    """
    A fleet that grows does not wait for workers which were told to end, and the next change
    after a start finds nothing under way.
    """
    rig = Rig(1)
    grown = outcome(rig.changes.resize(3))
    stopped = rig.stop()
    assert grown == [STOPS]
    for worker in rig.spawner.workers:
        worker.died("exited with code 0")
    assert stopped == [None]


def test_slot_that_cannot_start_is_not_added() -> None:
    """
    The number of slots stays, and the others that were to be added end.
    """
    rig = Rig(1)
    grown = outcome(rig.changes.resize(3))
    rig.ready(1)
    rig.fail(2)
    assert grown == ["a new worker could not start; the number of slots stays"]
    assert len(rig.fleet.table.members) == 1
    assert rig.worker(1).stopped == [0.0]
    assert rig.fleet.places() == (1, [0])


def test_last_slot_that_stands_is_kept() -> None:
    """
    Neither a drain nor a resize leaves nobody to serve.
    """
    rig = Rig(2)
    drained = outcome(rig.changes.drain(0))
    rig.given(rig.worker(0))
    rig.given(rig.worker(1))
    assert drained == [""]
    assert outcome(rig.changes.drain(1)) == [
        "it is the last available slot; stop the server instead"
    ]
    assert outcome(rig.changes.resize(1)) == ["none of the slots that would stay is available"]
    assert outcome(rig.changes.drain(7)) == ["there is no slot 7: they are 0 to 1"]
    assert outcome(rig.changes.undrain(1)) == ["slot 1 is not drained"]

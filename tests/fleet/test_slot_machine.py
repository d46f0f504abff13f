"""
The life of a slot's workers.
"""

from __future__ import annotations

import pytest
from automat import NoTransition
from twisted.internet.task import Clock

from stickyd.fleet.backoff import Backoff
from stickyd.fleet.keepers import Keepers
from stickyd.fleet.restarts import SOUND_SECONDS, Restarts
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_machine import new_machine
from stickyd.fleet.slot_workers import STOPPED, SWITCH_OVER_SECONDS, SlotWorkers
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.handoff.frame import Handoff
from stickyd.testing import FakeRefusal, FakeSpawner, FakeWorker


class Rig:
    """
    A state machine among fakes; back-off without jitter, 1 s doubling to 8 s.
    """

    def __init__(self, most_crashes: int = 3) -> None:
        self.clock = Clock()
        self.spawner = FakeSpawner()
        self.slot = Slot(0, self.clock, QueueLimits(10, 1000.0), FakeRefusal())
        self.gave_up: list[Slot] = []
        self.ended: list[Slot] = []
        limits = WorkerLimits(most_crashes, 300.0, 2)
        self.workers = SlotWorkers(
            self.slot,
            self.clock,
            self.spawner,
            Restarts(self.clock, Backoff(1.0, 8.0, lambda: 1.0), limits),
            limits,
            self.gave_up.append,
            self.ended.append,
            Keepers(self.clock),
        )
        self.machine = new_machine(self.workers)

    @property
    def worker(self) -> FakeWorker:
        """
        The latest worker.
        """
        return self.spawner.workers[-1]

    def serves(self) -> object:
        """
        The worker that gets the slot's connections.
        """
        return self.slot.worker

    def advance_to_next(self) -> float:
        """
        Wait for the next worker.

        :return: how long it took, in seconds.
        """
        count, start = len(self.spawner.workers), self.clock.seconds()
        while len(self.spawner.workers) == count:
            next_call = min(call.getTime() for call in self.clock.getDelayedCalls())
            self.clock.advance(next_call - self.clock.seconds())
        return self.clock.seconds() - start


def test_start_spawns_and_ready_serves() -> None:
    """
    A worker gets the slot's connections once it is ready, not before.
    """
    rig = Rig()
    rig.machine.start()
    handoff = Handoff(5, "192.0.2.1", 1, b"k")
    rig.slot.deliver(handoff)
    assert not rig.worker.sent
    rig.worker.ready()
    assert rig.worker.sent == [handoff]
    assert rig.slot.worker is rig.worker


def test_sound_worker_is_replaced_at_once() -> None:
    """
    The death of a worker that had served well costs its clients no delay, and what it
    had not acknowledged goes to the successor.
    """
    rig = Rig()
    rig.machine.start()
    rig.worker.ready()
    rig.clock.advance(SOUND_SECONDS)
    handoff = Handoff(5, "192.0.2.1", 1, b"k")
    rig.slot.deliver(handoff)
    rig.worker.died("died of signal 9 (SIGKILL)")
    assert rig.slot.worker is None
    assert rig.advance_to_next() == 0.0
    rig.worker.ready()
    assert rig.worker.sent == [handoff]
    assert rig.workers.restarts.count == 1


def test_quick_deaths_back_off_up_to_the_cap() -> None:
    """
    The first quick death is forgiven; then the delays double to the cap and stay there.
    """
    rig = Rig()
    rig.machine.start()
    delays = []
    for _ in range(7):
        rig.worker.ready()
        rig.worker.died("exited with code 1")
        delays.append(rig.advance_to_next())
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_one_sound_life_ends_the_back_off() -> None:
    """
    After a worker that lasted, the count of failures begins anew.
    """
    rig = Rig()
    rig.machine.start()
    for _ in range(3):
        rig.worker.ready()
        rig.worker.died("x")
        rig.advance_to_next()
    rig.worker.ready()
    rig.clock.advance(SOUND_SECONDS)
    rig.worker.died("x")
    assert rig.advance_to_next() == 0.0


def test_crash_loop_fails_the_slot() -> None:
    """
    Fault 17: too many deaths before ready, in a row, and the slot is reported as failed,
    once.  It is tried again, ever more slowly, and is available when a worker gets ready.
    """
    rig = Rig(most_crashes=3)
    rig.machine.start()
    delays: list[float] = []
    for _ in range(9):
        assert rig.slot.failed == (len(delays) >= 3)
        rig.worker.died("exited with code 3")
        delays.append(rig.advance_to_next())
    assert delays == [0.0, 1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 160.0, 160.0]
    assert rig.gave_up == [rig.slot]
    rig.worker.died("exited with code 1")
    assert rig.workers.last_death is not None
    assert rig.workers.last_death[1] == "exited with code 1"
    rig.advance_to_next()
    failed = [rig.slot.failed]
    rig.worker.ready()
    failed.append(rig.slot.failed)
    assert failed == [True, False]
    assert rig.serves() is rig.worker
    assert rig.gave_up == [rig.slot, rig.slot]


def test_fault_17_a_reload_tries_a_failed_slot_at_once() -> None:
    """
    Fault 17: nobody waits for the next try who says that something has changed; and there
    is one worker then, not two.
    """
    rig = Rig(most_crashes=1)
    rig.machine.start()
    rig.worker.died("x")
    outcome: list[str] = []
    rig.machine.reload(outcome.append)
    assert outcome == [""]
    assert len(rig.spawner.workers) == 2
    rig.clock.advance(1000)
    assert len(rig.spawner.workers) == 2


def test_fault_17_a_spare_mends_a_failed_slot() -> None:
    """
    Fault 17: where a spare has started, a failed slot takes it.
    """
    rig = Rig(most_crashes=1)
    rig.machine.start()
    rig.worker.died("x")
    (hasten,) = rig.spawner.wanting
    assert hasten()
    rig.clock.advance(0)
    assert len(rig.spawner.workers) == 2


@pytest.mark.parametrize("tries", [0, 3])
def test_fault_17_a_failed_slot_that_is_stopped_is_tried_no_more(tries: int) -> None:
    """
    Fault 17: a stop is the end of the tries.
    """
    rig = Rig(most_crashes=1)
    rig.machine.start()
    rig.worker.died("x")
    for _ in range(tries):
        rig.advance_to_next()
        rig.worker.died("x")
    rig.machine.stop(0.0)
    assert rig.ended == [rig.slot]
    assert not rig.clock.getDelayedCalls()


def test_ready_worker_ends_a_row_of_crashes() -> None:
    """
    Only deaths in a row count as a crash loop.
    """
    rig = Rig(most_crashes=2)
    rig.machine.start()
    for _ in range(3):
        rig.worker.died("x")
        rig.advance_to_next()
        rig.worker.ready()
        rig.worker.died("x")
        rig.advance_to_next()
    assert not rig.gave_up


def test_failed_slot_can_be_started_again() -> None:
    """
    A failed slot that is started anew has a clean record.
    """
    rig = Rig(most_crashes=1)
    rig.machine.start()
    rig.worker.died("x")
    rig.machine.start()
    failed = [rig.slot.failed]
    rig.worker.ready()
    failed.append(rig.slot.failed)
    assert failed == [True, False]
    assert rig.slot.worker is rig.worker


def test_stop_while_serving_ends_the_worker() -> None:
    """
    The worker is told to finish, and the slot is empty when it is gone.
    """
    rig = Rig()
    rig.machine.start()
    rig.worker.ready()
    rig.machine.stop(7.0)
    rig.machine.stop(7.0)
    assert rig.worker.stopped == [7.0]
    assert not rig.ended
    rig.worker.died("exited with code 0")
    assert rig.ended == [rig.slot]
    assert not rig.clock.getDelayedCalls()


def test_stop_while_starting_ends_the_worker_even_if_it_gets_ready() -> None:
    """
    A worker that reports ready after it was told to stop gets no connections.
    """
    rig = Rig()
    rig.machine.start()
    rig.machine.stop(1.0)
    rig.worker.ready()
    assert rig.slot.worker is None
    rig.worker.died("exited with code 0")
    assert rig.ended == [rig.slot]


def test_stop_while_backing_off_starts_no_worker_any_more() -> None:
    """
    A pending restart is cancelled.
    """
    rig = Rig()
    rig.machine.start()
    rig.worker.died("x")
    rig.machine.stop(1.0)
    assert rig.ended == [rig.slot]
    rig.clock.advance(100)
    assert len(rig.spawner.workers) == 1


def test_stop_of_a_failed_slot_is_the_end_of_it() -> None:
    """
    A slot without a worker is empty as soon as it is told to stop.
    """
    rig = Rig(most_crashes=1)
    rig.machine.start()
    rig.worker.died("x")
    rig.machine.stop(1.0)
    assert rig.ended == [rig.slot]


def test_repeated_start_changes_nothing() -> None:
    """
    A slot that has a worker, or waits for one, is not given a second.
    """
    rig = Rig()
    rig.machine.start()
    rig.machine.start()
    rig.worker.ready()
    rig.machine.start()
    assert len(rig.spawner.workers) == 1


def test_impossible_inputs_are_refused() -> None:
    """
    What the design excludes is an error, not a silent nothing.
    """
    rig = Rig()
    with pytest.raises(NoTransition):
        rig.machine.ready()
    with pytest.raises(NoTransition):
        rig.machine.died("x")


# reload


def serving() -> Rig:
    """
    A slot whose worker serves.
    """
    rig = Rig()
    rig.machine.start()
    rig.worker.ready()
    return rig


def reloading(rig: Rig) -> tuple[FakeWorker, FakeWorker, list[str]]:
    """
    Begin a reload.

    :return: the old worker, the fresh one, and what the reload comes to.
    """
    outcome: list[str] = []
    old = rig.worker
    rig.machine.reload(outcome.append)
    return old, rig.worker, outcome


def newcomer(rig: Rig) -> Handoff:
    """
    Deliver a new connection.
    """
    handoff = Handoff(5, "192.0.2.1", 1, b"k")
    rig.slot.deliver(handoff)
    return handoff


def test_reload_switches_over_when_the_old_worker_has_given_away() -> None:
    """
    The old worker serves until its successor is ready; newcomers wait while it gives away;
    then the successor has them, and the old one is told to finish.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    first = newcomer(rig)
    assert old.sent == [first]
    fresh.ready()
    second = newcomer(rig)
    assert (old.sent, fresh.sent, rig.slot.successor) == ([first], [], fresh)
    ((placement, released),) = old.releases
    assert (placement, old.stopped) == (None, [])
    released.callback(None)
    assert fresh.sent == [second]
    assert (outcome, old.stopped, rig.workers.leaving) == ([""], [300.0], [old])
    old.died("exited with code 0")
    assert rig.workers.leaving == []


def test_switch_over_does_not_wait_for_ever() -> None:
    """
    A worker that is stuck holds newcomers up for as long as the limit says.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    fresh.ready()
    rig.clock.advance(SWITCH_OVER_SECONDS - 0.1)
    assert rig.serves() is None
    rig.clock.advance(0.1)
    assert rig.serves() is fresh
    assert outcome == [""]
    old.releases[0][1].callback(None)
    assert rig.serves() is fresh


def test_successor_that_does_not_get_ready_changes_nothing() -> None:
    """
    The old worker has served all the time, and hears of nothing.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    fresh.died("exited with code 1")
    assert rig.serves() is old
    assert outcome == ["the fresh worker exited with code 1"]
    assert (old.releases, old.stays, old.stopped) == ([], 0, [])
    reloading(rig)[1].ready()
    assert len(old.releases) == 1


def test_old_worker_is_taken_back_when_its_successor_dies_at_the_switch_over() -> None:
    """
    It is told to stay, gets those who waited meanwhile, and serves on; what it gives away
    too late is no reason to stop it.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    fresh.ready()
    waiting = newcomer(rig)
    fresh.died("died of signal 9 (SIGKILL)")
    assert old.stays == 1
    assert rig.serves() is old
    assert rig.slot.successor is None
    assert old.sent == [waiting]
    assert outcome == ["the fresh worker died of signal 9 (SIGKILL)"]
    rig.clock.advance(SWITCH_OVER_SECONDS)
    old.releases[0][1].callback(None)
    assert rig.serves() is old
    assert (old.stopped, rig.workers.leaving, rig.workers.successor) == ([], [], None)


def test_what_an_abandoned_switch_over_had_waited_for_ends_no_other() -> None:
    """
    The old worker has its own time for each successor.
    """
    rig = serving()
    old, fresh, _ = reloading(rig)
    fresh.ready()
    rig.clock.advance(SWITCH_OVER_SECONDS / 2)
    fresh.died("x")
    _, second, outcome = reloading(rig)
    second.ready()
    old.releases[0][1].callback(None)
    rig.clock.advance(SWITCH_OVER_SECONDS / 2)
    assert (rig.serves(), outcome) == (None, [])
    old.releases[1][1].callback(None)
    assert (rig.serves(), outcome) == (second, [""])


def test_successor_follows_a_worker_that_dies() -> None:
    """
    If the old worker dies before, the fresh one is the slot's, and has what the old one had
    not acknowledged once it is ready.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    handoff = newcomer(rig)
    old.died("x")
    assert outcome == [""]
    assert len(rig.spawner.workers) == 2
    fresh.ready()
    assert fresh.sent == [handoff]
    assert old.stopped == []


def test_successor_follows_at_once_at_the_switch_over() -> None:
    """
    If the old worker dies while it gives away, the successor, which is ready, serves.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    handoff = newcomer(rig)
    fresh.ready()
    old.died("x")
    assert fresh.sent == [handoff]
    assert outcome == [""]
    old.releases[0][1].callback(None)
    assert rig.serves() is fresh
    assert old.stopped == []


def test_one_reload_at_a_time() -> None:
    """
    A second wish is refused while the first goes on, at either stage.
    """
    rig = serving()
    _, fresh, _ = reloading(rig)
    outcomes = reloading(rig)[2]
    fresh.ready()
    outcomes += reloading(rig)[2]
    assert outcomes == ["a reload is under way already"] * 2
    assert len(rig.spawner.workers) == 2


@pytest.mark.parametrize("ready", [False, True])
def test_stop_ends_a_reload(ready: bool) -> None:
    """
    Both workers are told to end, whoever waits for the reload is told why, and the slot is
    empty when both are gone.
    """
    rig = serving()
    old, fresh, outcome = reloading(rig)
    if ready:
        fresh.ready()
    rig.machine.stop(7.0)
    assert (old.stopped, fresh.stopped) == ([7.0], [7.0])
    assert outcome == [STOPPED]
    rig.clock.advance(SWITCH_OVER_SECONDS)
    fresh.died("exited with code 0")
    assert rig.ended == []
    old.died("exited with code 0")
    assert rig.ended == [rig.slot]


def test_stop_tells_who_waits_for_the_first_worker() -> None:
    """
    A slot that is stopped before it ever served will not.
    """
    rig = Rig()
    outcomes: list[bool] = []
    rig.workers.first_outcome = outcomes.append
    rig.machine.start()
    rig.machine.stop(1.0)
    assert outcomes == [False]


def test_reload_mends_a_failed_slot() -> None:
    """
    A slot that had given up gets a worker, and is available again when that is ready.
    """
    rig = Rig(most_crashes=1)
    rig.machine.start()
    rig.worker.died("x")
    _, fresh, outcome = reloading(rig)
    failed = [rig.slot.failed]
    fresh.ready()
    failed.append(rig.slot.failed)
    assert (outcome, failed) == ([""], [True, False])
    assert rig.gave_up == [rig.slot, rig.slot]

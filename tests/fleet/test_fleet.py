"""
All slots together: who gets a connection, and how they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from stickyd.affinity.token import Signer
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.fleet import Fleet
from stickyd.fleet.restarts import Restarts
from stickyd.fleet.slot import Slot
from stickyd.fleet.slot_changes import SlotChanges
from stickyd.fleet.slot_workers import SlotWorkers
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IDestination
from stickyd.placement.failover import Failover
from stickyd.placement.rendezvous import Rendezvous
from stickyd.testing import FakePlacement, FakeRefusal, FakeSpawner, FakeSteering, FakeWorker
from tests.fleet.fleets import make_fleet


def start(
    fleet: Fleet,
    spawner: FakeSpawner,
    count: int,
    most_crashes: int,
    availability_changed: Callable[[Slot], None] | None = None,
) -> None:
    """
    Start a fleet; back-off without jitter, 1 s doubling to 8 s.

    :param availability_changed: the fleet's own, unless who changes the fleet is told first.
    """
    backoff = Backoff(1.0, 8.0, lambda: 1.0)

    def make_workers(slot: Slot) -> SlotWorkers:
        limits = WorkerLimits(most_crashes, 300.0, 2)
        return SlotWorkers(
            slot,
            fleet.clock,
            spawner,
            Restarts(fleet.clock, backoff, limits),
            limits,
            availability_changed or fleet.availability_changed,
            fleet.ended,
            fleet.table.keepers,
        )

    fleet.start(count, make_workers)


class Rig:
    """
    A started fleet among fakes: a key's last byte names its slot.
    """

    def __init__(
        self,
        count: int = 3,
        most_crashes: int = 1,
        entries: str = "ip",
        signer: Signer | None = None,
    ) -> None:
        self.clock = Clock()
        self.refusal = FakeRefusal()
        self.spawner = FakeSpawner()
        self.steering = FakeSteering()
        self.fleet = make_fleet(
            self.clock,
            refusal=self.refusal,
            steering=self.steering,
            entries=entries,
            signer=signer,
        )
        self.changes = SlotChanges(self.fleet, WorkerLimits(3, 7.0, 2))
        self.numbers = 0
        start(self.fleet, self.spawner, count, most_crashes, self.changes.availability_changed)

    def worker(self, slot: int) -> FakeWorker:
        """
        The latest worker of a slot.
        """
        return [w for w in self.spawner.workers if w.slot.index == slot][-1]

    def ready(self, *slots: int) -> None:
        """
        Let the workers of some slots get ready.
        """
        for slot in slots:
            self.worker(slot).ready()

    def fail(self, slot: int) -> None:
        """
        Let a starting slot give up.
        """
        self.worker(slot).died("exited with code 3")

    def deliver(self, last_byte: int, slot: int | None = None) -> Handoff:
        """
        Deliver a new connection with a key, or for a slot.
        """
        self.numbers += 1
        handoff = Handoff(self.numbers, "192.0.2.1", 1, b"key" + bytes([last_byte]))
        if slot is not None:
            handoff.slot = slot
        self.fleet.deliver(handoff)
        return handoff

    def stop(self, patience: float = 10.0) -> list[None]:
        """
        Stop the fleet.

        :return: what its Deferred fires with, once it does.
        """
        fired: list[None] = []
        stopped: Deferred[None] = self.fleet.stop(patience)
        stopped.addCallback(fired.append)
        return fired

    def reasons(self) -> list[tuple[Handoff, str]]:
        """
        Who was refused, and why.
        """
        return self.refusal.refused


def test_fleet_is_a_destination() -> None:
    """
    A fleet takes handoffs.
    """
    assert verifyObject(IDestination, Rig().fleet)


def test_start_spawns_a_worker_for_each_slot() -> None:
    """
    Every slot gets a worker of its own, once.
    """
    rig = Rig(count=4)
    assert [worker.slot.index for worker in rig.spawner.workers] == [0, 1, 2, 3]


def test_connection_goes_to_the_slot_of_its_key() -> None:
    """
    The placement decides for a connection that names no slot.
    """
    rig = Rig()
    rig.ready(0, 1, 2)
    handoffs = [rig.deliver(number) for number in (2, 0, 1, 5)]
    assert rig.worker(0).sent == [handoffs[1]]
    assert rig.worker(1).sent == [handoffs[2]]
    assert rig.worker(2).sent == [handoffs[0], handoffs[3]]


def test_named_slot_counts_more_than_the_key() -> None:
    """
    A connection that was placed already goes to that slot, slot 0 included.
    """
    rig = Rig()
    rig.ready(0, 1, 2)
    handoffs = [rig.deliver(1, slot=2), rig.deliver(1, slot=0)]
    assert rig.worker(2).sent == handoffs[:1]
    assert rig.worker(0).sent == handoffs[1:]
    assert not rig.worker(1).sent


def test_client_of_a_failed_slot_always_finds_the_same_other_slot() -> None:
    """
    The clients of a failed slot are spread over the available ones, each always to one.
    """
    rig = Rig(count=3)
    rig.fail(1)
    rig.ready(0, 2)
    one = [rig.deliver(1) for _ in range(3)]
    four = [rig.deliver(4) for _ in range(3)]
    # Two are available: the key's byte modulo 2 chooses among slots 0 and 2.
    assert rig.worker(0).sent == four
    assert rig.worker(2).sent == one


def test_clients_of_standing_slots_stay_where_they_are() -> None:
    """
    A failed slot moves nobody else's clients.
    """
    rig = Rig(count=3)
    rig.fail(0)
    rig.ready(1, 2)
    mine = [rig.deliver(number) for number in (1, 4, 7)]
    theirs = [rig.deliver(number) for number in (2, 5, 8)]
    assert rig.worker(1).sent == mine
    assert rig.worker(2).sent == theirs


def test_named_slot_that_failed_counts_no_more() -> None:
    """
    A connection for a failed slot is placed by its key instead.
    """
    rig = Rig(count=3)
    rig.fail(1)
    rig.ready(0, 2)
    handoffs = [rig.deliver(3, slot=1), rig.deliver(2, slot=1)]
    assert rig.worker(0).sent == handoffs[:1]
    assert rig.worker(2).sent == handoffs[1:]


def test_failing_slot_passes_on_those_who_wait() -> None:
    """
    What waited for the first worker of a slot that gives up is served by the other slots,
    oldest first.
    """
    rig = Rig(count=2, most_crashes=2)
    rig.ready(0)
    rig.fail(1)
    waiting = [rig.deliver(1), rig.deliver(1)]
    rig.clock.advance(1)
    assert not rig.worker(0).sent
    rig.fail(1)
    assert rig.worker(0).sent == waiting
    assert not rig.fleet.slots[1].queue


def test_failures_one_after_the_other_narrow_the_choice() -> None:
    """
    Clients passed on to a slot that fails as well are passed on again.
    """
    rig = Rig(count=3)
    waiting = rig.deliver(1)
    rig.fail(1)
    assert list(rig.fleet.slots[2].queue) == [waiting]
    rig.fail(2)
    rig.ready(0)
    assert rig.worker(0).sent == [waiting]


def test_all_failed_refuses_everybody() -> None:
    """
    When no slot is available, those who wait and those who come are refused, and why.
    """
    rig = Rig(count=2)
    waiting = rig.deliver(0)
    rig.fail(0)
    rig.fail(1)
    newcomer = rig.deliver(1)
    assert rig.reasons() == [
        (waiting, "every slot has failed"),
        (newcomer, "every slot has failed"),
    ]


def test_real_placement_of_the_standing_slots() -> None:
    """
    With rendezvous hashing the clients of available slots stay, and the others are spread
    over the available ones, as a worker would compute it.
    """
    clock, spawner = Clock(), FakeSpawner()
    fleet = make_fleet(clock, Rendezvous)
    start(fleet, spawner, 3, 1)
    spawner.workers[0].died("exited with code 3")
    for worker in spawner.workers[1:]:
        worker.window = 1000
        worker.ready()
    other = Failover(Rendezvous, 3, [1, 2]).slot_of
    keys = [b"k" + bytes([number]) for number in range(60)]
    for number, key in enumerate(keys):
        fleet.deliver(Handoff(number, "192.0.2.1", 1, key))
    for slot in (1, 2):
        mine = [key for key in keys if Rendezvous(3).slot_of(key) == slot]
        moved = [key for key in keys if Rendezvous(3).slot_of(key) == 0 and other(key) == slot]
        assert mine
        assert moved
        assert {handoff.key for handoff in spawner.workers[slot].sent} == {*mine, *moved}


# the end


def test_steering_hears_of_every_placement_before_those_who_waited_are_placed() -> None:
    """
    The kernel follows at the start, when a slot fails, and when it is available again.
    """
    rig = Rig(count=3)
    steering = rig.steering
    rig.ready(0, 1, 2)
    assert steering.occupations == [0, 1, 2]
    rig.fleet.hold()
    rig.deliver(1)
    rig.fleet.place_again()
    assert steering.placements == [(3, [0, 1, 2])] * 2
    assert len(rig.worker(1).sent) == 1

    rig = Rig(count=3)
    rig.ready(0, 2)
    rig.fail(1)
    assert rig.steering.placements == [(3, [0, 1, 2]), (3, [0, 2])]


def test_steering_has_a_say_before_a_resize() -> None:
    """
    What the kernel cannot do is not begun, and the reason is the outcome.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    rig.steering.refusal = "no more sockets"
    outcomes: list[str] = []
    rig.changes.resize(3).addCallback(outcomes.append)
    assert outcomes == ["no more sockets"]
    assert rig.steering.prepared == [3]
    assert len(rig.fleet.slots) == 2
    assert len(rig.spawner.workers) == 2


def test_slot_that_is_added_again_does_not_inherit_the_end_of_the_former() -> None:
    """
    A removed slot's worker that exits late ends nobody but itself.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    former = rig.worker(1)
    changes = SlotChanges(rig.fleet, WorkerLimits(3, 1.0, 2))
    outcomes: list[str] = []
    changes.resize(1).addCallback(outcomes.append)
    for worker in rig.spawner.workers:
        worker.releases[-1][1].callback(None)
    changes.resize(2).addCallback(outcomes.append)
    rig.ready(1)
    rig.spawner.workers[0].releases[-1][1].callback(None)
    assert outcomes == ["", ""]
    former.died("exited with code 0")
    handoff = rig.deliver(1)
    assert rig.worker(1).sent == [handoff]
    assert rig.reasons() == []


def test_placement_with_a_memory_of_its_own_can_take_the_place_of_the_others() -> None:
    """
    The fleet asks it anew, with the available slots, whenever those change.
    """
    clock, spawner = Clock(), FakeSpawner()
    asked: list[tuple[int, list[int]]] = []

    def place(slots: int, available: Sequence[int]) -> FakePlacement:
        asked.append((slots, list(available)))
        return FakePlacement(1)

    fleet = make_fleet(clock, place=place)
    start(fleet, spawner, 2, 1)
    spawner.workers[0].ready()
    spawner.workers[1].died("exited with code 3")
    assert asked == [(2, [0, 1]), (2, [0])]
    fleet.deliver(Handoff(1, "192.0.2.1", 1, b"key" + bytes([1])))
    assert len(spawner.workers[0].sent) == 1


def test_stop_of_idle_workers_tells_each_its_patience() -> None:
    """
    Workers with nothing on its way are told at once, and the fleet ends with the last.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    fired = rig.stop(10.0)
    assert [worker.stopped for worker in rig.spawner.workers] == [[10.0], [10.0]]
    rig.worker(1).died("exited with code 0")
    assert not fired
    rig.worker(0).died("exited with code 0")
    assert fired == [None]
    assert not rig.clock.getDelayedCalls()


def test_stop_waits_until_what_was_accepted_is_taken() -> None:
    """
    A worker is told to stop only after it has taken all that was accepted for its slot,
    and then has what is left of the time.
    """
    rig = Rig(count=1)
    rig.ready(0)
    worker = rig.worker(0)
    worker.window = 1
    handoffs = [rig.deliver(0), rig.deliver(0)]
    fired = rig.stop(10.0)
    assert not worker.stopped
    rig.clock.advance(4)
    worker.acknowledge()
    assert not worker.stopped
    worker.acknowledge()
    assert worker.stopped == [6.0]
    assert worker.sent == handoffs
    worker.died("exited with code 0")
    assert fired == [None]
    assert not rig.reasons()


def test_stop_refuses_those_who_wait_where_no_worker_serves() -> None:
    """
    Nobody waits for a worker that will not come: starting, backing off or failed.
    """
    rig = Rig(count=3, most_crashes=2)
    rig.fail(1)
    waiting = [rig.deliver(0), rig.deliver(1)]
    rig.ready(2)
    fired = rig.stop()
    assert rig.reasons() == [(handoff, "the server stops") for handoff in waiting]
    assert rig.worker(0).stopped == [10.0]
    for slot in (0, 2):
        rig.worker(slot).died("exited with code 0")
    assert fired == [None]
    rig.clock.advance(100)
    assert len(rig.spawner.workers) == 3


def test_stop_of_a_fleet_that_failed_is_over_at_once() -> None:
    """
    With no worker left there is nothing to wait for.
    """
    rig = Rig(count=2)
    rig.fail(0)
    rig.fail(1)
    assert rig.stop() == [None]
    assert not rig.clock.getDelayedCalls()


def test_deadline_cuts_off_what_is_not_taken() -> None:
    """
    At the deadline those who wait are refused and the worker is told to end at once.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    stuck = rig.worker(0)
    stuck.window = 1
    handoffs = [rig.deliver(0), rig.deliver(0)]
    fired = rig.stop(10.0)
    rig.worker(1).died("exited with code 0")
    rig.clock.advance(9.9)
    assert not stuck.stopped
    rig.clock.advance(0.2)
    assert stuck.stopped == [0.0]
    assert rig.reasons() == [(handoffs[1], "the server stops")]
    stuck.died("died of signal 9 (SIGKILL)")
    assert rig.reasons()[1:] == [(handoffs[0], "the server stops")]
    assert fired == [None]


def test_worker_that_dies_while_the_fleet_stops_has_a_successor() -> None:
    """
    What a dying worker had not taken is served by the next, though the fleet is stopping.
    """
    rig = Rig(count=1, most_crashes=3)
    rig.ready(0)
    handoff = rig.deliver(0)
    fired = rig.stop(10.0)
    rig.worker(0).died("died of signal 11 (SIGSEGV)")
    rig.clock.advance(0)
    rig.ready(0)
    assert rig.worker(0).sent == [handoff]
    rig.worker(0).acknowledge()
    assert rig.worker(0).stopped == [10.0]
    rig.worker(0).died("exited with code 0")
    assert fired == [None]
    assert len(rig.spawner.workers) == 2


def test_ending_worker_keeps_nobody() -> None:
    """
    What a worker leaves unacknowledged when it ends for good is refused, not forgotten.
    """
    rig = Rig(count=1)
    fired = rig.stop()
    handoff = rig.deliver(0)
    rig.worker(0).died("exited with code 0")
    assert rig.reasons() == [(handoff, "the server stops")]
    assert fired == [None]


@pytest.mark.parametrize("slot", [0, 1])
def test_connection_for_a_slot_that_has_ended_is_refused(slot: int) -> None:
    """
    Nobody is left to wait for a slot that has no worker any more, nor for another slot.
    """
    rig = Rig(count=2, most_crashes=1)
    rig.ready(0, 1)
    replayed = rig.deliver(1)
    rig.stop()
    rig.worker(0).died("exited with code 0")
    rig.worker(1).died("died of signal 9 (SIGKILL)")
    rig.clock.advance(0)
    # The successor that was to serve "replayed" crashes: slot 1 gives up, slot 0 is gone.
    rig.fail(1)
    newcomer = rig.deliver(slot)
    assert rig.reasons() == [(replayed, "the server stops"), (newcomer, "the server stops")]


def test_stop_before_start_is_over_at_once() -> None:
    """
    A fleet that never started has nothing to end.
    """
    clock = Clock()
    fleet = make_fleet(clock)
    fired: list[None] = []
    fleet.stop(10.0).addCallback(fired.append)
    assert fired == [None]
    assert not clock.getDelayedCalls()


def test_fleet_can_be_started_again() -> None:
    """
    After a stop, a start has a worker in every slot again, and a stop ends those.
    """
    rig = Rig(count=2)
    rig.ready(0, 1)
    rig.stop()
    for slot in (0, 1):
        rig.worker(slot).died("exited with code 0")
    start(rig.fleet, rig.spawner, 2, 1)
    rig.ready(0, 1)
    handoff = rig.deliver(1)
    assert rig.worker(1).sent == [handoff]
    rig.worker(1).acknowledge()
    fired = rig.stop(5.0)
    assert [worker.stopped for worker in rig.spawner.workers] == [[10.0], [10.0], [5.0], [5.0]]
    for slot in (0, 1):
        rig.worker(slot).died("exited with code 0")
    assert fired == [None]

"""
Slots: which connections wait, for how long, and what becomes of them.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from stickyd.fleet.slot import MOST_REFUSALS, PROGRESS_SECONDS, QueueLimits, Slot
from stickyd.handoff.frame import Flag, Handoff
from stickyd.interfaces import IDestination
from stickyd.testing import FakeRefusal, FakeSpawner, FakeWorker


class Rig:
    """
    A slot among fakes.
    """

    def __init__(self, length: int = 3, patience: float = 10.0) -> None:
        self.clock = Clock()
        self.refusal = FakeRefusal()
        self.slot = Slot(4, self.clock, QueueLimits(length, patience), self.refusal)
        self.numbers = 0

    def worker(self, window: int = 64) -> FakeWorker:
        """
        A worker that occupies the slot.
        """
        worker = FakeSpawner().spawn(self.slot, lambda: None, lambda _: None)
        worker.window = window
        self.slot.occupy(worker)
        return worker

    def deliver(self, count: int) -> list[Handoff]:
        """
        Deliver so many new connections.
        """
        handoffs = []
        for _ in range(count):
            self.numbers += 1
            handoffs.append(Handoff(self.numbers, "192.0.2.1", self.numbers, b"key"))
            self.slot.deliver(handoffs[-1])
        return handoffs

    def is_pressed(self) -> bool:
        """
        Whether no more should be given back for a moment.
        """
        return self.slot.pressed

    def refused(self) -> list[tuple[int, str]]:
        """
        Descriptors of those refused, and why.
        """
        return [(handoff.descriptor, why) for handoff, why in self.refusal.refused]


def test_slot_is_a_destination() -> None:
    """
    A slot takes handoffs.
    """
    assert verifyObject(IDestination, Rig().slot)


def test_connection_goes_straight_to_the_worker() -> None:
    """
    With a worker that has room, nothing waits.
    """
    rig = Rig()
    worker = rig.worker()
    handoffs = rig.deliver(2)
    assert worker.sent == handoffs
    assert not rig.slot.queue


def test_connections_wait_for_the_first_worker_in_their_order() -> None:
    """
    What came before there was a worker is sent to it first, oldest first.
    """
    rig = Rig()
    handoffs = rig.deliver(3)
    assert rig.worker().sent == handoffs


def test_newcomer_does_not_overtake_those_who_wait() -> None:
    """
    As long as someone waits, the next one waits behind it, whatever the window.
    """
    rig = Rig()
    worker = rig.worker(window=1)
    first, second = rig.deliver(2)
    worker.window = 2
    third = rig.deliver(1)[0]
    assert worker.sent == [first]
    worker.acknowledge()
    assert worker.sent == [first, second, third]


def test_full_queue_refuses_the_newcomer() -> None:
    """
    Past the limit the newcomer is refused, not one of those who wait.
    """
    rig = Rig(length=2)
    rig.deliver(3)
    assert rig.refused() == [(3, "the queue of slot 4 is full")]
    assert [h.descriptor for h in rig.slot.queue] == [1, 2]


def test_waiting_ends_at_its_deadline() -> None:
    """
    Each waits as long as the limit says from when it came, no longer.
    """
    rig = Rig(patience=10.0)
    rig.deliver(1)
    rig.clock.advance(4)
    rig.deliver(1)
    rig.clock.advance(6)
    assert rig.refused() == [(1, "no worker of slot 4 took it within 10 s")]
    rig.clock.advance(3.9)
    assert len(rig.refused()) == 1
    rig.clock.advance(0.2)
    assert [descriptor for descriptor, _ in rig.refused()] == [1, 2]
    assert not rig.clock.getDelayedCalls()


def test_unacknowledged_go_before_those_who_wait() -> None:
    """
    When a worker dies, what it had not acknowledged is served first by the next one, and
    the queue's limit does not apply to it.
    """
    rig = Rig(length=1)
    worker = rig.worker(window=2)
    handoffs = rig.deliver(3)
    rig.slot.vacate(worker.reclaim())
    assert rig.worker().sent == handoffs
    assert not rig.refused()


def test_replayed_connection_keeps_its_first_deadline() -> None:
    """
    Dying workers do not make a connection wait for ever.
    """
    rig = Rig(patience=10.0)
    rig.deliver(1)
    worker = rig.worker()
    rig.clock.advance(9)
    rig.slot.vacate(worker.reclaim())
    rig.clock.advance(1)
    assert len(rig.refused()) == 1


def test_returned_connection_is_sent_again_but_not_for_ever() -> None:
    """
    One that the worker could not receive goes first in the queue, a bounded number of times.
    """
    rig = Rig()
    rig.worker(window=0)
    handoff = Handoff(9, "192.0.2.1", 1, b"key")
    handoff.refusals = MOST_REFUSALS
    rig.deliver(1)
    rig.slot.returned(handoff)
    assert rig.slot.queue[0] is handoff
    rig.slot.queue.popleft()
    handoff.refusals += 1
    rig.slot.returned(handoff)
    assert rig.refused() == [(9, "the worker of slot 4 has no descriptor free for it")]


def test_settled_when_nothing_waits_and_nothing_is_under_way() -> None:
    """
    The slot says once that all it was given is acknowledged.
    """
    rig = Rig()
    worker = rig.worker(window=1)
    rig.deliver(2)
    calls: list[bool] = []
    rig.slot.when_settled(lambda: calls.append(True))
    worker.acknowledge()
    assert not calls
    worker.acknowledge()
    assert calls == [True]
    worker.acknowledge()
    assert calls == [True]


def test_settled_at_once_when_idle() -> None:
    """
    A slot with nothing to do is settled when asked.
    """
    calls: list[bool] = []
    Rig().slot.when_settled(lambda: calls.append(True))
    assert calls == [True]


def test_settled_when_the_last_one_expired() -> None:
    """
    Waiting that ends in a refusal settles the slot too.
    """
    rig = Rig(patience=1.0)
    rig.deliver(1)
    calls: list[bool] = []
    rig.slot.when_settled(lambda: calls.append(True))
    rig.clock.advance(1)
    assert calls == [True]


def test_release_gives_up_all_that_waits() -> None:
    """
    Released connections are the caller's, in their order, and no longer expire.
    """
    rig = Rig(patience=1.0)
    handoffs = rig.deliver(2)
    assert rig.slot.release() == handoffs
    rig.clock.advance(2)
    assert not rig.refused()


def given_back(number: int) -> Handoff:
    """
    A connection that a worker has given back.
    """
    return Handoff(number, "192.0.2.1", number, b"key", flags=Flag.SERVED)


def test_fault_15_what_is_given_back_to_a_stuck_slot_is_bounded_too() -> None:
    """
    Fault 15: where no worker takes anything, connections that workers give back find the same
    bound as newcomers.
    """
    rig = Rig(length=2)
    rig.worker(window=0)
    for number in range(5):
        rig.slot.deliver(given_back(number))
    assert [descriptor for descriptor, _ in rig.refused()] == [2, 3, 4]


def test_fault_15_no_slot_takes_more_than_it_leaves() -> None:
    """
    Fault 15: of the places that all slots share, one takes half, the next half of the rest;
    newcomers and those given back alike.
    """
    together, waiting = 20, 0
    refusal, clock = FakeRefusal(), Clock()
    slots: list[Slot] = []
    for index in range(3):
        slots.append(
            Slot(
                *(index, clock, QueueLimits(1000, 10.0), refusal),
                free=lambda: together - sum(len(slot.queue) for slot in slots),
            )
        )
    for slot in slots:
        for number in range(50):
            waiting += 1
            slot.deliver(given_back(number) if number % 2 else Handoff(number, "", 0, b""))
    assert [len(slot.queue) for slot in slots] == [10, 5, 3]
    assert len(refusal.refused) == waiting - 18
    assert {why.partition(";")[0] for _, why in refusal.refused} == {
        f"the queue of slot {index} has its share of the descriptors" for index in range(3)
    }


def test_fault_15_nothing_that_is_given_back_is_refused_while_a_successor_takes_over() -> None:
    """
    Fault 15: while a slot is held for its successor, and while that works the queue off, the
    limit of the queue refuses nothing that was given back, and asks for less to come.
    """
    rig = Rig(length=4)
    worker = rig.worker()
    rig.slot.hold(worker)
    assert not rig.is_pressed()
    for number in range(10):
        rig.slot.deliver(given_back(number))
    assert rig.is_pressed()
    worker.window = 1
    rig.slot.occupy(worker)
    rig.slot.deliver(given_back(10))
    assert rig.refused() == []
    rig.clock.advance(PROGRESS_SECONDS)
    assert not rig.is_pressed()
    rig.slot.deliver(given_back(11))
    assert [descriptor for descriptor, _ in rig.refused()] == [11]
    worker.acknowledge()
    assert rig.is_pressed()


def test_fault_15_refused_newcomer_while_a_successor_takes_over() -> None:
    """
    Fault 15: newcomers find the limit of the queue in any case.
    """
    rig = Rig(length=2)
    rig.slot.hold(rig.worker())
    rig.deliver(3)
    assert len(rig.refused()) == 1

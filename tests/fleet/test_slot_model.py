"""
A slot, its workers' lives and real handoff channels, in any order of events.

The model knows where every connection must be.  Each carries its number to be read once:
so one that were served twice, or under another's header, would be seen.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from stickyd.figures.worker_figures import WorkerFigures
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.interfaces import IWorker
from stickyd.fleet.restarts import Restarts
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_services import ISpawner
from stickyd.fleet.slot_workers import SlotWorkers
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.handoff.fd_passing import channel_pair
from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IHandoffReceiver, IRefusal
from tests.channels import End, connection, no_descriptor_free, open_sockets
from tests.fleet.fleets import make_fleet

LENGTH = 6
PATIENCE = 10.0
MOST_CRASHES = 3


@implementer(IRefusal)
class Refusal:
    """
    Closes, and remembers whom.
    """

    def __init__(self) -> None:
        self.refused: list[int] = []

    def refuse(self, handoff: Handoff, why: str) -> None:
        self.refused.append(int(handoff.host))
        os.close(handoff.descriptor)


@implementer(IWorker, IHandoffReceiver)
class Worker:
    """
    A worker without a process, on a real channel.

    :ivar served: numbers of the connections that it took, in order.
    """

    def __init__(self, model: Model, slot: Slot, ready: object, died: object) -> None:
        self.pid = 1000 + len(model.workers)
        self.tell_ready = ready
        self.tell_died = died
        self.slot = slot
        self.served: list[int] = []
        self.open: list[int] = []
        self.lives = True
        self.last_words = ""
        self.figures = WorkerFigures()
        self.seconds_left: float | None = None
        self.silent_seconds = 0.0
        self.is_ready = False
        self.is_buried = False
        self.is_reclaimed = False
        self.load = 0
        self.generation = slot.generation
        self.generation_name = ""
        self.knows_clients = False
        self.memory = 0.0
        ours, theirs = channel_pair()
        self.primary = End(ours, 8)
        self.primary.channel._receiver = self
        self.primary.channel.open()
        self.end = End(theirs, 4)
        self.end.receiver.received = self.take  # type: ignore[method-assign]

    def look(self, what: str) -> Deferred[str]:
        """
        Nobody asks.
        """
        return succeed("{}")

    def dump_stacks(self, heard: Callable[[str], object]) -> Callable[[], None]:
        """
        Nobody asks.
        """
        return lambda: None

    def take(self, handoff: Handoff) -> None:
        """
        Serve a connection: read what stands in it, which must be its own number.
        """
        assert os.read(handoff.descriptor, 100) == handoff.host.encode()
        self.served.append(int(handoff.host))
        self.open.append(handoff.descriptor)

    def die(self) -> None:
        """
        End as a process does: all its descriptors are closed.
        """
        self.lives = False
        for handoff in self.end.channel._untold:
            os.close(handoff.descriptor)
        for descriptor in self.open:
            os.close(descriptor)
        self.open.clear()
        self.end.die()

    # IWorker

    @property
    def in_flight(self) -> list[Handoff]:
        return list(self.primary.channel.in_flight)

    def send(self, handoff: Handoff) -> bool:
        return self.primary.channel.send(handoff)

    def reclaim(self) -> list[Handoff]:
        self.is_reclaimed = True
        return self.primary.channel.reclaim()

    def release(self, placement: object) -> Deferred[None]:
        raise AssertionError("nothing was given away")

    def ask_for_app_figures(self) -> Deferred[object]:
        raise AssertionError("nobody looks at figures")

    def count(self) -> None:
        """
        It has none.
        """

    def verify_also(self, secrets: Sequence[bytes]) -> Deferred[None]:
        raise AssertionError("no secrets here")

    def stay(self) -> None:
        raise AssertionError("the model has no reloads")

    def entrust(self, listener: Handoff) -> None:
        raise AssertionError("the model has no listeners")

    def accept(self) -> None:
        raise AssertionError("the model has no listeners")

    def keep(self, placement: object) -> Deferred[None]:
        """
        It knows nobody.
        """
        raise AssertionError("it knows nobody")

    def serve_beside(self, queue: object) -> None:
        """
        It never keeps anybody.
        """

    def tell_places(self, slots: int, available: Sequence[int]) -> None:
        # The model has one slot, which may have failed and be available again.
        assert (slots, list(available)) == (1, [0])

    def adopt_sessions(self, chunk: bytes) -> Deferred[None]:
        raise AssertionError("there are no sessions")

    @property
    def quiet(self) -> bool:
        raise AssertionError("the primary does not replace itself")

    def dump_state(self) -> dict[str, object]:
        raise AssertionError("the primary does not replace itself")

    def reopen_log(self) -> None:
        raise AssertionError("nobody asks for that here")

    def kill(self) -> None:
        raise AssertionError("nobody asks for that here")

    def stop(self, patience: float) -> None:
        if self.lives and self.is_ready:
            self.end.window = 0
            self.end.channel.announce()

    # IHandoffReceiver

    def received(self, handoff: Handoff) -> None:
        raise AssertionError("nothing was passed back")

    def returned(self, handoff: Handoff) -> None:
        self.slot.returned(handoff)

    def room(self) -> None:
        self.slot.room()

    def starved(self) -> None:
        raise AssertionError("nothing was passed back")

    def lost(self) -> None:
        """
        As in the primary: the end of the process is what counts.
        """

    def broken(self, problem: str) -> None:
        raise AssertionError(problem)


@implementer(ISpawner)
class Model(RuleBasedStateMachine):
    """
    What may happen, and what must be true whatever has happened.
    """

    spare = False

    def __init__(self) -> None:
        super().__init__()
        self.before = open_sockets()
        self.clock = Clock()
        self.refusal = Refusal()
        self.workers: list[Worker] = []
        self.clients: list[socket.socket] = []
        self.nacked: set[int] = set()
        self.waits_since: dict[int, float] = {}
        self.stopped: list[None] = []
        self.stopping = False
        self.fleet = make_fleet(
            self.clock, queue=QueueLimits(LENGTH, PATIENCE), refusal=self.refusal
        )
        self.fleet.start(1, self.make_workers)
        (self.slot,) = self.fleet.slots

    def make_workers(self, slot: Slot) -> SlotWorkers:
        """
        Equip the slot.
        """
        limits = WorkerLimits(MOST_CRASHES, 300.0, 2)
        return SlotWorkers(
            slot,
            self.clock,
            self,
            Restarts(self.clock, Backoff(1.0, 8.0, lambda: 1.0), limits),
            limits,
            self.fleet.availability_changed,
            self.fleet.ended,
            self.fleet.table.keepers,
        )

    def spawn(self, slot: Slot, ready: object, died: object) -> Worker:
        """
        Make a worker; see :class:`ISpawner`.
        """
        assert all(worker.is_buried for worker in self.workers)
        self.workers.append(Worker(self, slot, ready, died))
        return self.workers[-1]

    def call_when_spare(self, call: object) -> None:
        """
        There are no spares; see :class:`ISpawner`.
        """

    def restore(self, slot: Slot, ready: object, died: object, plain: object) -> Worker:
        """
        Nothing is resumed here; see :class:`ISpawner`.
        """
        raise AssertionError("there was no former primary")

    @property
    def worker(self) -> Worker:
        """
        The latest worker.
        """
        return self.workers[-1]

    # what happens

    @rule(count=st.integers(1, 4))
    def clients_connect(self, count: int) -> None:
        """
        Connections are accepted.
        """
        for _ in range(count):
            handoff, client = connection(str(len(self.clients)))
            handoff.key = b"\0"
            self.clients.append(client)
            self.fleet.deliver(handoff)

    @precondition(lambda self: self.worker.lives and not self.worker.is_ready)
    @rule()
    def worker_gets_ready(self) -> None:
        """
        It announces its window, and the primary hears that it serves.
        """
        self.worker.is_ready = True
        self.worker.end.channel.open()
        self.worker.tell_ready()  # type: ignore[operator]

    @precondition(lambda self: self.worker.lives and self.worker.is_ready)
    @rule()
    def worker_reads(self) -> None:
        """
        It takes and acknowledges what has come.
        """
        self.worker.end.turn()

    @precondition(lambda self: self.worker.lives and self.worker.is_ready)
    @rule()
    def worker_reads_without_a_free_descriptor(self) -> None:
        """
        It refuses what has come.
        """
        with no_descriptor_free():
            self.worker.end.turn()

    @precondition(lambda self: self.worker.lives and self.worker.is_ready)
    @rule(window=st.integers(0, 6))
    def worker_changes_its_window(self, window: int) -> None:
        """
        It has more or less room.
        """
        self.worker.end.window = window
        self.worker.end.channel.announce()

    @precondition(lambda self: not self.worker.is_buried)
    @rule()
    def primary_reads(self) -> None:
        """
        It hears acknowledgements, refusals and the end of the channel.
        """
        self.worker.primary.turn()

    @precondition(lambda self: self.worker.lives)
    @rule()
    def worker_dies(self) -> None:
        """
        Its process ends; the primary has not heard of it yet.
        """
        self.worker.die()

    @precondition(lambda self: not self.worker.lives and not self.worker.is_buried)
    @rule()
    def primary_hears_of_the_death(self) -> None:
        """
        The end of the process is told.
        """
        self.worker.is_buried = True
        self.worker.tell_died("died of signal 9 (SIGKILL)")  # type: ignore[operator]

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        """
        Back-off and deadlines run: nobody waits for longer than the limit says, from when
        it first waited.
        """
        self.clock.advance(seconds)
        for number in self.waiting():
            since = self.waits_since.setdefault(number, self.clock.seconds())
            assert self.clock.seconds() - since < PATIENCE
        for worker in self.workers:
            worker.primary.clock.advance(seconds)
            worker.end.clock.advance(seconds)

    @precondition(lambda self: len(self.clients) > 6 and not self.stopping)
    @rule(patience=st.sampled_from([0.0, 2.0, 20.0]))
    def primary_stops(self, patience: float) -> None:
        """
        The service is stopped, while clients may still come by an endpoint of one's own.
        """
        self.stopping = True
        self.fleet.stop(patience).addCallback(self.stopped.append)

    # what must be true

    def served(self) -> list[int]:
        """
        Who was served, by whichever worker, in order.
        """
        return [number for worker in self.workers for number in worker.served]

    def waiting(self) -> list[int]:
        """
        Who waits, in order.
        """
        return [int(handoff.host) for handoff in self.slot.queue]

    def in_flight(self) -> list[int]:
        """
        Which clients are on their way, as far as the primary knows.
        """
        return [int(handoff.host) for handoff in self.worker.in_flight]

    @invariant()
    def nobody_is_served_twice(self) -> None:
        """
        Whoever was served is never served, refused or made to wait again.
        """
        served = self.served()
        assert len(set(served)) == len(served)
        assert not set(served) & set(self.refusal.refused)
        assert not set(served) & set(self.waiting())

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """
        Each is exactly one of waiting, under way and refused, or else served.
        """
        held = [*self.waiting(), *self.in_flight(), *self.refusal.refused]
        assert len(set(held)) == len(held)
        gone = set(range(len(self.clients))) - set(held)
        assert gone <= set(self.served())
        # Whose acknowledgement is not read yet was served by the worker of now.
        assert set(self.served()) - gone <= set(self.worker.served)

    @invariant()
    def order_is_kept(self) -> None:
        """
        Nobody overtakes another, but for those whom a worker without descriptors refused.
        """
        for handoff in (*self.slot.queue, *self.worker.in_flight):
            if handoff.refusals:
                self.nacked.add(int(handoff.host))
        for line in (self.served(), [*self.in_flight(), *self.waiting()]):
            straight = [number for number in line if number not in self.nacked]
            assert straight == sorted(straight)

    @invariant()
    def beginnings_are_noted(self) -> None:
        """
        From when each waits, for :meth:`time_passes`.
        """
        for number in self.waiting():
            self.waits_since.setdefault(number, self.clock.seconds())

    @invariant()
    def no_descriptor_leaks(self) -> None:
        """
        What is open is what the model says: each connection once where it is held.
        """
        expected = len(self.clients) + len(self.slot.queue)
        for worker in self.workers:
            if not worker.is_reclaimed:
                expected += 1 + len(worker.in_flight)
            if worker.lives:
                expected += 1 + len(worker.open) + len(worker.end.channel._untold)
        assert len(open_sockets()) - len(self.before) == expected

    @invariant()
    def refused_clients_know(self) -> None:
        """
        A refused connection is closed in every process: its client sees the hang-up.
        """
        hangups = select.poll()
        for number in self.refusal.refused:
            hangups.register(self.clients[number], 0)
        assert len(hangups.poll(0)) == len(self.refusal.refused)

    def teardown(self) -> None:
        """
        Come to an end: everybody is served or refused, and everything is closed.
        """
        if not self.stopping:
            self.primary_stops(1.0)
        for _ in range(10):
            if self.worker.lives:
                self.worker.die()
            if not self.worker.is_buried:
                self.primary_hears_of_the_death()
            self.time_passes(20.0)
            if self.stopped:
                break
        try:
            assert self.stopped == [None]
            assert not self.clock.getDelayedCalls()
            assert sorted(self.served() + self.refusal.refused) == list(range(len(self.clients)))
            assert len(open_sockets()) == len(self.before) + len(self.clients)
        finally:
            self.close()

    def close(self) -> None:
        """
        Leave nothing to the next example, whatever this one has leaked.
        """
        for client in self.clients:
            client.close()
        for worker in self.workers:
            worker.primary.socket.close()
            worker.end.socket.close()
        for descriptor in open_sockets() - self.before:
            os.close(descriptor)


def test_slot_keeps_every_connection_through_any_order_of_events() -> None:
    """
    Whatever happens in whatever order, every connection is served once or refused, none
    leaks, and none waits for longer than it may.
    """
    run_state_machine_as_test(
        Model, settings=settings(max_examples=250, stateful_step_count=50, deadline=None)
    )


def waiting_slot(clock: Clock, *deadlines: float) -> tuple[Slot, Refusal, list[socket.socket]]:
    """
    A slot without a worker, in which connections wait until those deadlines.
    """
    refusal = Refusal()
    slot = Slot(0, clock, QueueLimits(LENGTH, PATIENCE), refusal)
    clients = []
    for number, deadline in enumerate(deadlines):
        handoff, client = connection(str(number))
        handoff.deadline = deadline
        clients.append(client)
        slot.deliver(handoff)
    return slot, refusal, clients


def test_those_put_first_do_not_prolong_the_waiting_of_others() -> None:
    """
    A connection that comes back unread at the ninth second does not let the one behind it
    wait until the nineteenth.
    """
    clock = Clock()
    slot, refusal, clients = waiting_slot(clock, 0.0)
    clock.advance(9)
    returned, client = connection("9")
    slot.vacate([returned])
    clock.advance(1)
    assert refusal.refused == [9, 0]
    assert not clock.getDelayedCalls()
    for end in (*clients, client):
        end.close()


def test_those_put_first_expire_when_they_are_due() -> None:
    """
    One that had waited before, and is due before all who wait, is not kept until they are.
    """
    clock = Clock()
    slot, refusal, clients = waiting_slot(clock, 8.0)
    returned, client = connection("9")
    returned.deadline = 5.0
    slot.vacate([returned])
    clock.advance(5)
    assert refusal.refused == [9]
    clock.advance(3)
    assert refusal.refused == [9, 0]
    for end in (*clients, client):
        end.close()

"""
A whole fleet that changes while it serves: reloads, resizes, drains, spares, deaths and
shortages in any order.

Everything is real but for the processes: slots, lifecycles, changes, spawner and recycling
on the primary's side, channels of both kinds, and on the workers' side all that serves
HTTP.  The kernel is the judge: a client's socket hangs up when the last copy of its other
end is closed, wherever that was, and not before.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from stickyd.fleet.backoff import Backoff
from stickyd.fleet.process.recycle import Recycling
from stickyd.fleet.process.spawner import Spawner
from stickyd.fleet.restarts import Restarts
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_changes import SlotChanges
from stickyd.fleet.slot_workers import SlotWorkers
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.messaging.hub import BusHub
from stickyd.placement.rendezvous import Rendezvous
from stickyd.settings import Settings
from tests.channels import no_descriptor_free, open_sockets
from tests.fleet.clients import Client, Clients, Failures, Refusal
from tests.fleet.fleets import make_fleet, make_launcher
from tests.fleet_workers import KILLED, WINDOW, Child, Primary, inode

LENGTH = 12
PATIENCE = 60.0
MOST_CRASHES = 3
MOST_REQUESTS = 1000
MOST_SLOTS = 4
#: Chooses one of several.
WHICH = st.integers(0, 11)

#: Chooses a worker: by what it is to a slot, and then by the slot.
WHO = st.tuples(st.sampled_from(["worker", "worker", "successor", "leaving", "spare"]), WHICH)


class FleetModel(RuleBasedStateMachine):
    """
    What may happen, and what must be true whatever has happened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures = Failures()
        globalLogPublisher.addObserver(self.failures)
        self.before = open_sockets()
        self.clients = Clients()
        self.stopped: list[object] = []
        self.stopping = False
        self.changes_made: list[tuple[str, Deferred[Any]]] = []
        self.primary = Primary(self.clients.began, self.over)
        # No time is 0.0, which says "has not waited".
        self.primary.advance(1)

    @initialize(
        spares=st.integers(0, 1),
        slots=st.sampled_from([1, 1, 2, 3]),
        scene=st.sampled_from(["start", "calm", "calm", "switch", "switch", "move"]),
        mode=st.sampled_from(["connection", "client"]),
    )
    def start(self, spares: int, slots: int, scene: str, mode: str) -> None:
        """
        The service starts, and the model begins there or later: where all serve, in the middle of
        a switch-over with a worker that is stuck, or of a move with one that is not there.
        """
        read = Settings.read(
            {
                "spares": spares,
                "start_timeout": 40.0,
                "hang_timeout": 40.0,
                "window": WINDOW,
                "idle_timeout": 1e6,
                "reload_mode": mode,
            }
        )
        queue = QueueLimits(LENGTH, PATIENCE)
        self.fleet = make_fleet(self.primary, Rendezvous, queue, Refusal(self.clients))
        # Who has an open connection is never silent, so keepers stay until their deadline.
        by_client = mode == "client"
        self.limits = WorkerLimits(MOST_CRASHES, 20.0 if by_client else 300.0, 2, 30.0, by_client)
        self.changes = SlotChanges(self.fleet, self.limits)
        self.fleet.keep_clients(self.changes.retire)
        self.spawner = Spawner(
            self.primary,  # type: ignore[arg-type] # as much of a reactor as it uses
            self.primary.readiness,
            make_launcher(self.primary, read),
            self.fleet,
            Backoff(1.0, 8.0, lambda: 1.0),
            Recycling(MOST_REQUESTS, 0, lambda: 0.0, lambda slot: self.changes.reload([slot])),
            BusHub(self.primary, self.primary.readiness),
        )
        self.fleet.start(slots, self.make_workers)
        self.spawner.replenish()
        if scene != "start":
            self.everything_gets_ready()
        if scene == "switch":
            self.clients_connect(3)
            self.everything_runs()
            self.worker_answers(("worker", 0), 0)
            self.operator_changes("reload", 0)
            self.everything_runs()
            self.clients_connect(2)
            if self.primary.starting():
                self.worker_gets_ready(("successor", 0), True)
        elif scene == "move":
            self.worker_dies(("worker", slots - 1), True)
            self.clients_connect(3)
            self.everything_runs()
            self.worker_hangs(("worker", 0))
            self.operator_changes("resize", slots % 3)

    def everything_gets_ready(self) -> None:
        """
        All workers that were started serve.
        """
        self.everything_runs()
        for child in self.primary.starting():
            child.get_ready()
        self.everything_runs()

    def make_workers(self, slot: Slot) -> SlotWorkers:
        """
        Equip a slot.
        """
        return SlotWorkers(
            *(slot, self.primary, self.spawner),
            Restarts(self.primary, Backoff(1.0, 8.0, lambda: 1.0), self.limits),
            self.limits,
            self.changes.availability_changed,
            self.fleet.ended,
            self.fleet.table.keepers,
        )

    # what workers tell

    def over(self, child: Child) -> None:
        """
        A process is about to end: with it end those whom it has acknowledged, but for those
        who are on their way back already.
        """
        held = {inode(descriptor) for descriptor in child.descriptors} - child.spared()
        members = list(self.fleet.table.all_members())
        if any(child.pid in member.workers.cut_short for member in members):
            # What it could not give away has no more time, though nobody killed it.
            for client in self.clients:
                if client.inode in held:
                    client.may_end = client.may_end or f"too many besides {child.pid} were relieved"
        for client in self.clients:
            if client.inode in held and child.how is KILLED:
                client.died_with = child
                client.may_end = client.may_end or f"its worker {child.pid} died"

    # candidates

    def some(self, children: list[Child], who: tuple[str, int]) -> Child:
        """
        One of them, of that part if there is one.
        """
        part, which = who
        parts: dict[object, str] = {}
        for member in list(self.fleet.table.all_members()):
            parts[member.workers.worker] = "worker"
            parts[member.workers.successor] = "successor"
            parts.update((worker, "leaving") for worker in member.workers.leaving)
        fitting = [child for child in children if parts.get(child.process, "spare") == part]
        return (fitting or children)[which % len(fitting or children)]

    # what clients do

    @rule(count=st.integers(1, 4))
    def clients_connect(self, count: int) -> None:
        """
        Connections are accepted.
        """
        for _ in range(count):
            client = Client(len(self.clients))
            client.may_end = "the server stops" if self.stopping else ""
            self.clients.append(client)
            self.fleet.deliver(client.handoff)

    @precondition(lambda self: self.clients.open())
    @rule(which=WHICH)
    def client_asks_again(self, which: int) -> None:
        """
        A request comes on a connection that has seen one.
        """
        clients = self.clients.open()
        clients[-1 - which % len(clients)].ask()

    # what workers do

    @precondition(lambda self: self.primary.starting())
    @rule(who=WHO, others_hang=st.booleans())
    def worker_gets_ready(self, who: tuple[str, int], others_hang: bool) -> None:
        """
        The application is loaded, and the primary hears of it; who is to give away then is
        perhaps in the middle of something long.
        """
        child = self.some(self.primary.starting(), who)
        if others_hang:
            for other in self.primary.children:
                other.hung = other is not child and other.is_served
        child.get_ready()
        while self.primary.read_control(child) | child.read_control():
            pass

    @precondition(lambda self: self.primary.living())
    @rule(who=WHO, starved=st.sampled_from([False, False, False, True]))
    def worker_turns(self, who: tuple[str, int], starved: bool) -> None:
        """
        It reads what came on its handoff channel and from its clients; perhaps it cannot
        receive what is sent, for want of a free descriptor.
        """
        self.some(self.primary.living(), who).turn(starved)

    @precondition(lambda self: self.primary.living())
    @rule(who=WHO)
    def worker_hears(self, who: tuple[str, int]) -> None:
        """
        It reads what came on its control channel.
        """
        self.some(self.primary.living(), who).read_control()

    @precondition(lambda self: any(child.requests for child in self.primary.living()))
    @rule(who=WHO, index=WHICH)
    def worker_answers(self, who: tuple[str, int], index: int) -> None:
        """
        A request is finished.
        """
        self.some([child for child in self.primary.living() if child.requests], who).finish(index)

    @precondition(lambda self: self.primary.living())
    @rule(who=WHO)
    def worker_hangs(self, who: tuple[str, int]) -> None:
        """
        Its reactor does not turn any more.
        """
        self.some(self.primary.living(), who).hung = True

    @precondition(lambda self: any(c.alive and c.hung for c in self.primary.children))
    @rule()
    def hung_workers_go_on(self) -> None:
        """
        They were only busy.
        """
        for child in self.primary.children:
            child.hung = False

    @precondition(lambda self: any(child.alive for child in self.primary.children))
    @rule(who=WHO, noticed=st.booleans())
    def worker_dies(self, who: tuple[str, int], noticed: bool) -> None:
        """
        Its process is killed, which the primary hears at once or later.
        """
        child = self.some([child for child in self.primary.children if child.alive], who)
        child.die(KILLED)
        if noticed:
            self.primary.reap(child)

    @precondition(lambda self: self.primary.living())
    @rule(
        who=WHO,
        what=st.sampled_from(["cannot start", "told to end", "has answered many", "window"]),
        window=st.integers(0, WINDOW),
    )
    def something_else_happens(self, who: tuple[str, int], what: str, window: int) -> None:
        """
        What comes about less often: its application cannot be loaded, somebody sends it
        SIGTERM, it is past ``--max-requests``, or it has more or less room.
        """
        child = self.some(self.primary.living(), who)
        if what == "told to end":
            child.ask_to_leave()
        elif what == "has answered many":
            child.extra_requests = 2 * MOST_REQUESTS
        elif what == "window":
            child.change_window(window)
        elif child.answer is not None:
            child.refuse_to_start()

    # what the primary does

    @precondition(lambda self: self.primary.readable())
    @rule(which=WHICH, starved=st.sampled_from([False, False, False, True]))
    def primary_reads(self, which: int, starved: bool) -> None:
        """
        It reads a handoff channel; perhaps it has no descriptor free for what comes back.
        """
        readable = self.primary.readable()
        with no_descriptor_free() if starved else nullcontext():
            self.primary.read(readable[which % len(readable)])

    @precondition(lambda self: any(c.their_end is not None for c in self.primary.children))
    @rule(who=WHO)
    def primary_hears(self, who: tuple[str, int]) -> None:
        """
        It reads a control channel.
        """
        children = [child for child in self.primary.children if child.their_end is not None]
        self.primary.read_control(self.some(children, who))

    @precondition(lambda self: self.primary.dead())
    @rule(who=WHO)
    def primary_hears_of_the_death(self, who: tuple[str, int]) -> None:
        """
        The end of a process is told.
        """
        self.primary.reap(self.some(self.primary.dead(), who))

    @rule(what=st.sampled_from(["fork fails", "client leaves", "spares are renewed"]))
    def something_small_happens(self, what: str) -> None:
        """
        The machine has no room for the next process, a client sends no more, or new settings
        replace the spares.
        """
        if what == "fork fails":
            self.primary.fork_fails = True
        elif what == "spares are renewed":
            if not self.stopping:
                self.spawner.renew(self.spawner.spec)
        elif self.clients.open():
            self.clients.open()[0].leave()

    @rule(seconds=st.sampled_from([0.0, 0.06, 1.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        """
        Deadlines come, and hearts beat.  In a second all arrives that is under way, but for
        what somebody who hangs would have to send or to read.
        """
        if seconds >= 1.0:
            self.advance(0.1)
            self.everything_runs()
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """
        Have it that much later for everybody.
        """
        self.primary.advance(seconds)
        for child in self.primary.children:
            child.advance(seconds)

    @rule()
    def everything_runs(self) -> None:
        """
        All that is under way arrives, on both channels, in both directions.
        """
        for _ in range(200):
            self.primary.advance(0)
            busy = self.primary.write()
            for descriptor in self.primary.readable():
                if descriptor in self.primary.readiness.readers:
                    self.primary.read(descriptor)
                    busy = True
            for child in self.primary.children:
                if child.their_end is not None:
                    busy |= self.primary.read_control(child)
                if child.alive and not child.hung:
                    busy |= child.read_control()
                if child.alive and not child.hung:
                    busy |= child.turn()
            if not busy:
                return
        raise AssertionError("it never comes to rest")

    # what operators do

    def changed(self, what: str, done: Deferred[Any]) -> None:
        """
        Keep what a change gives, to see that it comes to an end.
        """
        self.changes_made.append((what, done))

    @precondition(lambda self: not self.stopping)
    @rule(
        what=st.sampled_from(["reload", "go_back", "reload all", "resize", "drain", "undrain"]),
        number=st.integers(0, MOST_SLOTS - 1),
    )
    def operator_changes(self, what: str, number: int) -> None:
        """
        One worker is replaced, perhaps by the former one, or all; there shall be more slots, or
        fewer; a slot shall have no clients, or again.
        """
        changes, index = self.changes, number % len(self.fleet.table.members)
        if what in ("reload", "go_back"):
            done: Deferred[Any] = getattr(changes, what)([index])
        elif what == "reload all":
            done = changes.reload()
        elif what == "resize":
            done = changes.resize(1 + number)
        else:
            done = getattr(changes, what)(index)
        self.changes_made.append((what, done))

    @precondition(lambda self: len(self.clients) > 10 and not self.stopping)
    @rule(patience=st.sampled_from([None, None, None, 0.0, 2.0, 20.0]))
    def primary_stops(self, patience: float | None) -> None:
        """
        The service is stopped; not in every run, as after that nothing is promised.
        """
        if patience is None:
            return
        self.stopping = True
        for client in self.clients:
            client.may_end = client.may_end or "the server stops"
        self.fleet.stop(patience).addCallback(self.stopped.append)
        self.spawner.stop().addCallback(self.stopped.append)

    # what must be true

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """
        No connection is closed without a reason: it was refused, its worker died after it
        had acknowledged it, or its client knows.
        """
        for client in self.clients:
            client.read()
        gone = self.clients.gone()
        assert not [client.number for client in gone if not client.may_end]
        # And the other way: nobody is delivered again who was refused, or whom a worker had
        # acknowledged that died, as soon as the primary knows.
        over = [c for c in self.clients if c.is_refused or (c.died_with and c.died_with.reaped)]
        assert not [client.number for client in over if client not in gone]

    @invariant()
    def nothing_fails(self) -> None:
        """
        No error is hidden in the log.
        """
        self.failures.check()

    @invariant()
    def no_descriptor_leaks(self) -> None:
        """
        What is open is what the model says: each connection once where it is held.
        """
        expected = len(self.clients)
        for child in self.primary.children:
            expected += len(child.descriptors)
        if hasattr(self, "fleet"):
            members = list(self.fleet.table.all_members())
            expected += sum(len(member.slot.queue) for member in members)
            expected += self.fleet.table.keepers.queued()
            expected += len(self.fleet._held or ())
            for process in self.primary.attempts:
                channel = process.link.channel
                if channel is not None and channel._open:
                    expected += 1 + len(channel.in_flight)
                expected += process._bus is not None and process._bus.is_open
        assert len(open_sockets()) - len(self.before) == expected

    # the end

    def changing(self) -> list[str]:
        """
        The changes that have not come to an end.
        """
        return [what for what, done in self.changes_made if not done.called]

    def calm(self) -> None:
        """
        Nothing bad happens any more for a while.
        """
        quiet = 0
        for _ in range(400):
            quiet = 0 if self.changing() or self.fleet.table.keepers.homes else quiet + 1
            if quiet > 25:
                break
            for child in self.primary.children:
                child.hung = False
                child.extra_requests = 0
                if child.alive and child.window != WINDOW:
                    child.change_window(WINDOW)
            self.everything_gets_ready()
            for child in self.primary.living():
                while child.requests and child.alive:
                    child.finish(0)
            for child in self.primary.dead():
                self.primary.reap(child)
            self.everything_runs()
            self.time_passes(2.0)
        self.everything_runs()

    def teardown(self) -> None:
        """
        Come to an end: everybody is served or refused, and everything is closed.
        """
        try:
            if hasattr(self, "fleet"):
                self.primary.fork_fails = False
                if not self.stopping:
                    self.calm()
                    self.nobody_is_forgotten()
                    self.check_calm()
                    self.primary_stops(5.0)
                self.calm()
                self.check_end()
        finally:
            globalLogPublisher.removeObserver(self.failures)
            self.close()

    def check_calm(self) -> None:
        """
        Every change has come to an end, and every connection is where it belongs.
        """
        assert not self.changing()
        available = self.fleet.table.available_slots()
        for member in self.fleet.table.members:
            assert not member.workers.leaving
            assert member.slot.failed or member.slot.worker is member.workers.worker
        where: dict[int, list[Child]] = {}
        for child in self.primary.living():
            for descriptor in child.descriptors:
                where.setdefault(inode(descriptor), []).append(child)
        # Nobody is served again whose worker had acknowledged it and died.
        assert self.clients.gone() == [client for client in self.clients if client.may_end]
        for client in self.clients:
            if client.may_end:
                continue
            assert client.answered == client.asked, f"client {client.number} waits"
            (child,) = where[client.inode]
            assert child.process.slot is not None
            assert child.process.slot.index in available

    def check_end(self) -> None:
        """
        Nothing is left.
        """
        assert len(self.stopped) == 2
        assert not [child for child in self.primary.children if child.alive]
        assert not self.changing()
        # A queue's deadline may outlive who waited; nothing lasts longer.
        self.primary.advance(PATIENCE)
        assert not self.primary.getDelayedCalls()
        assert open_sockets() - self.before == {client.end.fileno() for client in self.clients}
        self.failures.check()

    def close(self) -> None:
        """
        Leave nothing to the next example, whatever this one has leaked.
        """
        for child in self.primary.children:
            child.die(KILLED)
        self.primary.forget_attempts()
        for client in self.clients:
            client.end.close()
        for descriptor in open_sockets() - self.before:
            os.close(descriptor)


def run(examples: int) -> None:
    """
    Try so many orders of events.
    """
    tried = settings(max_examples=examples, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(FleetModel, settings=tried)


def test_fleet_keeps_every_connection_through_any_order_of_changes() -> None:
    """
    Whatever happens in whatever order, every connection is served, or refused, or ends with
    the worker that had acknowledged it; none leaks, and every change comes to an end.
    """
    run(100)


@pytest.mark.soak
def test_fleet_keeps_every_connection_through_very_many_orders_of_changes() -> None:
    """
    The same, for what comes about once in a thousand orders of events.
    """
    run(300)

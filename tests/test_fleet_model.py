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
import select
import socket
from typing import TYPE_CHECKING, Any

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
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from stickyd.fleet.backoff import Backoff
from stickyd.fleet.birth import Birth
from stickyd.fleet.life import Life
from stickyd.fleet.recycle import Recycling
from stickyd.fleet.reload import Changes
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.spawn import Spawner
from stickyd.fleet.supervise import Fleet
from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IRefusal
from stickyd.placement.rendezvous import Rendezvous
from stickyd.settings import Settings
from tests.channels import no_descriptor_free, open_sockets
from tests.fleet_workers import KILLED, WINDOW, Child, Primary, inode

if TYPE_CHECKING:
    from twisted.web.http import Request

LENGTH = 12
PATIENCE = 60.0
MOST_CRASHES = 3
MOST_REQUESTS = 1000
MOST_SLOTS = 4

WHICH = st.integers(0, 11)


class Client:
    """
    A client with one keep-alive connection.

    :ivar asked: how many requests it has sent.
    :ivar begun: how many of them a worker has begun to answer.
    :ivar answered: how many answers it has.
    :ivar may_end: why its connection may be closed, or empty.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.host = f"10.0.{number // 256}.{number % 256}"
        self.end, server = socket.socketpair()
        self.end.setblocking(False)
        self.inode = inode(server.fileno())
        self.asked = self.begun = self.answered = 0
        self.may_end = ""
        self.has_left = False
        self._unread = b""
        self.ask()
        self.handoff = Handoff(server.detach(), self.host, number, self.host.encode())

    def ask(self) -> None:
        """
        Send a request.
        """
        self.end.send(b"GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (self.number, self.asked))
        self.asked += 1

    def leave(self) -> None:
        """
        Send no more.
        """
        self.end.shutdown(socket.SHUT_WR)
        self.has_left = True
        self.may_end = self.may_end or "it has left"

    def read(self) -> None:
        """
        Read what came: answers to its own requests, in their order.
        """
        while True:
            try:
                data = self.end.recv(65536)
            except (BlockingIOError, ConnectionResetError):
                break
            if not data:
                break
            self._unread += data
        while b"\r\n\r\n" in self._unread:
            head, _, rest = self._unread.partition(b"\r\n\r\n")
            body = b"/%d/%d" % (self.number, self.answered)
            if len(rest) < len(body):
                break
            assert head.startswith(b"HTTP/1.1 200 ")
            assert rest.startswith(body)
            self._unread = rest[len(body) :]
            self.answered += 1
            if b"connection: close" in head.lower():
                self.may_end = self.may_end or "it was told so"


@implementer(IRefusal)
class Refusal:
    """
    Closes, and notes why.
    """

    def __init__(self, model: FleetModel) -> None:
        self._model = model

    def refuse(self, handoff: Handoff, why: str) -> None:
        self._model.clients[handoff.port].may_end = f"refused: {why}"
        os.close(handoff.descriptor)


@implementer(ILogObserver)
class Failures(list[dict[str, Any]]):
    """
    Keeps what the log has of errors that nobody caught.
    """

    def __call__(self, event: dict[str, Any]) -> None:
        if "log_failure" in event:
            self.append(event)

    def check(self) -> None:
        """
        Fail if there is one.
        """
        assert not self, self[0]["log_failure"].getTraceback()


class FleetModel(RuleBasedStateMachine):
    """
    What may happen, and what must be true whatever has happened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures = Failures()
        globalLogPublisher.addObserver(self.failures)
        self.before = open_sockets()
        self.clients: list[Client] = []
        self.stopped: list[object] = []
        self.stopping = False
        self.changes_made: list[tuple[str, Deferred[Any]]] = []
        self.primary = Primary(self.began, self.over)
        # No time is 0.0, which says "has not waited".
        self.primary.advance(1)

    @initialize(spares=st.integers(0, 1), slots=st.integers(1, 3), ready=st.booleans())
    def start(self, spares: int, slots: int, ready: bool) -> None:
        """
        The service starts.
        """
        read = Settings.read(
            {
                "spares": spares,
                "start_timeout": 40.0,
                "hang_timeout": 40.0,
                "window": WINDOW,
                "idle_timeout": 1e6,
            }
        )
        self.fleet = Fleet(self.primary, Rendezvous, QueueLimits(LENGTH, PATIENCE), Refusal(self))
        self.changes = Changes(self.fleet, lambda: 300.0)
        self.spawner = Spawner(
            self.primary,  # type: ignore[arg-type] # as much of a reactor as it uses
            self.primary.readiness,
            Birth(["worker"], read),
            self.fleet,
            Backoff(1.0, 8.0, lambda: 1.0),
            Recycling(MOST_REQUESTS, 0, lambda: 0.0, lambda slot: self.changes.reload([slot])),
        )
        self.fleet.start(slots, self.make_life)
        self.spawner.replenish()
        if ready:
            self.everything_runs()
            for child in self.primary.children:
                child.get_ready()
            self.everything_runs()

    def make_life(self, slot: Slot) -> Life:
        """
        Equip a slot.
        """
        return Life(
            slot,
            self.primary,
            self.spawner,
            Backoff(1.0, 8.0, lambda: 1.0),
            MOST_CRASHES,
            300.0,
            self.fleet.standing_changed,
            self.fleet.ended,
        )

    # what workers tell

    def began(self, child: Child, request: Request) -> None:
        """
        A worker begins to answer: no request is begun twice, and none is left out.
        """
        number, index = map(int, request.uri.decode().strip("/").split("/"))
        client = self.clients[number]
        assert index == client.begun, f"{number}/{index} where {client.begun} is due"
        client.begun += 1

    def over(self, child: Child) -> None:
        """
        A process is about to end: with it end those whom it has acknowledged, but for those
        who are on their way back already.
        """
        held = {inode(descriptor) for descriptor in child.descriptors} - child.spared()
        for client in self.clients:
            if client.inode in held and child.how is KILLED:
                client.may_end = client.may_end or f"its worker {child.pid} died"

    # candidates

    def living(self) -> list[Child]:
        """
        The processes that run and are not stuck.
        """
        return [child for child in self.primary.children if child.alive and not child.hung]

    def some(self, children: list[Child], which: int) -> Child:
        """
        One of them.
        """
        return children[which % len(children)]

    def starting(self) -> list[Child]:
        """
        Those that could get ready.
        """
        return [child for child in self.living() if child.answer is not None]

    def dead(self) -> list[Child]:
        """
        Those whose end the primary has not heard of.
        """
        return [c for c in self.primary.children if not c.alive and not c.reaped]

    def open_clients(self) -> list[Client]:
        """
        Those who can ask for more.
        """
        return [client for client in self.clients if not client.has_left and not client.may_end]

    # what clients do

    @rule(count=st.integers(1, 4))
    def clients_connect(self, count: int) -> None:
        """
        Connections are accepted.
        """
        for _ in range(count):
            client = Client(len(self.clients))
            self.clients.append(client)
            self.fleet.deliver(client.handoff)

    @precondition(lambda self: self.open_clients())
    @rule(which=WHICH)
    def client_asks_again(self, which: int) -> None:
        """
        A request comes on a connection that has seen one.
        """
        clients = self.open_clients()
        clients[-1 - which % len(clients)].ask()

    @precondition(lambda self: self.open_clients())
    @rule(which=WHICH)
    def client_leaves(self, which: int) -> None:
        """
        It sends no more.
        """
        clients = self.open_clients()
        clients[which % len(clients)].leave()

    # what workers do

    @precondition(lambda self: self.starting())
    @rule(which=WHICH)
    def worker_gets_ready(self, which: int) -> None:
        """
        The application is loaded, and the primary hears of it.
        """
        child = self.some(self.starting(), which)
        child.get_ready()
        while self.primary.read_control(child) | child.read_control():
            pass

    @precondition(lambda self: self.starting())
    @rule(which=WHICH)
    def worker_cannot_start(self, which: int) -> None:
        """
        The application cannot be loaded.
        """
        self.some(self.starting(), which).refuse_to_start()

    @precondition(lambda self: self.living())
    @rule(which=WHICH)
    def worker_turns(self, which: int) -> None:
        """
        It reads what came on its handoff channel and from its clients.
        """
        self.some(self.living(), which).turn()

    @precondition(lambda self: self.living())
    @rule(which=WHICH)
    def worker_hears(self, which: int) -> None:
        """
        It reads what came on its control channel.
        """
        self.some(self.living(), which).read_control()

    @precondition(lambda self: self.living())
    @rule(which=WHICH)
    def worker_turns_without_a_free_descriptor(self, which: int) -> None:
        """
        It cannot receive what is sent.
        """
        self.some(self.living(), which).turn(starved=True)

    @precondition(lambda self: self.living())
    @rule(which=WHICH, window=st.integers(0, WINDOW))
    def worker_changes_its_window(self, which: int, window: int) -> None:
        """
        It has more or less room.
        """
        self.some(self.living(), which).change_window(window)

    @precondition(lambda self: any(child.requests for child in self.living()))
    @rule(which=WHICH, index=WHICH)
    def worker_answers(self, which: int, index: int) -> None:
        """
        A request is finished.
        """
        busy = [child for child in self.living() if child.requests]
        self.some(busy, which).finish(index)

    @precondition(lambda self: self.living())
    @rule(which=WHICH)
    def worker_is_told_to_end(self, which: int) -> None:
        """
        Somebody sends it SIGTERM.
        """
        self.some(self.living(), which).ask_to_leave()

    @precondition(lambda self: self.living())
    @rule(which=WHICH)
    def worker_has_answered_many(self, which: int) -> None:
        """
        It is past ``--max-requests`` from now on.
        """
        self.some(self.living(), which).extra_requests = 2 * MOST_REQUESTS

    @precondition(lambda self: self.living())
    @rule(which=WHICH)
    def worker_hangs(self, which: int) -> None:
        """
        Its reactor does not turn any more.
        """
        self.some(self.living(), which).hung = True

    @precondition(lambda self: any(c.alive and c.hung for c in self.primary.children))
    @rule()
    def hung_workers_go_on(self) -> None:
        """
        They were only busy.
        """
        for child in self.primary.children:
            child.hung = False

    @precondition(lambda self: any(child.alive for child in self.primary.children))
    @rule(which=WHICH)
    def worker_dies(self, which: int) -> None:
        """
        Its process is killed; the primary has not heard of it yet.
        """
        alive = [child for child in self.primary.children if child.alive]
        self.some(alive, which).die(KILLED)

    # what the primary does

    @precondition(lambda self: self.primary.readable())
    @rule(which=WHICH)
    def primary_reads(self, which: int) -> None:
        """
        It reads a handoff channel.
        """
        readable = self.primary.readable()
        self.primary.read(readable[which % len(readable)])

    @precondition(lambda self: self.primary.readable())
    @rule(which=WHICH)
    def primary_reads_without_a_free_descriptor(self, which: int) -> None:
        """
        It cannot take back what a worker gives.
        """
        readable = self.primary.readable()
        with no_descriptor_free():
            self.primary.read(readable[which % len(readable)])

    @precondition(lambda self: self.primary.children)
    @rule(which=WHICH)
    def primary_hears(self, which: int) -> None:
        """
        It reads a control channel.
        """
        child = self.some(self.primary.children, which)
        if child.their_end is not None:
            self.primary.read_control(child)

    @precondition(lambda self: self.dead())
    @rule(which=WHICH)
    def primary_hears_of_the_death(self, which: int) -> None:
        """
        The end of a process is told.
        """
        self.primary.reap(self.some(self.dead(), which))

    @rule()
    def next_fork_fails(self) -> None:
        """
        The machine has no room for one more process.
        """
        self.primary.fork_fails = True

    @rule(seconds=st.sampled_from([0.0, 0.06, 1.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        """
        Deadlines come, and hearts beat.
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
    @rule(which=st.none() | st.integers(0, MOST_SLOTS - 1))
    def reload(self, which: int | None) -> None:
        """
        All workers are replaced, or that of one slot.
        """
        self.changed("reload", self.changes.reload(None if which is None else [which]))

    @precondition(lambda self: not self.stopping)
    @rule()
    def renew(self) -> None:
        """
        The spares are replaced, as by new settings.
        """
        self.spawner.renew(self.spawner.birth)

    @precondition(lambda self: not self.stopping)
    @rule(count=st.integers(1, MOST_SLOTS))
    def resize(self, count: int) -> None:
        """
        There shall be more slots, or fewer.
        """
        self.changed("resize", self.changes.resize(count))

    @precondition(lambda self: not self.stopping)
    @rule(index=st.integers(0, MOST_SLOTS - 1))
    def drain(self, index: int) -> None:
        """
        A slot shall have no clients.
        """
        self.changed("drain", self.changes.drain(index))

    @precondition(lambda self: not self.stopping)
    @rule(index=st.integers(0, MOST_SLOTS - 1))
    def undrain(self, index: int) -> None:
        """
        They may come back.
        """
        self.changed("undrain", self.changes.undrain(index))

    @precondition(lambda self: len(self.clients) > 10 and not self.stopping)
    @rule(patience=st.sampled_from([0.0, 2.0, 20.0]))
    def primary_stops(self, patience: float) -> None:
        """
        The service is stopped.
        """
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
        hangups = select.poll()
        by_descriptor = {client.end.fileno(): client for client in self.clients}
        for descriptor in by_descriptor:
            hangups.register(descriptor, 0)
        for client in self.clients:
            client.read()
        gone = [by_descriptor[descriptor] for descriptor, _ in hangups.poll(0)]
        unexplained = [client.number for client in gone if not client.may_end]
        assert self.stopping or not unexplained

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
            members = [*self.fleet.members, *self.fleet.leaving]
            expected += sum(len(member.slot.queue) for member in members)
            expected += len(self.fleet._held or ())
            for process in self.primary.births:
                channel = process.courier.channel
                if channel is not None and channel._open:
                    expected += 1 + len(channel.in_flight)
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
        rounds = 0
        while rounds < 25 or (rounds < 200 and self.changing()):
            rounds += 1
            for child in self.primary.children:
                child.hung = False
                child.extra_requests = 0
                if child.alive and child.window != WINDOW:
                    child.change_window(WINDOW)
            self.everything_runs()
            for child in self.starting():
                child.get_ready()
            self.everything_runs()
            for child in self.living():
                while child.requests and child.alive:
                    child.finish(0)
            for child in self.dead():
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
        standing = self.fleet.standing()
        for member in self.fleet.members:
            assert not member.life.leaving
            assert member.slot.failed or member.slot.courier is member.life.worker
        where: dict[int, list[Child]] = {}
        for child in self.living():
            for descriptor in child.descriptors:
                where.setdefault(inode(descriptor), []).append(child)
        for client in self.clients:
            client.read()
            if client.may_end:
                continue
            assert client.answered == client.asked, f"client {client.number} waits"
            (child,) = where[client.inode]
            assert child.process.slot is not None
            assert child.process.slot.index in standing

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
        for process in self.primary.births:
            if process.courier.channel is not None:
                process.courier.channel._socket.close()
        for client in self.clients:
            client.end.close()
        for descriptor in open_sockets() - self.before:
            os.close(descriptor)


def run(examples: int) -> None:
    """
    Try so many orders of events.
    """
    run_state_machine_as_test(
        FleetModel,
        settings=settings(max_examples=examples, stateful_step_count=50, deadline=None),
    )


def test_fleet_keeps_every_connection_through_any_order_of_changes() -> None:
    """
    Whatever happens in whatever order, every connection is served, or refused, or ends with
    the worker that had acknowledged it; none leaks, and every change comes to an end.
    """
    run(60)


@pytest.mark.soak
def test_fleet_keeps_every_connection_through_very_many_orders_of_changes() -> None:
    """
    The same, for what comes about once in a thousand orders of events.
    """
    run(500)

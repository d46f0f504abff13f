"""
One worker process, as the primary sees it: here without a process.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectionDone,
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface.verify import verifyObject

from stickyd.affinity.resolve import LEARNED_ID_BYTES
from stickyd.control.commands import (
    CONTROL_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
    Accept,
    Beat,
    Claim,
    ControlProtocol,
    Place,
    Release,
    Serve,
    Stop,
)
from stickyd.errors import StartFailed
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.interfaces import IWorker
from stickyd.fleet.process.handoff_link import QUIET_SECONDS, STARVED_SECONDS
from stickyd.fleet.process.process import LAST_WORDS_SECONDS, WorkerProcess
from stickyd.fleet.process.recycle import Recycling
from stickyd.fleet.process.spawner import Spawner, worker_command
from stickyd.fleet.process.spec import WorkerSpec
from stickyd.fleet.process.termination import KILL_AFTER, describe_death
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_services import ISpawner
from stickyd.handoff.frame import Handoff, Purpose
from stickyd.interfaces import IHandoffReceiver
from stickyd.settings import Settings
from stickyd.testing import FakeFleet, FakeReadiness, FakeRefusal
from tests.channels import End, connection, no_descriptor_free, open_sockets

EXITED = Failure(ProcessDone(None))
KILLED = Failure(ProcessTerminated(None, signal.SIGKILL, 9))


SECRETS = (b"the secret that signs", b"a former secret of ours")


def listener() -> Handoff:
    """
    A listening socket on its way.
    """
    return Handoff(socket.socket().detach(), "", 0, b"", b"3", 3, Purpose.LISTENER)


class Process:
    """
    As much of a process as its worker uses: it keeps the signals that it is sent.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: list[signal.Signals] = []
        self.exited = False

    def signalProcess(self, signalID: signal.Signals) -> None:  # noqa: N802, N803 - Twisted's
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(signalID)


class FakeControl(ControlProtocol):
    """
    A worker's end of the control channel; it answers when the test says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.served: list[tuple[Settings, int, list[str]]] = []
        self.stopped: list[float] = []
        self.places: list[tuple[int, list[int]]] = []
        self.releases: list[tuple[int, list[int]]] = []
        self.heard: list[object] = []
        self.accepts = 0
        self.answer: Deferred[dict[str, object]] = Deferred()

    @Serve.responder
    def serve(
        self, settings: str, slot: int, path: list[str], secrets: list[bytes]
    ) -> Deferred[dict[str, object]]:
        self.secrets = secrets
        self.served.append((Settings.from_json(settings), slot, path))
        return self.answer

    @Place.responder
    def place(self, slots: int, standing: list[int]) -> dict[str, object]:
        self.places.append((slots, standing))
        self.heard.append((slots, standing))
        return {}

    @Release.responder
    def release(self, slots: int, standing: list[int]) -> dict[str, object]:
        self.releases.append((slots, standing))
        self.heard.append((slots, standing))
        return {}

    @Accept.responder
    def accept(self) -> dict[str, object]:
        self.accepts += 1
        return {}

    @Stop.responder
    def stop(self, patience: float) -> dict[str, object]:
        self.stopped.append(patience)
        self.heard.append("stop")
        return {}


class Reactor(MemoryReactorClock):
    """
    A reactor that starts processes which are none, and adopts their control channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process = Process(4711)
        self.spawned: list[tuple[str, list[str], object, dict[int, int | str]]] = []
        self.ends_at_once: Failure | None = None
        self.fork_error = 0
        self.adopt_error = 0
        self.control = FakeControl()
        self.handoffs: End | None = None
        self.pipe: IOPump | None = None

    def spawnProcess(  # noqa: N802 - Twisted's
        self,
        processProtocol: Any,  # noqa: N803
        executable: str,
        args: list[str],
        env: Mapping[str, str] | None,
        uid: int | None,
        gid: int | None,
        childFDs: dict[int, int | str],  # noqa: N803
    ) -> Process:
        if self.fork_error:
            raise OSError(self.fork_error, os.strerror(self.fork_error))
        self.spawned.append((executable, args, env, childFDs))
        handoffs = childFDs[HANDOFF_DESCRIPTOR]
        assert isinstance(handoffs, int)
        self.handoffs = End(socket.socket(fileno=os.dup(handoffs)), 8)
        if self.ends_at_once is not None:
            # As Twisted does it: it looks for the end of the child within spawnProcess().
            self.process.exited = True
            processProtocol.processExited(self.ends_at_once)
        return self.process

    def adoptStreamConnection(  # noqa: N802 - Twisted's
        self,
        fileDescriptor: int,  # noqa: N803
        addressFamily: int,  # noqa: N803
        factory: ServerFactory,
    ) -> None:
        if self.adopt_error:
            raise OSError(self.adopt_error, os.strerror(self.adopt_error))
        assert addressFamily == socket.AF_UNIX
        assert not os.get_blocking(fileDescriptor)
        protocol = factory.buildProtocol(cast("Any", None))
        assert protocol is not None
        self.pipe = connect(
            protocol,
            FakeTransport(protocol, True),
            self.control,
            FakeTransport(self.control, False),
        )


class Rig:
    """
    A spawner on that reactor, and a slot.
    """

    def __init__(self, **settings: object) -> None:
        self.reactor = Reactor()
        self.readiness = FakeReadiness(self.reactor)
        self.settings = Settings.read({"start_timeout": 20.0, **settings})
        self.returns = FakeFleet()
        self.slot = Slot(3, self.reactor, QueueLimits(10, 100.0), FakeRefusal())
        self.spawner = Spawner(
            cast("Any", self.reactor),
            self.readiness,
            WorkerSpec(worker_command(self.settings), self.settings, secrets=SECRETS),
            self.returns,
            Backoff(1.0, 8.0, lambda: 1.0),
            Recycling(0, 0, lambda: 0.0, lambda _: succeed([])),
        )
        self.told: list[str] = []
        self.worker = self.spawn()

    def spawn(self) -> WorkerProcess:
        """
        Start one more worker.
        """
        return self.spawner.spawn(self.slot, lambda: self.told.append("ready"), self.told.append)

    def flush(self) -> None:
        """
        Let both ends of the control channel read.
        """
        assert self.reactor.pipe is not None
        self.reactor.pipe.flush()

    def ready(self) -> None:
        """
        Let the worker answer that it serves.
        """
        self.flush()
        self.reactor.control.answer.callback({})
        self.flush()

    def turn(self) -> None:
        """
        Let both ends of the handoff channel read until nothing is left.
        """
        assert self.reactor.handoffs is not None
        while self._turn_ours() | self.reactor.handoffs.turn():
            pass

    def _turn_ours(self) -> bool:
        readers = dict(self.readiness.readers)
        ready = select.select(list(readers), [], [], 0)[0]
        for descriptor in ready:
            readers[descriptor]()
        return bool(ready)

    def die(self, how: Failure = EXITED) -> None:
        """
        End the process.
        """
        self.reactor.process.exited = True
        self.worker.processExited(how)

    def hang_up(self) -> None:
        """
        Let the primary hear what the worker has said last, and that it has closed.
        """
        transport = self.reactor.control.transport
        assert transport is not None
        transport.loseConnection()
        self.flush()

    def close(self) -> None:
        """
        Close what either end holds.
        """
        for handoff in self.worker.reclaim():
            os.close(handoff.descriptor)
        end = self.reactor.handoffs
        if end is not None:
            for handoff in (*end.channel.reclaim(), *end.received()):
                os.close(handoff.descriptor)
        self.returns.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A worker that was just started; no socket is left when the test is over.
    """
    before = open_sockets()
    rig = Rig()
    yield rig
    rig.close()
    assert open_sockets() == before


def test_worker_keeps_to_its_interfaces(rig: Rig) -> None:
    """
    What the spawner makes is what slots and lifecycles expect.
    """
    assert verifyObject(ISpawner, rig.spawner)
    assert verifyObject(IWorker, rig.worker)
    assert verifyObject(IHandoffReceiver, rig.worker.link)
    assert rig.worker.pid == 4711


# birth


def test_command_shows_the_slot_and_the_reactor(rig: Rig) -> None:
    """
    ``ps`` tells which worker is whose, and the child installs the reactor of the settings.
    """
    ((executable, arguments, env, _),) = rig.reactor.spawned
    assert arguments[0] == executable
    assert arguments[1:] == ["-m", "stickyd.worker", "--reactor", "uvloop", "--slot", "3"]
    assert env is None


def test_child_gets_both_channels_and_no_input(rig: Rig) -> None:
    """
    Standard input is empty, output is read, and the channels are where the worker looks.
    """
    ((_, _, _, descriptors),) = rig.reactor.spawned
    assert sorted(descriptors) == [0, 1, 2, HANDOFF_DESCRIPTOR, CONTROL_DESCRIPTOR]
    assert (descriptors[1], descriptors[2]) == ("r", "r")
    assert len({descriptors[0], descriptors[3], descriptors[4]}) == 3


def test_primary_keeps_only_its_own_ends() -> None:
    """
    Of the child's ends no copy stays open, or its death would not be noticed.
    """
    before = open_sockets()
    rig = Rig()
    assert rig.reactor.handoffs is not None
    # The fake keeps the child's end of the handoff channel; the control channel is faked.
    theirs = rig.reactor.handoffs.socket.fileno()
    assert len(open_sockets() - before - {theirs}) == 1
    rig.close()


def test_worker_is_asked_to_serve(rig: Rig) -> None:
    """
    It is told the settings, its slot and where the primary imports from.
    """
    rig.flush()
    ((settings, slot, path),) = rig.reactor.control.served
    assert settings == rig.settings
    assert slot == 3
    assert path
    assert "" not in path


def test_secrets_are_told_and_not_shown(rig: Rig) -> None:
    """
    They go over the control channel; neither the command line nor a repr has them.
    """
    rig.flush()
    assert rig.reactor.control.secrets == list(SECRETS)
    shown = repr(rig.spawner.birth) + str(rig.reactor.spawned)
    assert SECRETS[0].decode() not in shown


def test_ready_is_told_once_it_serves(rig: Rig) -> None:
    """
    Its answer makes it ready, and ends the time that it may take to get so.
    """
    rig.flush()
    assert rig.told == []
    rig.ready()
    assert rig.told == ["ready"]
    rig.reactor.advance(21)
    assert rig.reactor.process.signals == []


def test_worker_knows_the_places_when_it_is_ready(rig: Rig) -> None:
    """
    Before it is ready it is told nothing; then how clients are placed, and each change.
    """
    rig.flush()
    rig.worker.tell_places(9, [8])
    rig.ready()
    rig.worker.tell_places(3, [0, 2])
    rig.flush()
    assert rig.reactor.control.places == [(2, [0, 1]), (3, [0, 2])]


def test_worker_that_ends_before_it_knows_the_places_is_never_ready(rig: Rig) -> None:
    """
    The end of its control channel, which may be seen before that of the process, is no
    answer.
    """
    rig.flush()
    rig.reactor.control.answer.callback({})
    assert rig.reactor.pipe is not None
    rig.reactor.pipe.pump()
    rig.worker._control.connectionLost(Failure(ConnectionDone()))
    assert rig.told == []


def test_slow_start_is_killed_and_told(rig: Rig) -> None:
    """
    A worker that is not ready in time is killed, and its death says that it was that.
    """
    rig.reactor.advance(19.9)
    assert rig.reactor.process.signals == []
    rig.reactor.advance(0.2)
    assert rig.reactor.process.signals == [signal.SIGKILL]
    assert rig.told == []
    rig.die(KILLED)
    assert rig.told == ["was not ready within 20 s"]


def test_reason_of_a_failed_start_is_the_cause_of_death(rig: Rig) -> None:
    """
    What the worker gives as its reason is told when it has ended, not its exit code.
    """
    rig.flush()
    rig.reactor.control.answer.errback(StartFailed("no module 'site'"))
    rig.flush()
    assert rig.told == []
    rig.die(Failure(ProcessTerminated(1, None, 256)))
    assert rig.told == ["could not start: no module 'site'"]
    assert not rig.reactor.getDelayedCalls()


def test_death_before_the_answer_is_told_as_it_was(rig: Rig) -> None:
    """
    A control channel that ends without an answer is no reason; the process's end is.
    """
    rig.flush()
    assert rig.reactor.control.transport is not None
    rig.reactor.control.transport.loseConnection()
    rig.flush()
    assert rig.told == []
    rig.die(Failure(ProcessTerminated(3, None, 768)))
    assert rig.told == ["exited with code 3"]
    assert not rig.reactor.getDelayedCalls()


def test_answer_of_the_dead_is_not_told(rig: Rig) -> None:
    """
    An answer that is read after the process has ended makes nobody ready.
    """
    rig.flush()
    rig.reactor.control.answer.callback({})
    rig.die(KILLED)
    rig.flush()
    assert rig.told == ["died of signal 9 (SIGKILL)"]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (EXITED, "exited with code 0"),
        (Failure(ProcessTerminated(1, None, 256)), "exited with code 1"),
        (KILLED, "died of signal 9 (SIGKILL)"),
        (Failure(ProcessTerminated(None, signal.SIGSEGV, 11)), "died of signal 11 (SIGSEGV)"),
    ],
)
def test_death_is_described(how: Failure, text: str) -> None:
    """
    Exit codes and signals are told apart, signals by name.
    """
    assert describe_death(how) == text


# a machine that cannot


def test_reason_is_heard_after_the_end(rig: Rig) -> None:
    """
    The process may be seen to end before its reason is read: the death waits for that.
    """
    rig.flush()
    rig.reactor.control.answer.errback(StartFailed("no module 'site'"))
    rig.die(Failure(ProcessTerminated(1, None, 256)))
    assert rig.told == []
    rig.hang_up()
    assert rig.told == ["could not start: no module 'site'"]
    assert not rig.reactor.getDelayedCalls()


def test_last_words_are_waited_for_a_while_only(rig: Rig) -> None:
    """
    A child of the application that holds the control channel open delays the death, no
    more; a stop meanwhile changes nothing.
    """
    rig.flush()
    rig.die(Failure(ProcessTerminated(1, None, 256)))
    rig.worker.stop(30.0)
    rig.reactor.advance(LAST_WORDS_SECONDS - 0.1)
    assert rig.told == []
    rig.reactor.advance(0.2)
    assert rig.told == ["exited with code 1"]
    rig.hang_up()
    assert rig.told == ["exited with code 1"]
    assert not rig.reactor.getDelayedCalls()


@pytest.fixture
def failing() -> Iterator[Rig]:
    """
    A rig whose next worker can be made to fail; no socket is left.
    """
    before = open_sockets()
    rig = Rig()
    rig.close()
    rig.reactor.handoffs = None
    for call in rig.reactor.getDelayedCalls():
        call.cancel()
    yield rig
    rig.close()
    assert open_sockets() == before


def test_fork_that_fails_is_a_death_a_turn_later(failing: Rig) -> None:
    """
    The caller has the worker before it hears of its end; nothing is left open.
    """
    failing.reactor.fork_error = errno.EAGAIN
    worker = failing.spawn()
    assert failing.told == []
    assert worker.pid == 0
    failing.reactor.advance(0)
    assert len(failing.told) == 1
    assert failing.told[0].startswith("could not be started: ")
    assert os.strerror(errno.EAGAIN) in failing.told[0]
    assert worker.reclaim() == []
    failing.reactor.advance(100)
    assert len(failing.told) == 1


@pytest.mark.parametrize("how", [KILLED, EXITED])
def test_fault_14_a_process_that_ends_within_spawn_is_told_later(
    failing: Rig, how: Failure
) -> None:
    """
    Fault 14: Twisted may tell of the end of a child before it has returned the child.  The
    caller has the worker before it hears of that, once.
    """
    failing.reactor.ends_at_once = how
    failing.worker = failing.spawn()
    assert failing.told == []
    assert not failing.worker.lives
    failing.reactor.advance(0)
    failing.reactor.advance(LAST_WORDS_SECONDS)
    (told,) = failing.told
    assert told == describe_death(how)
    failing.reactor.advance(100)
    assert len(failing.told) == 1


def test_stop_of_what_was_never_started_is_harmless(failing: Rig) -> None:
    """
    A stop between the failed fork and the news of it changes nothing.
    """
    failing.reactor.fork_error = errno.ENOMEM
    worker = failing.spawn()
    worker.stop(5.0)
    failing.reactor.advance(100)
    assert len(failing.told) == 1
    assert worker.reclaim() == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_want_of_descriptors_is_a_death_too(
    failing: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """
    Whichever of its channels cannot be made, the worker could not be started, which is
    told like any death, and nothing is left open.
    """
    calls = iter(range(1, 10))

    def limited(real: Any) -> Any:
        def call(*arguments: object) -> object:
            if next(calls) == number:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(*arguments)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socketpair", limited(socket.socketpair))
        patched.setattr(os, "open", limited(os.open))
        worker = failing.spawn()
    failing.reactor.advance(0)
    assert failing.told == ["could not be started: [Errno 24] Too many open files"]
    assert worker.reclaim() == []


def test_process_without_a_control_channel_is_killed_and_dies_once(failing: Rig) -> None:
    """
    If the control channel cannot be taken up, the process is there: it is killed, and its
    end is told once, when it comes.
    """
    failing.reactor.adopt_error = errno.EMFILE
    failing.worker = failing.spawn()
    failing.reactor.advance(0)
    assert failing.told == []
    assert failing.reactor.process.signals == [signal.SIGKILL]
    failing.die(KILLED)
    assert failing.told == ["could not be started: [Errno 24] Too many open files"]
    assert not failing.reactor.getDelayedCalls()


# stopping


def test_serving_worker_is_asked_to_stop(rig: Rig) -> None:
    """
    It is told how long it may take, and killed only a while after that.
    """
    rig.ready()
    rig.worker.stop(5.0)
    rig.flush()
    assert rig.reactor.control.stopped == [5.0]
    rig.reactor.advance(5.0 + KILL_AFTER - 0.1)
    assert rig.reactor.process.signals == []
    with capturedLogs() as events:
        rig.reactor.advance(0.2)
    assert rig.reactor.process.signals == [signal.SIGKILL]
    assert [formatEvent(event) for event in events] == [
        "Worker 4711 (slot 3) did not stop in time; killing it"
    ]
    rig.die(KILLED)
    assert rig.told == ["ready", "died of signal 9 (SIGKILL)"]


def test_worker_that_stops_in_time_is_not_killed(rig: Rig) -> None:
    """
    Its end ends the waiting.
    """
    rig.ready()
    rig.worker.stop(5.0)
    rig.flush()
    rig.die()
    assert rig.told == ["ready", "exited with code 0"]
    assert not rig.reactor.getDelayedCalls()


def test_starting_worker_is_killed(rig: Rig) -> None:
    """
    One that does not serve yet has nothing to finish, and may be busy with an import.
    """
    rig.worker.stop(30.0)
    assert rig.reactor.process.signals == [signal.SIGKILL]
    rig.die(KILLED)
    assert rig.told == ["died of signal 9 (SIGKILL)"]
    assert not rig.reactor.getDelayedCalls()


def test_stop_of_a_worker_that_has_exited_already(rig: Rig) -> None:
    """
    A process that is gone cannot be signalled, and its end is on the way.
    """
    rig.reactor.process.exited = True
    rig.worker.stop(30.0)
    rig.die()
    rig.hang_up()
    assert rig.told == ["exited with code 0"]
    assert not rig.reactor.getDelayedCalls()
    assert not rig.reactor.getDelayedCalls()


def test_stop_with_the_control_channel_gone(rig: Rig) -> None:
    """
    A stop that cannot be told is made up for by the kill.
    """
    rig.ready()
    assert rig.reactor.control.transport is not None
    rig.reactor.control.transport.loseConnection()
    rig.flush()
    rig.worker.stop(1.0)
    rig.reactor.advance(1.0 + KILL_AFTER)
    assert set(rig.reactor.process.signals) == {signal.SIGKILL}
    rig.die(KILLED)


# while it lives


def test_figures_are_those_of_the_last_beat(rig: Rig) -> None:
    """
    A heartbeat replaces what the one before had said.
    """
    rig.ready()
    for adopted in (1, 2):
        rig.reactor.control.callRemote(Beat, figures=f'{{"connections": 1, "adopted": {adopted}}}')
        rig.flush()
    assert rig.worker.figures == {"connections": 1, "adopted": 2}


def test_load_counts_what_came_since_the_last_beat(rig: Rig) -> None:
    """
    Nothing is counted twice: neither what is on its way and was just sent, nor what a
    heartbeat has told already.
    """
    end = rig.reactor.handoffs
    assert end is not None
    rig.ready()
    end.channel.open()
    rig.turn()
    clients = []
    for _ in range(2):
        handoff, client = connection("x", "")
        clients.append(client)
        assert rig.worker.send(handoff)
    assert (len(rig.worker.in_flight), rig.worker.load) == (2, 2)
    rig.turn()
    assert (len(rig.worker.in_flight), rig.worker.load) == (0, 2)
    rig.reactor.control.callRemote(Beat, figures='{"connections": 2}')
    rig.flush()
    assert rig.worker.load == 2
    for client in clients:
        client.close()


def test_claims_and_what_is_to_be_resolved_reach_the_fleet() -> None:
    """
    A worker claims for its own slot; a connection that it cannot place is resolved.
    """
    rig = Rig(affinity=("learn:query:sid",))
    ids = [b"a" * LEARNED_ID_BYTES, b"b" * LEARNED_ID_BYTES]
    end = rig.reactor.handoffs
    assert end is not None
    rig.ready()
    rig.reactor.control.callRemote(Claim, identifiers=ids)
    rig.flush()
    assert rig.returns.claims == [(3, ids)]
    end.channel.open()
    rig.turn()
    for purpose in (Purpose.CONNECTION, Purpose.RESOLVE):
        handoff, client = connection("x", "")
        handoff.purpose = purpose
        assert end.channel.send(handoff)
        rig.turn()
        client.close()
    assert [handoff.purpose for handoff in rig.returns.delivered] == [1]
    assert [handoff.purpose for handoff in rig.returns.resolved] == [3]
    rig.close()


def test_connections_travel_to_the_worker(rig: Rig) -> None:
    """
    What the slot delivers is received at the other end, and acknowledged.
    """
    end = rig.reactor.handoffs
    assert end is not None
    end.channel.open()
    rig.turn()
    rig.slot.occupy(rig.worker)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    assert len(rig.worker.in_flight) == 1
    rig.turn()
    assert [got.key for got in end.received()] == [b"x"]
    assert len(rig.worker.in_flight) == 0
    client.close()


def test_those_who_wait_are_sent_when_there_is_room(rig: Rig) -> None:
    """
    The channel's news of room reaches the slot.
    """
    end = rig.reactor.handoffs
    assert end is not None
    rig.slot.occupy(rig.worker)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    assert list(rig.slot.queue) == [handoff]
    end.channel.open()
    rig.turn()
    assert not rig.slot.queue
    assert [got.key for got in end.received()] == [b"x"]
    client.close()


def test_returned_connection_goes_back_to_its_slot(rig: Rig) -> None:
    """
    One that the worker could not receive waits in the slot again.
    """
    handoff = Handoff(0, "192.0.2.1", 1, b"key")
    rig.worker.link.returned(handoff)
    assert list(rig.slot.queue) == [handoff]
    rig.slot.release()


def test_listening_socket_is_sent_when_there_is_room(rig: Rig) -> None:
    """
    It waits for the worker's window like a connection, beside the slot's queue, and our
    copy is closed when the worker has it.
    """
    end = rig.reactor.handoffs
    assert end is not None
    before = len(open_sockets())
    rig.slot.occupy(rig.worker)
    rig.worker.entrust(listener())
    assert not rig.worker.quiet
    assert not rig.slot.queue
    end.channel.open()
    rig.turn()
    (got,) = end.received()
    assert (got.purpose, got.unread) == (Purpose.LISTENER, b"3")
    assert len(open_sockets()) == before + 1


@pytest.mark.parametrize("sent", [False, True])
def test_listening_socket_is_nothing_to_replay(sent: bool, rig: Rig) -> None:
    """
    Of a worker that dies, neither what it was not sent nor what it did not take is kept;
    its connections are.
    """
    end = rig.reactor.handoffs
    assert end is not None
    before = open_sockets()
    rig.worker.entrust(listener())
    expected = []
    if sent:
        end.channel.open()
        rig._turn_ours()
        handoff, client = connection("x", "")
        client.close()
        assert rig.worker.send(handoff)
        expected.append(handoff)
    assert len(rig.worker.in_flight) == 2 * sent
    assert rig.worker.reclaim() == expected
    for handoff in expected:
        os.close(handoff.descriptor)
    assert open_sockets() < before  # the channel's own is gone, too


def test_listening_socket_that_could_not_be_received_is_sent_again(rig: Rig) -> None:
    """
    It is the worker's, not the slot's: the slot does not queue it.
    """
    end = rig.reactor.handoffs
    assert end is not None
    rig.worker.link.returned(listener())
    assert not rig.slot.queue
    end.channel.open()
    rig.turn()
    assert [got.purpose for got in end.received()] == [Purpose.LISTENER]


def test_worker_is_told_to_accept_again(rig: Rig) -> None:
    """
    By the control channel, behind the release that had it cease.
    """
    rig.ready()
    rig.worker.accept()
    rig.flush()
    assert rig.reactor.control.accepts == 1


def test_connection_that_a_worker_gives_back_is_delivered(rig: Rig) -> None:
    """
    What a worker passes on goes where the spawner was told, and is not lost with the
    worker.
    """
    end = rig.reactor.handoffs
    assert end is not None
    end.channel.open()
    rig.turn()
    handoff, client = connection("back", "")
    assert end.channel.send(handoff)
    rig.die()
    rig.worker.reclaim()
    assert [got.key for got in rig.returns.delivered] == [b"back"]
    client.close()


def test_starved_primary_says_what_to_raise(rig: Rig) -> None:
    """
    A connection that the primary cannot take back for want of descriptors is told.
    """
    with capturedLogs() as events:
        rig.worker.link.starved()
    (line,) = [formatEvent(event) for event in events]
    assert "from worker 4711: raise the limit" in line


def test_output_is_told_with_pid_and_slot(rig: Rig) -> None:
    """
    What the process writes is in the log under its pid, its last words too, even those
    that are read after its end and lack a newline.
    """
    with capturedLogs() as events:
        rig.worker.childDataReceived(1, b"printed\nbefore")
        rig.die()
        rig.worker.childDataReceived(2, b"<3>after")
        rig.worker.processEnded(EXITED)
    lines = [formatEvent(event) for event in events if event["log_namespace"] == "stickyd.worker"]
    assert lines == [
        "[worker 4711 slot 3] printed",
        "[worker 4711 slot 3] before",
        "[worker 4711 slot 3] after",
    ]


# giving away


def taking(rig: Rig) -> End:
    """
    Let a ready worker take connections.

    :return: its end of the handoff channel.
    """
    rig.ready()
    end = rig.reactor.handoffs
    assert end is not None
    end.channel.open()
    rig.turn()
    rig.slot.occupy(rig.worker)
    return end


@pytest.mark.parametrize("window", [0, 8])
def test_release_waits_for_what_is_on_its_way(window: int, rig: Rig) -> None:
    """
    The worker is asked to give away when it has taken what was sent to it, also if it takes
    no more for now.
    """
    end = taking(rig)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    given: list[None] = []
    rig.worker.release(None).addCallback(given.append)
    rig.flush()
    assert rig.reactor.control.releases == []
    end.window = window
    rig.turn()
    rig.flush()
    assert rig.reactor.control.releases == [(0, [])]
    assert given == [None]
    client.close()


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda worker: worker.stay(), (-1, [])),
        (lambda worker: worker.stop(1.0), "stop"),
        (lambda worker: worker.tell_places(2, [0]), (2, [0])),
    ],
    ids=["stay", "stop", "places"],
)
def test_release_is_overtaken_by_nothing(
    say: Callable[[WorkerProcess], None], said: object, rig: Rig
) -> None:
    """
    A worker that is late with what is on its way to it hears of the release before what was
    said later: it believes what it hears last.
    """
    taking(rig)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    rig.worker.release(None)
    say(rig.worker)
    rig.flush()
    control = rig.reactor.control
    assert control.heard[-2:] == [(0, []), said]
    rig.turn()
    rig.flush()
    assert control.heard[-2:] == [(0, []), said]
    client.close()


def test_release_by_a_placement(rig: Rig) -> None:
    """
    The worker hears how many slots there are and which of them stand.
    """
    taking(rig)
    rig.worker.release((3, [0, 2]))
    rig.flush()
    assert rig.reactor.control.releases == [(3, [0, 2])]


def test_death_is_told_before_its_release_fails(rig: Rig) -> None:
    """
    Whoever waits for the release learns that it is over when the worker is known to be dead
    already, so that nobody tells a dead worker to stop.
    """
    taking(rig)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    told_by_then: list[list[str]] = []
    rig.worker.release(None).addErrback(lambda _: told_by_then.append(rig.told[1:]))
    rig.die(KILLED)
    assert told_by_then == [["died of signal 9 (SIGKILL)"]]
    client.close()


def test_wish_of_the_dead_is_not_told(rig: Rig) -> None:
    """
    A worker that asked to be relieved and died is not relieved again, when its death is
    heard of first.
    """
    taking(rig)
    asked: list[object] = []
    rig.worker._events.leaving = asked.append  # type: ignore[assignment, method-assign]
    rig.worker.wants_to_leave()
    rig.die()
    rig.worker.wants_to_leave()
    assert asked == [rig.worker]


def test_starved_primary_closes_its_window_for_a_moment(rig: Rig) -> None:
    """
    While a connection could not be taken back for want of descriptors the worker may send
    none; after a moment it may again, and the connection comes with the second attempt.
    """
    end = taking(rig)
    handoff, client = connection("back", "")
    assert end.channel.send(handoff)
    with no_descriptor_free():
        for callback in list(rig.readiness.readers.values()):
            callback()
    end.turn()
    (returned,) = end.receiver.handoffs("returned")
    assert returned is handoff
    assert not end.channel.send(handoff)
    rig.reactor.advance(STARVED_SECONDS / 2)
    rig.turn()
    assert not end.channel.send(handoff)
    rig.reactor.advance(STARVED_SECONDS / 2)
    rig.turn()
    assert end.channel.send(handoff)
    rig.turn()
    assert [got.key for got in rig.returns.delivered] == [b"back"]
    client.close()
    end.receiver.events.clear()


def test_starved_primary_is_told_of_once_in_a_while(rig: Rig) -> None:
    """
    The log has one line for a shortage that lasts, and another one when it is told for long.
    """
    with capturedLogs() as events:
        for _ in range(3):
            rig.worker.link.starved()
            rig.reactor.advance(STARVED_SECONDS)
        assert len(events) == 1
        rig.reactor.advance(QUIET_SECONDS)
        rig.worker.link.starved()
    assert len(events) == 2


def test_starved_window_of_a_worker_that_has_ended(rig: Rig) -> None:
    """
    The moment may be over when the channel is closed already.
    """
    taking(rig)
    rig.worker.link.starved()
    rig.die()
    rig.worker.reclaim()
    rig.reactor.advance(STARVED_SECONDS)
    assert not rig.worker.send(Handoff(0, "192.0.2.1", 1, b"key"))

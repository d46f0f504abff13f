"""
One worker process as the primary sees it: its start, its figures, its end.
"""

from __future__ import annotations

import signal

from twisted.internet.error import (
    ConnectionDone,
    ProcessTerminated,
)
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from stickyd.affinity.resolve import LEARNED_ID_BYTES
from stickyd.control.commands import (
    Beat,
    Claim,
)
from stickyd.errors import StartFailed
from stickyd.fleet.interfaces import IWorker
from stickyd.fleet.process.process import LAST_WORDS_SECONDS
from stickyd.fleet.slot_services import ISpawner
from stickyd.handoff.frame import Purpose
from stickyd.interfaces import IHandoffReceiver
from tests.channels import connection
from tests.fleet.process.rig import EXITED, KILLED, SECRETS, Rig


def test_worker_keeps_to_its_interfaces(rig: Rig) -> None:
    """
    What the spawner makes is what slots and lifecycles expect.
    """
    assert verifyObject(ISpawner, rig.spawner)
    assert verifyObject(IWorker, rig.worker)
    assert verifyObject(IHandoffReceiver, rig.worker.link)
    assert rig.worker.pid == 4711


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
    shown = repr(rig.spawner.spec) + str(rig.reactor.spawned)
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


def test_figures_are_those_of_the_last_beat(rig: Rig) -> None:
    """
    A heartbeat replaces what the one before had said.
    """
    rig.ready()
    for adopted in (1, 2):
        rig.reactor.control.callRemote(Beat, figures=f'{{"connections": 1, "adopted": {adopted}}}')
        rig.flush()
    assert rig.worker.heartbeats.figures == {"connections": 1, "adopted": 2}


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

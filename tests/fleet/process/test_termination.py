"""
How a worker process is asked to stop, and killed when it does not.
"""

from __future__ import annotations

import errno
import signal

import pytest
from twisted.internet.error import (
    ProcessTerminated,
)
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from stickyd.fleet.process.termination import KILL_AFTER_SECONDS, describe_death
from tests.fleet.process.rig import EXITED, KILLED, Rig


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


def test_serving_worker_is_asked_to_stop(rig: Rig) -> None:
    """
    It is told how long it may take, and killed only a while after that.
    """
    rig.ready()
    rig.worker.stop(5.0)
    rig.flush()
    assert rig.reactor.control.stopped == [5.0]
    rig.reactor.advance(5.0 + KILL_AFTER_SECONDS - 0.1)
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
    rig.reactor.advance(1.0 + KILL_AFTER_SECONDS)
    assert set(rig.reactor.process.signals) == {signal.SIGKILL}
    rig.die(KILLED)

"""
One worker process, as the primary sees it: here without a process.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from twisted.python.failure import Failure

from stickyd.control.commands import (
    BUS_DESCRIPTOR,
    CONTROL_DESCRIPTOR,
    FIGURES_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
)
from stickyd.fleet.process.process import LAST_WORDS_SECONDS
from stickyd.fleet.process.termination import describe_death
from stickyd.fleet.slot_workers import SOUND_END
from tests.channels import open_sockets
from tests.fleet.process.rig import EXITED, KILLED, Rig

if TYPE_CHECKING:
    from collections.abc import Callable


def test_command_shows_the_slot_and_the_reactor(rig: Rig) -> None:
    """
    ``ps`` tells which worker is whose, and the child installs the reactor of the settings.
    """
    ((executable, arguments, env, _),) = rig.reactor.spawned
    assert arguments[0] == executable
    assert arguments[1:] == ["-m", "stickyd.worker", "--reactor", "uvloop", "--slot", "3"]
    assert env is None


def test_child_gets_its_channels_and_no_input(rig: Rig) -> None:
    """
    Standard input is empty, output is read, and the channels are where the worker looks.
    """
    ((_, _, _, descriptors),) = rig.reactor.spawned
    ours = [HANDOFF_DESCRIPTOR, CONTROL_DESCRIPTOR, FIGURES_DESCRIPTOR, BUS_DESCRIPTOR]
    assert sorted(descriptors) == [0, 1, 2, *ours]
    assert (descriptors[1], descriptors[2]) == ("r", "r")
    assert len({descriptors[0], descriptors[3], descriptors[4], descriptors[5]}) == 4


def test_primary_keeps_only_its_own_ends() -> None:
    """
    Of the child's ends no copy stays open, or its death would not be noticed.
    """
    before = open_sockets()
    rig = Rig()
    assert rig.reactor.handoffs is not None
    # The fake keeps two of the child's ends; the control channel is faked.
    theirs = {rig.reactor.handoffs.socket.fileno(), rig.reactor.buses[0].fileno()}
    # Ours are one of that and one of the bus.
    assert len(open_sockets() - before - theirs) == 2
    rig.close()


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


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_worker_that_is_not_wanted_any_more_is_never_started(
    failing: Rig, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """
    While it waits for the process that it is to be forked from, it can be told to end: then that
    is told a turn later, once, as a good end, and it is not started when it could be.
    """
    waiting: list[Callable[[], object]] = []
    launcher = failing.spawner._launcher
    monkeypatch.setattr(launcher, "call_when_ready", waiting.append)
    started = len(failing.reactor.spawned)
    worker = failing.spawn()
    if end == "stop":
        worker.stop(5.0)
        worker.stop(0.0)
    worker.kill()
    assert failing.told == []
    failing.reactor.advance(0)
    for start in waiting:
        start()
    failing.reactor.advance(100)
    assert failing.told == [SOUND_END]
    assert len(failing.reactor.spawned) == started
    assert not worker.lives
    assert worker.reclaim() == []


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


def test_worker_that_counts_backwards_is_ended(rig: Rig) -> None:
    """
    What it writes on its page is checked as all that it says.
    """
    ((_, _, _, descriptors),) = rig.reactor.spawned
    rig.ready()
    os.pwrite(rig.worker._page._descriptor, b"\5" + b"\0" * 7, 0)
    rig.worker.count()
    assert rig.slot.figures.in_flight == 5
    os.pwrite(rig.worker._page._descriptor, b"\4" + b"\0" * 7, 0)
    rig.worker.count()
    assert rig.reactor.process.signals == [signal.SIGKILL]
    assert FIGURES_DESCRIPTOR in descriptors
    rig.worker.count()
    rig.die(KILLED)
    assert rig.told[-1] == "broke the protocol of its figures"
    assert rig.slot.figures.in_flight == 0

"""
Fault 19: an upgrade that does not come about leaves everything as it was.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from stickyd.errors import OperatorError
from stickyd.settings import Settings
from stickyd.upgrade.inheritance import (
    INHERIT,
    PREFLIGHT,
    VERSION,
    Preflight,
    accepted_settings,
    take_inherited,
    take_preflight,
)
from stickyd.upgrade.upgrade import LONGEST_SECONDS, PAUSE_SECONDS, Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGUSR1, signal.SIGTTIN)


class Primary:
    """
    As much of a primary as an upgrade needs.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.running = True
        self.accepts = True
        self.unsettled: list[str] = []
        self.descriptions = ["tcp:3000"]
        self.import_seconds = 1.0
        self.problem: Exception | None = None

    def try_out(self, trial: Any) -> Deferred[None]:
        """
        All is well.
        """
        trial.settings = Settings().to_json()
        return succeed(None)

    def exclusively(self, act: Callable[[], Deferred[None]]) -> Deferred[None]:
        """
        Nothing else goes on.
        """
        return act()

    def pause(self) -> None:
        """
        Accept nobody.
        """
        assert self.accepts
        self.accepts = False

    def proceed(self) -> None:
        """
        Accept again.
        """
        assert not self.accepts
        self.accepts = True

    def dump_state(self) -> dict[str, Any]:
        """
        One descriptor.
        """
        if self.problem is not None:
            raise self.problem
        return {"port": {"descriptor": self.descriptor}}


class Rig:
    """
    An upgrade of that primary, in a directory, with a pid file.
    """

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.clock = Clock()
        self.primary = Primary(descriptor)
        self.directory = directory
        self.pid_file = directory / "twistd.pid"
        self.pid_file.write_text("1")
        self.executed: list[dict[str, Any]] = []
        self.problem: Exception | None = None
        self.also_problem: Exception | None = None
        self.upgrade = Upgrade(
            self.clock,
            cast("Any", self.primary),
            str(directory),
            self._forget_pid,
            SIGNALS,
            self._execute,
            self._also,
        )

    def _forget_pid(self) -> Callable[[], None]:
        self.pid_file.unlink()

        def remember() -> None:
            self.pid_file.write_text("1")

        return remember

    def _also(self) -> dict[str, Any]:
        if self.also_problem is not None:
            raise self.also_problem
        return {}

    def _execute(self, path: str, command: list[str], environment: Any) -> None:
        assert os.get_inheritable(self.primary.descriptor)
        assert os.getcwd() == str(self.directory)
        assert not self.pid_file.exists()
        assert not self.primary.accepts
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert blocked >= set(SIGNALS)
        copy = os.dup(int(environment[INHERIT]))
        state = take_inherited({INHERIT: str(copy)})
        assert state is not None
        self.executed.append(state)
        if self.problem is not None:
            raise self.problem

    def run(self, seconds: float = LONGEST_SECONDS + 1) -> list[str]:
        """
        Upgrade, and let time pass.

        :return: what the log says at the end of it.
        """
        with capturedLogs() as logged:
            self.upgrade.begin()
            passed = 0.0
            while passed < seconds:
                self.clock.advance(0.01)
                passed += 0.01
        return [formatEvent(event) for event in logged]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """
    Everything is afterwards as it was before.
    """
    descriptor, other = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    here = os.getcwd()
    rig = Rig(tmp_path, descriptor)
    yield rig
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers
    assert not os.get_inheritable(descriptor)
    assert os.getcwd() == here
    assert rig.pid_file.read_text() == "1"
    assert rig.primary.accepts or not rig.primary.running
    kept = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not any("memfd" in name for name in kept)
    os.close(descriptor)
    os.close(other)


def test_the_state_goes_over(rig: Rig) -> None:
    """
    The new code gets the state, its version and the settings that were tried.
    """
    rig.run()
    (state,) = rig.executed
    assert state["version"] == VERSION
    assert Settings.from_json(state["settings"]) == Settings()
    assert state["port"] == {"descriptor": rig.primary.descriptor}


@pytest.mark.parametrize(
    "problem",
    [OSError(errno.ENOEXEC, "no program"), RuntimeError("an error of ours"), OperatorError("no")],
)
@pytest.mark.parametrize("where", ["execute", "state", "also"])
def test_fault_19_any_error_in_between(rig: Rig, problem: Exception, where: str) -> None:
    """
    Fault 19: whatever fails, signals act, connections are accepted, files and descriptors are
    as before; and the next upgrade may go well.
    """
    if where == "execute":
        rig.problem = problem
    elif where == "state":
        rig.primary.problem = problem
    else:
        rig.also_problem = problem
    logged = rig.run()
    assert any(line.startswith("Not upgraded, nothing has changed") for line in logged)
    rig.problem = rig.primary.problem = rig.also_problem = None
    rig.executed.clear()
    rig.run()
    assert len(rig.executed) == 1


def test_fault_19_nobody_waits_for_a_worker_that_does_not_answer(rig: Rig) -> None:
    """
    Fault 19: it is named, and connections are accepted all the time.
    """
    rig.primary.unsettled = ["worker 7 (slot 1)"]
    with capturedLogs() as logged:
        rig.upgrade.begin()
        for _ in range(int(LONGEST_SECONDS / 0.01) + 10):
            assert rig.primary.accepts
            rig.clock.advance(0.01)
    assert formatEvent(logged[-1]).endswith("no answer from worker 7 (slot 1)")
    assert not rig.executed


def test_fault_19_workers_that_are_never_idle_together(rig: Rig) -> None:
    """
    Fault 19: each answers, but never all at once: connections are accepted in between, and the
    upgrade is given up in the end.
    """
    turns = 0
    longest = waiting = 0.0
    with capturedLogs() as logged:
        rig.upgrade.begin()
        while not any("Not upgraded" in formatEvent(event) for event in logged):
            turns += 1
            rig.primary.unsettled = [f"worker {turns % 2}"]
            rig.clock.advance(0.01)
            waiting = 0.0 if rig.primary.accepts else waiting + 0.01
            longest = max(longest, waiting)
    assert 0 < longest <= PAUSE_SECONDS + 0.02
    assert turns * 0.01 <= LONGEST_SECONDS + 3 * PAUSE_SECONDS


def test_fault_22_a_stop_ends_an_upgrade(rig: Rig) -> None:
    """
    Fault 22: a server that stops becomes no other program, and complains of nothing.
    """
    rig.primary.unsettled = ["worker 7 (slot 1)"]
    with capturedLogs() as logged:
        rig.upgrade.begin()
        rig.clock.advance(0.1)
        rig.primary.running = False
        rig.primary.unsettled = []
        rig.clock.advance(0.1)
    assert formatEvent(logged[-1]) == "Not upgraded: the server stops"
    assert not rig.executed


# what is told from one program to the other


def test_the_trial_answers_with_its_settings() -> None:
    """
    The child is told what its parent listens on, and answers with what it would run with.
    """
    reader, writer = os.pipe()
    environment = {PREFLIGHT: Preflight(["tcp:3000"], writer).text()}
    told = take_preflight(environment)
    assert told == Preflight(["tcp:3000"], writer)
    assert environment == {}
    assert not os.get_inheritable(writer)
    settings = Settings.read({"workers": 3})
    told.accept(settings)
    with os.fdopen(reader, "rb") as answer:
        assert Settings.from_json(accepted_settings(answer.read())) == settings


def test_nobody_says_anything() -> None:
    """
    Without these variables a process is neither.
    """
    assert take_preflight({}) is None
    assert take_inherited({}) is None


@pytest.mark.parametrize(
    "told",
    [
        ["tcp:3000"],
        {"version": VERSION + 1, "endpoints": [], "answer": 0},
        {"endpoints": [], "answer": 0},
    ],
)
def test_a_trial_refuses_the_state_of_another_version(told: object) -> None:
    """
    What version 1 told the trial was a list, and no version.
    """
    with pytest.raises(OperatorError, match="restart instead of upgrading"):
        take_preflight({PREFLIGHT: json.dumps(told)})


@pytest.mark.parametrize("version", [1, VERSION + 1, None])
def test_a_successor_refuses_the_state_of_another_version(version: int | None) -> None:
    """
    Though it should have been refused before.
    """
    descriptor = os.memfd_create("state")
    os.write(descriptor, json.dumps({"version": version}).encode())
    with pytest.raises(OperatorError, match="restart instead of upgrading"):
        take_inherited({INHERIT: str(descriptor)})


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b"3", b'{"version": 2}', b'{"version": 99, "settings": "{}"}']
)
def test_code_that_does_not_answer_so_is_refused(answer: bytes) -> None:
    """
    It may be older than the question.
    """
    with pytest.raises(OperatorError, match="restart instead of upgrading"):
        accepted_settings(answer)

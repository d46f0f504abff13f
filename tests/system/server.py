"""
A real ``twistd -n stickyd``: its process, its log, its workers.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.system.log import PATIENCE, Log
from tests.system.processes import (
    Watched,
    all_end_within,
    children_of,
    descriptors_of,
    eventually,
    processes_marked,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]

CONTROLLED = ROOT / "tests" / "system" / "controlled.tac"

#: Seconds after which a test gives up waiting for a change of the whole fleet, under load.
LONG = 60.0

#: The tests' own socket is the server's descriptor 3, as systemd would pass it.
HANDED = "systemd:domain=INET:index=0"

#: sd_listen_fds(3) wants the pid of the process itself, so a shell sets that variable and then
#: becomes the server.  The socket comes as standard input, where Popen can put it, and the shell
#: moves it to descriptor 3.
_ACTIVATE = 'export LISTEN_PID=$$; exec "$@" 3<&0 0</dev/null'

#: What the log of a server that nothing has gone wrong with does not contain.
COMPLAINTS = re.compile(r"#(warn|error|critical)\]|Traceback|Unhandled")

#: The last line of a traceback, which a worker has printed.
_TRACE_END = re.compile(r"\] \w+(Error|Exception)\b")

#: What the log says of a test's clients, which are few: one of them has most of the connections
#: whenever the others wait for their worker.
_OF_FEW_CLIENTS = "have the affinity key of"

#: What precedes the complaint of an application that cannot be imported any more.
_OF_IMPORTS = ("The application cannot be imported:", r"^\tTraceback")

_STARTED = re.compile(r"(?:Worker (\d+) started \(slot|Spare worker (\d+) takes slot) (\d+)")
_ONLINE = re.compile(r"Worker (\d+) online")
_LISTENING = re.compile(r"listening on \S+ \((?:.*:(\d+))?")


def twistd(*arguments: str) -> list[str]:
    """
    The command line of ``twistd``, the one of this interpreter.
    """
    return [str(Path(sys.executable).with_name("twistd")), *arguments]


def environment(**extra: str) -> dict[str, str]:
    """
    The environment in which ``twistd`` finds this checkout.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **extra}


@dataclass(frozen=True)
class StartedWorker:
    """
    A worker that the log has told of.
    """

    pid: int
    slot: int


class Server:
    """
    A running primary.

    :ivar started: every worker that it has started, oldest first.
    :ivar log: what it wrote.
    :ivar port: where it listens, once :meth:`wait_until_ready` has returned.
    """

    def __init__(
        self,
        *arguments: str,
        workers: int = 2,
        listen: str = HANDED,
        variables: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
        embedded: bool = False,
        directory: Path = ROOT,
        twistd_options: Sequence[str] = ("-n", "--pidfile="),
        before: Sequence[str] = (),
    ) -> None:
        """
        Start it.

        :param arguments: options of ``twistd stickyd``.
        :param listen: an endpoint; by default the server is handed a socket that is
            bound here, to 127.0.0.1 and a port that the kernel chose.
        :param variables: more variables of the environment.
        :param listener: a socket to hand to it instead of a new one; it stays the caller's.
        :param embedded: run it as a part of ``controlled.tac``, see :meth:`ask`.
        :param directory: where it is started.
        :param before: the command that runs it, and becomes it.
        """
        self.workers = workers
        self.started: list[StartedWorker] = []
        self.port = 0
        self._mark = f"STICKYD_TEST={uuid.uuid4()}"
        self._allowed = [_OF_FEW_CLIENTS, *_OF_IMPORTS]
        self._allowed_traces: list[str] = []
        name, _, value = self._mark.partition("=")
        options = ["--listen", listen, "--workers", str(workers)]
        if "--log-format" not in arguments:
            options += ["--log-format", "twisted"]  # which the patterns of the tests are for
        options += arguments
        program = ["-y", str(CONTROLLED)] if embedded else ["stickyd", *options]
        command = twistd(*twistd_options, *program)
        settings = environment(
            LISTEN_FDS="1", LISTEN_FDNAMES="http", **{name: value}, **(variables or {})
        )
        self._control: IO[str] | None = None
        if embedded:
            ours, theirs = socket.socketpair()
            self._control = ours.makefile("rw")
            ours.close()
            theirs.set_inheritable(True)
            settings["STICKYD_TEST_OPTIONS"] = json.dumps(options)
            settings["STICKYD_TEST_CONTROL"] = str(theirs.fileno())
        with socket.socket() if listener is None else listener.dup() as handed:
            is_handed = listen.startswith("systemd:")
            if is_handed and listener is None:
                handed.bind(("127.0.0.1", 0))
                handed.listen(socket.SOMAXCONN)
            if is_handed and handed.family != socket.AF_UNIX:
                self.port = handed.getsockname()[1]
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _ACTIVATE, "sh", *before, *command],
                stdin=handed.fileno() if is_handed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=settings,
                cwd=directory,
                pass_fds=(theirs.fileno(),) if embedded else (),
                # A group of its own, to be sent what a terminal sends to the whole group.
                start_new_session=True,
            )
        if embedded:
            theirs.close()
        self.pid = self.process.pid
        assert self.process.stdout is not None
        self.log = Log(self.process.stdout, self._notice)

    def _notice(self, line: str) -> None:
        started = _STARTED.search(line)
        if started is not None:
            self.started.append(StartedWorker(int(started[1] or started[2]), int(started[3])))

    # what is known of it

    @property
    def target(self) -> tuple[str, int]:
        """
        Where clients connect.
        """
        return "127.0.0.1", self.port

    def wait_until_ready(self) -> None:
        """
        Wait until every slot has a worker that serves.
        """
        listening = self.log.wait_for(_LISTENING.pattern, timeout=LONG)
        self.port = self.port or int(listening[1] or 0)
        self.log.wait_for(_ONLINE.pattern, count=self.workers, timeout=LONG)

    def worker(self, slot: int) -> int:
        """
        The pid of the worker that occupies a slot, or was the last to.
        """
        return next(worker.pid for worker in reversed(self.started) if worker.slot == slot)

    def slot_of(self, pid: int) -> int:
        """
        The slot that a worker occupies or occupied.
        """
        return next(worker.slot for worker in self.started if worker.pid == pid)

    def serving(self) -> list[int]:
        """
        The pids of the workers that have come online and have not died, by the log.
        """
        online = [int(match[1]) for match in self.log.found(_ONLINE.pattern)]
        gone = {int(match[1]) for match in self.log.found(r"Worker (\d+) \(slot \d+\) ")}
        return [pid for pid in online if pid not in gone]

    def wait_for_successor(self, pid: int) -> int:
        """
        Wait until another worker serves in the slot of a dead one.

        :return: its pid.
        """
        slot = self.slot_of(pid)
        successor = self.log.wait_for(
            rf"Worker (?!{pid} )(\d+) started \(slot {slot}\)",
            since=self._line_of(f"Worker {pid} started"),
        )
        self.log.wait_for(f"Worker {successor[1]} online")
        return int(successor[1])

    def _line_of(self, text: str) -> int:
        return next(number for number, line in enumerate(self.log.lines) if text in line)

    def descriptors(self) -> dict[int, int]:
        """
        How many descriptors are open, by process: the primary and its present workers.
        """
        pids = [self.pid, *(self.worker(slot) for slot in range(self.workers))]
        return {pid: len(descriptors_of(pid)) for pid in pids}

    def watch_workers(self) -> list[Watched]:
        """
        Watch the worker of every slot.
        """
        return [Watched(self.worker(slot)) for slot in range(self.workers)]

    # doing things to it

    def ask(self, command: str) -> str:
        """
        Have an embedded one do something: ``drain 1``, ``undrain 1``, ``resize 3``, ``reload``.

        :return: the reason why it was not done, or an empty text.
        """
        assert self._control is not None
        self._control.write(command + "\n")
        self._control.flush()
        return self._control.readline().rstrip("\n")

    def send(self, signum: signal.Signals) -> None:
        """
        Send a signal to the primary alone.
        """
        os.kill(self.pid, signum)

    def pause(self, seconds: float) -> None:
        """
        Leave the machine to the server for a moment.  No test may depend on how long.
        """
        threading.Event().wait(seconds)

    def reload(self, timeout: float = LONG) -> None:
        """
        Reload by SIGHUP, and wait until every worker is fresh.
        """
        since = self.log.mark()
        self.send(signal.SIGHUP)
        self.log.wait_for("Reloaded: every worker is fresh", since, timeout=timeout)

    def resize_to(self, count: int, timeout: float = LONG) -> None:
        """
        Resize by signals, and wait until that is done.
        """
        since = self.log.mark()
        difference = count - self.workers
        for _ in range(abs(difference)):
            self.send(signal.SIGTTIN if difference > 0 else signal.SIGTTOU)
            # The kernel keeps one pending signal of a kind.
            self.log.wait_for("Received SIGTT", since, timeout=timeout)
            self.log.wait_for("Resized from", since, timeout=timeout)
            since = self.log.mark()
        self.workers = count

    def upgrade(self, timeout: float = LONG) -> None:
        """
        Upgrade by SIGUSR2, and wait until the workers are fresh too.
        """
        since = self.log.mark()
        self.send(signal.SIGUSR2)
        self.log.wait_for(rf"Primary {self.pid} running", since, timeout=timeout)
        self.log.wait_for("Reloaded: every worker is fresh", since, timeout=timeout)

    def allow(self, *patterns: str) -> None:
        """
        Say which complaints the log may contain.
        """
        self._allowed.extend(patterns)

    def allow_traceback(self, pattern: str) -> None:
        """
        Say which traceback the log may contain: one with a line that matches.
        """
        self._allowed_traces.append(pattern)

    def _is_allowed(self, number: int) -> bool:
        lines = self.log.lines
        if any(re.search(pattern, lines[number]) for pattern in self._allowed):
            return True
        trace = []
        for line in lines[number:]:
            trace.append(line)
            if _TRACE_END.search(line):
                break
        return any(re.search(pattern, "\n".join(trace)) for pattern in self._allowed_traces)

    def suspend(self, pid: int) -> None:
        """
        Stop a process where it stands, as by Ctrl-Z; return when it stands.
        """
        os.kill(pid, signal.SIGSTOP)
        assert eventually(lambda: state_of(pid) == "T"), f"{pid} does not stop"

    def resume(self, pid: int) -> None:
        """
        Let a suspended process go on.
        """
        os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """
        Kill the primary alone, by SIGKILL, and wait until the fork server has noticed.
        """
        below = children_of(self.pid).items()
        forks = [Watched(pid) for pid, line in below if line.endswith("--fork-server")]
        self.process.kill()
        self.process.wait()
        assert all_end_within(forks, PATIENCE), "the fork server outlives its primary"

    def signal_group(self, signum: signal.Signals) -> None:
        """
        Send a signal to the primary and its workers all at once, as a terminal does.
        """
        os.killpg(self.pid, signum)

    def limit_descriptors(self, pid: int, limit: int) -> None:
        """
        Set the soft limit of open files of a running process; the hard one stays.
        """
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))

    def wait_until_gone(self, timeout: float = PATIENCE) -> int:
        """
        Wait until the primary has exited.

        :return: its exit code.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the server did not exit within {timeout:g} s:\n{self.log.text}"
            ) from None

    def stop(self, timeout: float = PATIENCE) -> None:
        """
        Stop it by SIGTERM, as a service manager does, and check that it ends well.
        """
        if self.process.poll() is None:
            self.process.terminate()
        code = self.wait_until_gone(timeout)
        assert code == 0, f"exit code {code}:\n{self.log.text}"
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        """
        Check that no process is left, and that the log has no complaint but those allowed.
        """
        left = processes_marked(self._mark)
        assert not left, f"left behind: {left}\n{self.log.text}"
        self.log.wait_for_end()
        lines = self.log.lines
        complaints = [
            # A traceback says most in its last lines.
            "\n".join(lines[number : number + 40])
            for number, line in enumerate(lines)
            if COMPLAINTS.search(line) and not self._is_allowed(number)
        ]
        assert not complaints, "unexpected in the log:\n" + "\n".join(complaints)

    def destroy(self) -> None:
        """
        End whatever is left of it.  Never fails.
        """
        for pid in processes_marked(self._mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster
        self.process.wait()
        if self._control is not None:
            self._control.close()
        self.log.wait_for_end()

"""
The kernel says no for a while: nothing is lost, and nothing spins.

``strace -e inject`` has system calls of a running process fail, as a machine without
memory, descriptors or room in a socket does.  strace says which calls it has had fail, and
a fault that did not happen fails the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.system.client import ask_once
from tests.system.processes import cpu_seconds, eventually
from tests.system.server import LONG, Server
from tests.system.under_load import UnderLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from tests.system.conftest import Start

#: Which calls fail, and how; each as the manual page of the call says that it may.
ACCEPTING = [("accept4", "EMFILE"), ("accept4", "ENOBUFS")]
PASSING = [("sendmsg", "EAGAIN"), ("sendmsg", "ENOBUFS"), ("sendmsg", "ETOOMANYREFS")]
TAKING = [("recvmsg", "EAGAIN"), ("recvmsg", "ENOBUFS"), ("recvmsg", "ENOMEM")]
#: Acknowledgements, and answers to clients.
SENDING = [("sendto", "EAGAIN")]

#: How often each must have failed, in the form that always runs and in the long one.
SOME, MANY = 6, 60

KERNEL = ("--steering", "kernel")


class Injected:
    """
    A fault in every third call of a process, while the ``with`` block runs.
    """

    def __init__(self, pid: int, call: str, error: str, directory: Path) -> None:
        self._output = directory / f"strace-{pid}-{call}-{error}"
        self._said = f"-1 {error} "
        self._pid = pid
        self._command = ["strace", "-f", "-qq", "-o", str(self._output), "-p", str(pid),
                         "-e", f"trace={call}", "-e",
                         f"inject={call}:error={error}:when=2+3"]  # fmt: skip

    def __enter__(self) -> Self:
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        # Not in the middle of a call: who is let go between its beginning and its end sees
        # ENOSYS, which no kernel says.
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGSTOP)
        assert eventually(lambda: self._has_said("--- stopped by SIGSTOP ---") or self._is_over)
        self._strace.terminate()
        complaint = self._strace.communicate()[1]
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)
        # It ends itself by the signal that it was sent, if it could trace at all; or it was
        # over already because the process was.
        assert self._strace.returncode in (-15, 143, 0), complaint.decode()

    @property
    def _is_over(self) -> bool:
        return self._strace.poll() is not None

    def _has_said(self, text: str) -> bool:
        return any(text in line for line in self._lines())

    def _lines(self) -> list[str]:
        return self._output.read_text().splitlines() if self._output.exists() else []

    @property
    def times(self) -> int:
        """
        How often it has happened so far.
        """
        return sum(self._said in line and line.endswith("(INJECTED)") for line in self._lines())

    def wait_for(self, times: int) -> None:
        """
        Wait until it has happened so often.
        """
        assert eventually(lambda: self.times >= times, LONG), f"{self.times} of {times} faults"


def have_fail(
    server: Server,
    program: Path,
    directory: Path,
    faults: Sequence[tuple[int, str, str]],
    times: int,
) -> None:
    """
    Have calls of processes fail under load, one kind after the other.

    :param faults: pid, call and error of each.
    """
    server.allow("Accepting pauses")
    happened = {}
    with UnderLoad(program, server, directory, 2, mode="close") as load:
        for pid, call, error in faults:
            with Injected(pid, call, error, directory) as injected:
                injected.wait_for(times)
                happened[call, error] = injected.times
    load.check_nothing_was_lost()
    # Whatever paused goes on, and whatever is over does not keep it busy.
    before = cpu_seconds(server.pid)
    server.pause(1)
    assert cpu_seconds(server.pid) - before < 0.3
    for source in ("127.0.0.2", "127.0.0.3", "127.0.0.5"):
        assert ask_once(server.target, source).status == 200
    # The figures of docs/reliability.md.
    named = ", ".join(f"{call} {error} {count}" for (call, error), count in happened.items())
    print(f"| {named} | {load.outcome.begun:,} | {load.outcome.failed} |")  # noqa: T201


def fail_in_the_primary(start: Start, program: Path, directory: Path, times: int) -> None:
    """
    Have the primary fail to accept, to pass on, to hear.
    """
    server = start(workers=2)
    faults = [(server.pid, *fault) for fault in (*ACCEPTING, *PASSING, *TAKING)]
    have_fail(server, program, directory, faults, times)
    server.log.wait_for("Accepting pauses")


def fail_in_a_worker(start: Start, program: Path, directory: Path, times: int) -> None:
    """
    Have a worker fail to take, to acknowledge, to answer.
    """
    server = start(workers=2)
    faults = [(server.worker(0), *fault) for fault in (*TAKING, *SENDING)]
    have_fail(server, program, directory, faults, times)


def fail_to_accept_in_a_worker(
    start: Start, program: Path, directory: Path, times: int
) -> None:  # fmt: skip
    """
    Have a worker that accepts for itself fail to.
    """
    server = start(*KERNEL, workers=2, listen="tcp:0:interface=127.0.0.1")
    faults = [(server.worker(0), *fault) for fault in ACCEPTING]
    have_fail(server, program, directory, faults, times)
    server.log.wait_for(r"\[worker \d+ slot 0\] .*Accepting pauses")


def fail_to_give_back(
    start: Start, program: Path, directory: Path, errors: Sequence[tuple[str, str]]
) -> None:
    """
    Have workers that are relieved fail to give back their connections.
    """
    server = start(workers=2)
    for call, error in errors:
        with UnderLoad(program, server, directory, 0) as load:
            # Idle connections are there to be given back once all clients have come.
            server.pause(0.5)
            with Injected(server.worker(0), call, error, directory) as injected:
                server.reload()
        load.check_nothing_was_lost()
        assert injected.times
        print(f"| {call} {error} {injected.times} | {load.outcome.begun:,} | 0 |")  # noqa: T201


def test_shortages_in_the_primary_pass(
    start: Start, load_program: Path, tmp_path: Path
) -> None:  # fmt: skip
    """
    A call that fails now and then in the primary costs nobody anything.
    """
    fail_in_the_primary(start, load_program, tmp_path, SOME)


def test_shortages_in_a_worker_pass(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    A call that fails now and then in a worker costs nobody anything.
    """
    fail_in_a_worker(start, load_program, tmp_path, SOME)


def test_shortages_in_a_worker_that_accepts_pass(
    start: Start, load_program: Path, tmp_path: Path
) -> None:
    """
    The same where the kernel steers, and the worker has no descriptor to accept with.
    """
    fail_to_accept_in_a_worker(start, load_program, tmp_path, SOME)


def test_shortages_at_a_reload_pass(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    The same when a worker that is relieved gives back its connections.
    """
    fail_to_give_back(start, load_program, tmp_path, PASSING[-1:])


@pytest.mark.soak
@pytest.mark.parametrize(
    "fail", [fail_in_the_primary, fail_in_a_worker, fail_to_accept_in_a_worker]
)
def test_many_shortages_pass(
    fail: Callable[[Start, Path, Path, int], None],
    start: Start,
    load_program: Path,
    tmp_path: Path,
) -> None:
    """
    The same, ten times as often.
    """
    fail(start, load_program, tmp_path, MANY)


@pytest.mark.soak
def test_every_shortage_at_a_reload_passes(
    start: Start, load_program: Path, tmp_path: Path
) -> None:
    """
    The same when connections are given back, for every shortage.
    """
    fail_to_give_back(start, load_program, tmp_path, PASSING)


def test_a_full_disk_for_the_log(load_program: Path, tmp_path: Path) -> None:
    """
    A log that cannot be written does not stop the server.
    """
    server = Server(twistd_options=("-n", "--pidfile=", "--logfile=/dev/full"))
    try:
        while True:
            try:
                assert ask_once(server.target).counted[1] >= 1
            except OSError:
                server.pause(0.05)
            else:
                break
        with UnderLoad(load_program, server, tmp_path, 2) as load:
            server.pause(1)
        load.check_nothing_was_lost()
        server.process.terminate()
        assert server.wait_until_gone() == 0
    finally:
        server.destroy()

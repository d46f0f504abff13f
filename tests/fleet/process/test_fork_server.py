"""
The fork server as the primary sees it: here without a process, which the test plays.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.process import reapProcessHandlers
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stickyd.control.commands import CONTROL_DESCRIPTOR
from stickyd.control.forking import (
    FORK_SERVER,
    WORKER_DESCRIPTORS,
    read_order,
    read_preload,
    write_answer,
    write_preloaded,
)
from stickyd.fleet.process import fork_server
from stickyd.fleet.process.adopted_process import AdoptedProcess
from stickyd.fleet.process.launcher import MOST_FAILURES, Launcher
from stickyd.fleet.process.output_share import OutputShare
from stickyd.fleet.process.spec import WorkerSpec
from stickyd.settings import Settings
from stickyd.testing import FakeReadiness
from tests.channels import open_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SETTINGS = Settings.read({"start_timeout": 20.0})


class Process:
    """
    As much of a process as is used of it.
    """

    def __init__(self, reactor: Reactor, number: int, protocol: Any, channel: int | None) -> None:
        self._reactor = reactor
        self.pid = 4000 + number
        self.protocol = protocol
        self.pipes: dict[int, object] = {}
        self.has_ended = False
        self.channel = None if channel is None else socket.socket(fileno=os.dup(channel))

    def signalProcess(self, signum: int) -> None:  # noqa: N802 - Twisted's
        assert signum == signal.SIGKILL
        if self.has_ended:
            raise ProcessExitedAlready
        self.die()

    def die(self) -> None:
        """
        End, and have that told.
        """
        self.has_ended = True
        if self.channel is not None:
            self.channel.close()
        killed = Failure(ProcessTerminated(None, signal.SIGKILL, 9))
        self._reactor.callLater(0, self.protocol.processExited, killed)


class Reactor(Clock):
    """
    Starts processes that are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.arguments: list[list[str]] = []
        self.problem = 0

    def spawnProcess(  # noqa: N802 - Twisted's
        self,
        protocol: Any,
        executable: str,
        arguments: list[str],
        env: None,
        uid: int | None,
        gid: int | None,
        childFDs: Mapping[int, Any],  # noqa: N803
    ) -> Process:
        if self.problem:
            raise OSError(self.problem, os.strerror(self.problem))
        serves = FORK_SERVER in arguments
        channel = childFDs[CONTROL_DESCRIPTOR] if serves else None
        self.arguments.append(arguments)
        self.processes.append(Process(self, len(self.processes), protocol, channel))
        return self.processes[-1]


class Rig:
    """
    What starts workers, and what it starts.
    """

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.readiness = FakeReadiness(self.reactor)
        self.spec = WorkerSpec(["python", "-m", "worker"], SETTINGS)
        share = OutputShare(self.reactor.seconds)
        self.launcher = Launcher(
            cast("Any", self.reactor), self.readiness, self.spec, share, forks=True
        )
        self.told: list[str] = []

    def ask(self) -> None:
        """
        Want a worker.
        """
        self.launcher.call_when_ready(lambda: self.told.append("now"))

    @property
    def server(self) -> socket.socket:
        """
        The last server's end of its channel.
        """
        channel = self.reactor.processes[-1].channel
        assert channel is not None
        return channel

    def turn(self) -> None:
        """
        Let the primary read what is there.
        """
        for read in list(self.readiness.readers.values()):
            read()

    def ready(self, refusal: str = "") -> None:
        """
        Have the last server answer that it can fork, or why not.
        """
        self.server.recv(100_000)
        self.server.send(write_preloaded(refusal))
        self.turn()

    def start(self, spec: WorkerSpec | None = None) -> Any:
        """
        Start a worker.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.devnull) as page:
            process, control = self.launcher.start(
                cast("Any", Heard()), spec or self.spec, "3", ours, page.fileno(), theirs
            )
        control.close()
        return process


class Heard:
    """
    As much of a worker as a process tells.
    """

    def childDataReceived(self, number: int, data: bytes) -> None:  # noqa: N802 - Twisted's
        raise AssertionError(data)

    def processExited(self, reason: Failure) -> None:  # noqa: N802 - Twisted's
        pass


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A rig of which nothing is left.
    """
    before = open_sockets()
    rig = Rig()
    yield rig
    rig.launcher.stop()
    rig.reactor.advance(0)
    assert rig.launcher.pids == []
    assert not rig.reactor.getDelayedCalls()
    assert open_sockets() == before


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """
    A child of this process.
    """
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        reapProcessHandlers.pop(process.pid, None)
        process.kill()


def test_first_worker_waits_for_the_server(rig: Rig) -> None:
    """
    The server is started when a worker is wanted, is told what to import, and is waited for.
    """
    assert rig.reactor.processes == []
    rig.ask()
    rig.ask()
    assert rig.told == []
    assert rig.reactor.arguments == [["python", "-m", "worker", FORK_SERVER]]
    settings, path = read_preload(rig.server.recv(100_000))
    assert Settings.from_json(settings) == SETTINGS
    assert path == [entry for entry in sys.path if entry]
    rig.server.send(write_preloaded(""))
    rig.turn()
    assert rig.told == ["now", "now"]
    rig.ask()
    assert rig.told == ["now"] * 3
    assert rig.launcher.pids == [4000]


def answer_next(rig: Rig, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """
    Have the server answer as soon as it is asked.

    :return: gets the orders that it reads, and how many descriptors came with each.
    """
    heard: list[str] = []
    send_fds = socket.send_fds

    def send(sock: socket.socket, parts: list[bytes], descriptors: list[int]) -> int:
        sent = send_fds(sock, parts, descriptors)
        order, received, _, _ = socket.recv_fds(rig.server, 4096, 16)
        heard.append(f"{read_order(order)}, {len(received)}")
        for descriptor in received:
            os.close(descriptor)
        rig.server.send(answer)
        return sent

    monkeypatch.setattr(socket, "send_fds", send)
    return heard


def test_a_forked_worker_is_ours(
    rig: Rig, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The order has the place and all descriptors with it; the process is watched from then on, and
    a second answer that names it is a breach.
    """
    rig.ask()
    rig.ready()
    heard = answer_next(rig, write_answer(child.pid), monkeypatch)
    process = rig.start()
    assert isinstance(process, AdoptedProcess)
    assert process.pid == child.pid
    assert sorted(process.pipes) == [1, 2]
    assert heard == [f"3, {len(WORKER_DESCRIPTORS)}"]
    # It has said so before.
    assert not isinstance(rig.start(), AdoptedProcess)
    assert rig.reactor.processes[0].has_ended
    for pipe in process.pipes.values():
        os.close(pipe)


@pytest.mark.parametrize(
    "answer",
    [b"", b"what?", write_answer(1), write_answer(os.getpid()), write_answer(os.getppid())],
    ids=["nothing", "garbage", "process 1", "ourselves", "our parent"],
)
def test_a_server_that_breaks_the_protocol_is_ended(
    rig: Rig, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whatever it says that cannot be, nobody is killed or waited for on its word: it is ended, and
    the worker is started anew.
    """
    rig.ask()
    rig.ready()
    answer_next(rig, answer, monkeypatch)
    assert not isinstance(rig.start(), AdoptedProcess)
    assert rig.reactor.processes[0].has_ended
    assert rig.reactor.arguments[-1][-2:] == ["--slot", "3"]


def test_want_of_a_process_is_the_workers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A machine that has no process to spare has none for a new start either.
    """
    rig.ask()
    rig.ready()
    answer_next(rig, write_answer(-errno.EAGAIN), monkeypatch)
    with pytest.raises(BlockingIOError):
        rig.start()
    assert not rig.reactor.processes[0].has_ended
    assert len(rig.reactor.processes) == 1


def test_a_server_that_hangs_is_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is waited for no longer than it may take.
    """
    monkeypatch.setattr(fork_server, "FORK_SECONDS", 0.01)
    monkeypatch.setattr(fork_server, "SECOND_LOOK_SECONDS", 0.01)
    rig.ask()
    rig.ready()
    assert not isinstance(rig.start(), AdoptedProcess)
    assert rig.reactor.processes[0].has_ended


class Late:
    """
    As much of a channel as is used, with an answer that comes when the first time is over.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []

    def settimeout(self, seconds: float) -> None:
        self.waits.append(seconds)

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def recv(self, count: int) -> bytes:
        if len(self.waits) == 1:
            raise TimeoutError
        return b"answer"


def test_a_server_that_stood_still_is_waited_for_once_more() -> None:
    """
    An answer that comes when its time is over is taken, if it comes soon.
    """
    channel: Any = Late()
    assert fork_server._await_answer(channel) == b"answer"
    assert channel.waits == [fork_server.FORK_SECONDS, fork_server.SECOND_LOOK_SECONDS]


def test_unasked_words_are_a_breach(rig: Rig) -> None:
    """
    One that speaks unasked is ended; the next worker has a new one.
    """
    rig.ask()
    rig.ready()
    rig.server.send(write_answer(4711))
    rig.turn()
    assert rig.reactor.processes[0].has_ended
    rig.ask()
    assert len(rig.reactor.processes) == 2


def test_a_refusal_stands_until_the_next_reload(rig: Rig) -> None:
    """
    A server that must not fork is not asked again, until something may have changed.
    """
    rig.ask()
    rig.ready("threads run")
    assert rig.told == ["now"]
    assert rig.reactor.processes[0].has_ended
    rig.ask()
    assert rig.told == ["now"] * 2
    assert len(rig.reactor.processes) == 1
    rig.launcher.renew(rig.spec)
    rig.ask()
    assert len(rig.reactor.processes) == 2


def test_servers_that_end_are_tried_no_more(rig: Rig) -> None:
    """
    After a few in a row that end before a worker was forked, workers are started anew.
    """
    for attempt in range(MOST_FAILURES):
        rig.ask()
        assert len(rig.reactor.processes) == attempt + 1
        rig.reactor.processes[-1].die()
        rig.turn()
        rig.reactor.advance(0)
        assert len(rig.told) == attempt + 1
    rig.ask()
    assert len(rig.reactor.processes) == MOST_FAILURES
    assert len(rig.told) == MOST_FAILURES + 1


def test_a_server_that_imports_for_ever_is_ended(rig: Rig) -> None:
    """
    It has as long as a worker would have.
    """
    rig.ask()
    rig.reactor.advance(SETTINGS.start_timeout - 1)
    assert rig.told == []
    rig.reactor.advance(1)
    assert rig.told == ["now"]
    assert rig.reactor.processes[0].has_ended


def test_a_server_that_cannot_be_started(rig: Rig) -> None:
    """
    Nothing is left open, and the worker is not kept waiting.
    """
    rig.reactor.problem = errno.EAGAIN
    rig.ask()
    assert rig.told == ["now"]
    with pytest.raises(BlockingIOError):
        rig.start()


def test_a_reload_has_a_server_of_its_own(rig: Rig) -> None:
    """
    What is installed by then may be newer: the former server is ended, and who waits for it is
    not forgotten.
    """
    rig.ask()
    rig.launcher.renew(rig.spec)
    assert rig.told == ["now"]
    assert rig.reactor.processes[0].has_ended
    rig.ask()
    rig.ready()
    assert rig.told == ["now"] * 2
    rig.reactor.advance(0)
    assert rig.launcher.pids == [4001]


def test_who_waits_for_a_server_is_forgotten_at_a_stop(rig: Rig) -> None:
    """
    No process is started only to be ended.
    """
    rig.ask()
    told: list[object] = []
    rig.launcher.stop().addCallback(told.append)
    assert told == []
    rig.reactor.advance(0)
    assert told == [[None]]
    assert rig.told == []


def test_a_worker_of_another_user_is_started_anew(rig: Rig) -> None:
    """
    A worker of before a reload is not forked as the user of after it.
    """
    rig.ask()
    rig.ready()
    process = rig.start(WorkerSpec(rig.spec.command, SETTINGS, uid=1234))
    assert not isinstance(process, AdoptedProcess)
    assert not rig.reactor.processes[0].has_ended


def test_nothing_is_kept_of_servers_that_have_ended(rig: Rig) -> None:
    """
    However many reloads there are.  None of them logs anything, which the test's log would keep.
    """

    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, fork_server.ForkServer) for each in gc.get_objects())

    before = kept()
    for _ in range(20):
        rig.ask()
        rig.launcher.renew(rig.spec)
        rig.reactor.advance(0)
        rig.reactor.processes.clear()
    rig.ask()
    assert kept() == before + 1

"""
The fork server, seen from the primary: see :mod:`stickyd.worker.fork_server`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.process import reapProcessHandlers
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from typing_extensions import override

from stickyd.control.commands import CONTROL_DESCRIPTOR, shown
from stickyd.control.forking import (
    FORK_SERVER,
    read_answer,
    read_preloaded,
    write_order,
    write_preload,
)
from stickyd.errors import ControlError
from stickyd.fleet.process.label import WorkerLabel
from stickyd.fleet.process.output import OutputRelay
from stickyd.fleet.process.pipes import set_reading
from stickyd.fleet.process.spawning import spawn
from stickyd.fleet.process.termination import describe_death
from stickyd.net.waiters import Waiters
from stickyd.system.subreaper import adopting_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IProcessTransport
    from twisted.python.failure import Failure

    from stickyd.fleet.process.output_share import OutputShare
    from stickyd.fleet.process.spec import IWorkerReactor, WorkerSpec
    from stickyd.interfaces import IReadiness

#: Seconds that it may take to fork a worker.  This process waits for it, as it does for its own
#: fork(2); it takes some ms.
FORK_SECONDS = 2.0

#: Seconds for which it is waited for once more: where all of the machine stood still, time has run
#: out for a server that had no time.
SECOND_LOOK_SECONDS = 1.0

_ANSWER_BYTES = 4096


class ForkServer(ProcessProtocol):
    """
    One process of that kind, from its start to its end.

    :ivar is_ready: whether it forks workers.
    :ivar has_ended: whether the process is gone.
    :ivar refusal: why it must not fork, if it has said so.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        spec: WorkerSpec,
        share: OutputShare,
    ) -> None:
        """
        :param spec: what the workers are started with.
        :param share: how much of its output is logged at a time.
        """
        self._reactor = reactor
        self._readiness = readiness
        self._spec = spec
        self._label = WorkerLabel(None, "fork server")
        self._output = OutputRelay(reactor, share, self._label, self._read_output)
        self._process: IProcessTransport | None = None
        self._channel: socket.socket | None = None
        self._overdue: IDelayedCall | None = None
        self._waiting: list[Callable[[], object]] = []
        self._ended = Waiters()
        self._is_wanted = True
        self.is_ready = False
        self.has_ended = False
        self.refusal = ""

    @property
    def pid(self) -> int:
        """
        Its process id; 0 before it has one.
        """
        return self._label.pid

    @property
    def is_over(self) -> bool:
        """
        Whether it forks no more workers, and never will.
        """
        return self._channel is None

    def start(self) -> None:
        """
        Start the process, and have it import what workers need.

        :raises OSError: if the machine cannot start one more process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = self._spec.settings
        path = [entry for entry in sys.path if entry]
        try:
            with theirs:
                descriptors = {CONTROL_DESCRIPTOR: theirs.fileno()}
                process = spawn(self._reactor, self, self._spec, [FORK_SERVER], descriptors)
            self._process = process
            self._label.begin(process.pid or 0)
            ours.setblocking(False)
            ours.send(write_preload(settings.to_json(), path))
        except OSError:
            # One that was started ends, as nobody speaks to it.
            self._is_wanted = False
            ours.close()
            raise
        self._channel = ours
        self._readiness.add_reader(ours.fileno(), self._read)
        self._overdue = self._reactor.callLater(settings.start_timeout, self._be_late)

    def call_when_decided(self, call: Callable[[], object]) -> None:
        """
        Have ``call`` called when it is ready, or will never be: now, if that is so already.
        """
        if self.is_ready or self.is_over:
            call()
        else:
            self._waiting.append(call)

    def forget_waiting(self) -> None:
        """
        Call nobody who waits: nothing is to be started any more.
        """
        self._waiting = []

    def serves(self, spec: WorkerSpec) -> bool:
        """
        Whether it is ready, and what it forks is what this says.
        """
        mine = self._spec
        return self.is_ready and (spec.command, spec.uid, spec.gid) == (
            mine.command,
            mine.uid,
            mine.gid,
        )

    def fork(self, place: str, descriptors: Sequence[int]) -> int:
        """
        Have it fork a worker, which is a child of this process.

        :param place: its slot or ``spare``, for ``ps``.
        :param descriptors: as :data:`stickyd.control.forking.WORKER_DESCRIPTORS` says; they
            remain the caller's.
        :return: its process id; the caller waits for its end.
        :raises OSError: if the machine cannot start one more process.
        :raises ControlError: if the server does not do as it should; it is ended then.
        """
        try:
            return self._ask(place, descriptors)
        except ControlError as problem:
            self._give_up(str(problem))
            raise

    def _ask(self, place: str, descriptors: Sequence[int]) -> int:
        channel = self._channel
        if channel is None:
            raise ControlError("it is gone")
        try:
            with adopting_orphans():
                socket.send_fds(channel, [write_order(place)], descriptors)
                answer = _await_answer(channel)
        except OSError as problem:
            raise ControlError(f"no worker can be had of it: {problem.strerror}") from None
        try:
            pid = read_answer(answer)
        except ControlError as problem:
            raise ControlError(f"it sent {problem}") from None
        if pid in reapProcessHandlers:
            raise ControlError(f"it says that it has forked process {pid}, which is another one")
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            text = f"process {pid}, which it says it has forked, is none of ours"
            raise ControlError(text) from None
        return pid

    def kill(self) -> Deferred[None]:
        """
        End it; what it has forked goes on.

        :return: fires when the process is gone.
        """
        self._is_wanted = False
        self._close()
        if self._process is not None and not self.has_ended:
            with suppress(ProcessExitedAlready):
                self._process.signalProcess(signal.SIGKILL)
        ended = self._ended.wait()
        if self._process is None or self.has_ended:
            self._ended.fire()
        return ended

    def _read(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        try:
            if self.is_ready:
                raise ControlError(f"{shown(data)}, where it was not asked")
            self.refusal = read_preloaded(data)
        except ControlError as problem:
            self._give_up(f"it sent {problem}")
            return
        if self.refusal:
            self._log.warn(
                "Workers are started anew, which takes longer than to fork them: {reason}",
                event="forks.refused",
                reason=self.refusal,
            )
            self.kill()
            return
        self._forget_deadline()
        self.is_ready = True
        self._log.info(
            "Fork server {pid} has imported what workers need",
            event="forks.ready",
            pid=self.pid,
        )
        self._call_waiting()

    def _be_late(self) -> None:
        self._overdue = None
        self._give_up(f"it was not ready within {self._spec.settings.start_timeout:g} s")

    def _give_up(self, problem: str) -> None:
        self._log.warn(
            "Fork server {pid} is ended, and the next worker is started anew: {problem}",
            event="forks.given-up",
            pid=self.pid,
            problem=problem,
        )
        self.kill()

    def _forget_deadline(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _close(self) -> None:
        self._forget_deadline()
        self.is_ready = False
        channel, self._channel = self._channel, None
        if channel is not None:
            self._readiness.remove_reader(channel.fileno())
            channel.close()
        self._call_waiting()

    def _call_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def _read_output(self, stream: int, reads: bool) -> None:
        set_reading(self._process, stream, reads)

    # ProcessProtocol

    @override
    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.received(childFD, data)

    @override
    def processExited(self, reason: Failure) -> None:
        self.has_ended = True
        if self._is_wanted:
            self._log.warn(
                "Fork server {pid} {cause}; when a worker is wanted, there will be another one",
                event="forks.lost",
                pid=self.pid,
                cause=describe_death(reason),
            )
        self._close()
        self._output.flush()
        self._ended.fire()

    @override
    def processEnded(self, reason: Failure) -> None:
        self._output.flush()


def _await_answer(channel: socket.socket) -> bytes:
    """
    Wait for what the server answers.

    :raises ControlError: if it does not.
    :raises OSError: if it is gone.
    """
    for seconds in (FORK_SECONDS, SECOND_LOOK_SECONDS):
        channel.settimeout(seconds)
        try:
            answer = channel.recv(_ANSWER_BYTES)
        except TimeoutError:
            continue
        channel.setblocking(False)
        return answer
    raise ControlError(f"it has forked no worker within {FORK_SECONDS + SECOND_LOOK_SECONDS:g} s")

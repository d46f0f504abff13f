"""
One worker process, seen from the primary: its channels, its output, its death.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorSocket, IReactorTime
from twisted.internet.protocol import ProcessProtocol, ServerFactory
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.control.commands import Beat, ControlProtocol, Serve, Stop
from stickyd.errors import StartFailed
from stickyd.fleet.output import OutputRelay
from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.rights import channel_pair
from stickyd.interfaces import IHandoffReceiver, ISpawner, IWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from twisted.internet.interfaces import IDelayedCall, IProcessTransport
    from twisted.python.failure import Failure

    from stickyd.fleet.slot import Slot
    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IDestination, IReadiness
    from stickyd.settings import Settings

#: Where a worker finds its channels.
HANDOFF_DESCRIPTOR = 3
CONTROL_DESCRIPTOR = 4

#: Seconds between a worker's deadline and its SIGKILL.
KILL_AFTER = 2.0


class IWorkerReactor(IReactorProcess, IReactorTime, IReactorSocket):
    """
    What spawning needs of a reactor.
    """


class _Control(ControlProtocol):
    """
    The primary's end of a worker's control channel.
    """

    def __init__(self, worker: WorkerProcess) -> None:
        super().__init__()
        self._worker = worker

    @Beat.responder
    def beat(self, figures: str) -> dict[str, object]:
        self._worker.figures = json.loads(figures)
        return {}


@implementer(IWorker, IHandoffReceiver)
class WorkerProcess(ProcessProtocol):
    """
    A worker's process.

    :ivar figures: what its last heartbeat said.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        settings: Settings,
        slot: Slot,
        returns: IDestination,
        ready: Callable[[], None],
        died: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._readiness = readiness
        self._settings = settings
        self._slot = slot
        self._returns = returns
        self._ready = ready
        self._died = died
        self._patience: IDelayedCall | None = None
        self._verdict = ""
        self._is_ready = False
        self._ended = False
        self.pid = 0
        self.figures: dict[str, float] = {}
        self._output = OutputRelay(slot.index)
        self._process: IProcessTransport | None = None
        self._channel: HandoffChannel | None = None
        self._control = _Control(self)

    # birth

    def spawn(self, command: list[str]) -> None:
        """
        Start the process and ask it to serve.

        :raises OSError: if the machine cannot start one more process.
        """
        window = self._settings.window
        with ExitStack() as ends:
            ours, handoffs = channel_pair()
            ends.enter_context(handoffs)
            channel = HandoffChannel(self._readiness, self._reactor, ours, self, lambda: window)
            self._channel = channel
            control, theirs = (ends.enter_context(end) for end in socket.socketpair())
            control.setblocking(False)
            nothing = os.open(os.devnull, os.O_RDONLY)
            ends.callback(os.close, nothing)
            process: IProcessTransport = self._reactor.spawnProcess(
                self,
                command[0],
                command,
                env=None,
                childFDs={
                    0: nothing,
                    1: "r",
                    2: "r",
                    HANDOFF_DESCRIPTOR: handoffs.fileno(),
                    CONTROL_DESCRIPTOR: theirs.fileno(),
                },
            )
            self._process = process
            self.pid = self._output.pid = process.pid
            # adoptStreamConnection duplicates; our own copy is closed here.
            factory = cast("ServerFactory", ServerFactory.forProtocol(lambda: self._control))
            try:
                self._reactor.adoptStreamConnection(control.fileno(), socket.AF_UNIX, factory)
            except OSError as problem:
                # There is a process, so its end is what will be told.
                self._verdict = f"could not be started: {problem}"
                self.kill(signal.SIGKILL)
                return
        channel.open()
        self._patience = self._reactor.callLater(self._settings.start_timeout, self._too_slow)
        self._log.info("Worker {pid} started (slot {slot})", pid=self.pid, slot=self._slot.index)
        answer = self._control.callRemote(
            Serve,
            settings=self._settings.to_json(),
            slot=self._slot.index,
            path=[entry for entry in sys.path if entry],
        )
        answer.addCallbacks(self._serving, self._refused)

    def _serving(self, _: object) -> None:
        if self._ended:
            return
        self._forget_patience()
        self._is_ready = True
        self._log.info("Worker {pid} online", pid=self.pid)
        self._ready()

    def _refused(self, failure: Failure) -> None:
        if failure.check(StartFailed) is not None:
            self._verdict = f"could not start: {failure.getErrorMessage()}"
        # Whatever else went wrong, the end of the process follows and tells.

    def _too_slow(self) -> None:
        self._patience = None
        self._verdict = f"was not ready within {self._settings.start_timeout:g} s"
        self.kill(signal.SIGKILL)

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # IWorker

    @property
    def in_flight(self) -> Sized:
        return () if self._channel is None else self._channel.in_flight

    def send(self, handoff: Handoff) -> bool:
        return self._channel is not None and self._channel.send(handoff)

    def reclaim(self) -> list[Handoff]:
        return [] if self._channel is None else self._channel.reclaim()

    def stop(self, patience: float) -> None:
        self._forget_patience()
        if self._process is None:
            return  # it could not be started, which is about to be told
        if self._is_ready:
            self._control.callRemote(Stop, patience=patience).addErrback(lambda _: None)
        else:
            # It holds no connection yet, and may be in the middle of a long import.
            self.kill(signal.SIGTERM)
            patience = 0.0
        self._patience = self._reactor.callLater(patience + KILL_AFTER, self._overdue)

    def _overdue(self) -> None:
        self._patience = None
        self._log.warn(
            "Worker {pid} (slot {slot}) did not stop in time; killing it",
            pid=self.pid,
            slot=self._slot.index,
        )
        self.kill(signal.SIGKILL)

    def kill(self, signum: signal.Signals) -> None:
        assert self._process is not None
        try:
            self._process.signalProcess(signum)
        except ProcessExitedAlready:
            pass  # its processExited is on the way

    # IHandoffReceiver

    def received(self, handoff: Handoff) -> None:
        self._returns.deliver(handoff)

    def returned(self, handoff: Handoff) -> None:
        self._slot.returned(handoff)

    def room(self) -> None:
        self._slot.room()

    def starved(self) -> None:
        # A later one finds room, as each acknowledgement frees a descriptor of ours.
        self._log.warn(
            "No descriptor free to take a connection back from worker {pid}: raise the limit"
            " of open files (ulimit -n, LimitNOFILE=)",
            pid=self.pid,
        )

    def lost(self) -> None:
        # Its process has ended, or ends: processExited is what counts.
        pass

    # ProcessProtocol

    @override
    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.received(childFD, data)

    @override
    def processExited(self, reason: Failure) -> None:
        # Not processEnded: that one waits for the pipes, which a child of the
        # application may hold open for as long as it likes.
        self._ended = True
        self._forget_patience()
        self._output.flush()
        self._died(self._verdict or describe_death(reason))

    @override
    def processEnded(self, reason: Failure) -> None:
        # Its last words may have been in the pipes still when it exited.
        self._output.flush()


def describe_death(reason: Failure) -> str:
    """
    Say how a process ended: ``died of signal 9 (SIGKILL)``, ``exited with code 1``.
    """
    signum = getattr(reason.value, "signal", None)
    if signum is not None:
        return f"died of signal {signum} ({signal.Signals(signum).name})"
    return f"exited with code {getattr(reason.value, 'exitCode', 0)}"


@implementer(ISpawner)
class Spawner:
    """
    Starts workers as ``python -m stickyd.worker``.
    """

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        settings: Settings,
        returns: IDestination,
    ) -> None:
        """
        :param returns: where connections go that a worker gives back.
        """
        self._reactor = reactor
        self._readiness = readiness
        self._settings = settings
        self._returns = returns

    def spawn(
        self, slot: Slot, ready: Callable[[], None], died: Callable[[str], None]
    ) -> WorkerProcess:
        worker = WorkerProcess(
            self._reactor, self._readiness, self._settings, slot, self._returns, ready, died
        )
        try:
            worker.spawn(worker_command(self._settings, slot.index))
        except OSError as problem:
            self._reactor.callLater(0, died, f"could not be started: {problem}")
        return worker


def worker_command(settings: Settings, slot: int) -> list[str]:
    """
    The command line of a worker; the slot is in it so that ``ps`` shows who is who.
    """
    return [
        sys.executable,
        "-m",
        "stickyd.worker",
        "--slot",
        str(slot),
        "--reactor",
        settings.worker_reactor,
    ]

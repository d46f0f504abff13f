"""
One worker process, seen from the primary: its channels, its output, its death.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorSocket, IReactorTime
from twisted.internet.protocol import ProcessProtocol, ServerFactory, connectionDone
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.control.commands import (
    CONTROL_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
    Accept,
    Beat,
    Claim,
    ControlProtocol,
    Leave,
    Occupy,
    Place,
    Release,
    Serve,
    Sessions,
    Stop,
)
from stickyd.errors import StartFailed, WorkerError
from stickyd.fleet.inherit import InheritedProcess
from stickyd.fleet.output import OutputRelay
from stickyd.fleet.watchdog import Watchdog
from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.frame import Flag, Purpose
from stickyd.handoff.rights import channel_pair
from stickyd.handoff.tally import Report
from stickyd.interfaces import IHandoffReceiver, IWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized

    from twisted.internet.interfaces import IDelayedCall, IProcessTransport
    from twisted.python.failure import Failure

    from stickyd.fleet.slot import Slot
    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IFleet, IReadiness, IWorkerEvents
    from stickyd.settings import Settings


#: Seconds between a worker's deadline and its SIGKILL.  ``--stop-timeout`` is for requests;
#: this is for what comes after the last one: the farewell of what was cut off, the shutdown
#: of the application (ASGI's lifespan, WSGI's threads) and the interpreter's own end, with
#: all workers at it at once.
KILL_AFTER = 6.0

#: Seconds that a worker which has closed its handoff channel may take to exit.
CHANNELLESS_SECONDS = 2.0

#: Seconds that the control channel of a worker that has exited may take to end.  A child of
#: the application may hold it open.
LAST_WORDS_SECONDS = 1.0

#: Seconds until a primary without a free descriptor looks again whether it has one.
STARVED_SECONDS = 0.05

#: Seconds between two lines in the log about that.
QUIET = 10.0


class IWorkerReactor(IReactorProcess, IReactorTime, IReactorSocket):
    """
    What spawning needs of a reactor.
    """


@dataclass(frozen=True)
class Birth:
    """
    What every worker of one generation is started with.

    :ivar command: the command line.
    :ivar settings: what the worker is told.
    :ivar uid: the user to run as, or :obj:`None` for ours.
    :ivar gid: the same for the group.
    :ivar secrets: what signs (the first) and verifies tokens; none if there are no tokens.
    """

    command: list[str]
    settings: Settings
    uid: int | None = None
    gid: int | None = None
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


class _Control(ControlProtocol):
    """
    The primary's end of a worker's control channel.
    """

    def __init__(self, worker: WorkerProcess, fleet: IFleet) -> None:
        super().__init__()
        self._worker = worker
        self._fleet = fleet
        #: Fires when all that the worker has ever said is heard.
        self.closed: Deferred[None] = Deferred()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.closed.callback(None)

    @Beat.responder
    def beat(self, figures: str, accepted: str | None = None) -> dict[str, object]:
        self._worker.accepted = None if accepted is None else Report.from_json(accepted)
        self._worker.beat(json.loads(figures))
        return {}

    @Leave.responder
    def leave(self) -> dict[str, object]:
        self._worker.wants_to_leave()
        return {}

    @Claim.responder
    def claim(self, identifiers: list[bytes]) -> dict[str, object]:
        slot = self._worker.slot
        if slot is not None:  # a spare has no clients
            self._fleet.claim(slot.index, identifiers)
        return {}

    @Sessions.responder
    def sessions(self, slot: int, chunk: bytes) -> Deferred[dict[str, object]]:
        return self._fleet.adopt_sessions(slot, chunk).addCallback(lambda _: {})


@implementer(IWorker, IHandoffReceiver)
class WorkerProcess(ProcessProtocol):
    """
    A worker's process.

    :ivar slot: the slot that it occupies, or :obj:`None` for a spare.
    :ivar figures: what its last heartbeat said.
    :ivar accepted: what that said of connections that it had accepted by itself.
    :ivar ended: whether the process is gone.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        birth: Birth,
        fleet: IFleet,
        events: IWorkerEvents,
        slot: Slot | None,
    ) -> None:
        """
        :param events: told what happens to the worker.
        """
        self._reactor = reactor
        self._birth = birth
        self._fleet = fleet
        self._events = events
        self.slot = slot
        self._patience: IDelayedCall | None = None
        self._verdict = ""
        self._serves = False
        self._is_ready = False
        self._starved = False
        self._told_starved = -QUIET
        self.ended = False
        self._acknowledged: list[Deferred[None]] = []
        self._entrusted: deque[Handoff] = deque()
        self._process: IProcessTransport | InheritedProcess | None = None
        self.pid = 0
        self.figures: dict[str, float] = {}
        self.accepted: Report | None = None
        # What was sent by the time of those figures.
        self._sent_before = 0
        self._output = OutputRelay()
        self._watchdog = Watchdog(reactor, birth.settings.hang_timeout, self)
        self._readiness = readiness
        self._channel: HandoffChannel | None = None
        #: Set to the channel's own: a step in between would be taken for every connection.
        self.send: Callable[[Handoff], bool] = lambda handoff: False
        self._control = _Control(self, fleet)

    @property
    def place(self) -> str:
        """
        Where it stands, for the log.
        """
        return "spare" if self.slot is None else f"slot {self.slot.index}"

    # birth

    def start(self) -> None:
        """
        Start the process and ask it to serve.

        If the machine cannot start one more process, the worker dies a turn later.
        """
        birth = self._birth
        try:
            self._spawn(birth)
        except OSError as problem:
            self._verdict = f"could not be started: {problem}"
            if self._process is None:
                self._reactor.callLater(0, self._events.died, self, self._verdict)
            else:
                # There is a process, so its end is what will be told.
                self.kill(signal.SIGKILL)
            return
        self._log.info("Worker {pid} started ({place})", pid=self.pid, place=self.place)
        self._patience = self._reactor.callLater(birth.settings.start_timeout, self._too_slow)
        self._control.callRemote(
            Serve,
            settings=birth.settings.to_json(),
            slot=-1 if self.slot is None else self.slot.index,
            path=[entry for entry in sys.path if entry],
            secrets=list(birth.secrets),
        ).addCallbacks(self._serving, self._refused)

    def _spawn(self, birth: Birth) -> None:
        with ExitStack() as ends:
            ours, handoffs = channel_pair()
            ends.enter_context(handoffs)
            self._make_channel(ours).open()
            control, theirs = (ends.enter_context(end) for end in socket.socketpair())
            control.setblocking(False)
            nothing = os.open(os.devnull, os.O_RDONLY)
            ends.callback(os.close, nothing)
            # Ctrl-C reaches the whole process group, a worker perhaps before it can say
            # that it leaves that signal to us; it unblocks it when it does.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            ends.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
            self._process = self._reactor.spawnProcess(
                self,
                birth.command[0],
                [*birth.command, "--slot", self.place.removeprefix("slot ")],
                env=None,
                uid=birth.uid,
                gid=birth.gid,
                childFDs={
                    0: nothing,
                    1: "r",
                    2: "r",
                    HANDOFF_DESCRIPTOR: handoffs.fileno(),
                    CONTROL_DESCRIPTOR: theirs.fileno(),
                },
            )
            self.pid = self._process.pid
            self._output.name = f"worker {self.pid} {self.place}"
            # adoptStreamConnection duplicates; our own copy is closed here.
            factory = cast("ServerFactory", ServerFactory.forProtocol(lambda: self._control))
            self._reactor.adoptStreamConnection(control.fileno(), socket.AF_UNIX, factory)

    def _make_channel(self, sock: socket.socket) -> HandoffChannel:
        channel = self._channel = HandoffChannel(
            self._readiness, self._reactor, sock, self, self._window
        )
        self.send = channel.send
        return channel

    def _window(self) -> int:
        return 0 if self._starved else self._birth.settings.window

    # a primary that replaces itself

    @property
    def quiet(self) -> bool:
        """
        Whether its state can be written down now.
        """
        channel = self._channel
        return channel is not None and channel.quiet and self._control.quiet and not self._entrusted

    def to_plain(self) -> dict[str, Any]:
        """
        The worker as JSON can carry it: descriptors by number.  Nothing is closed.
        """
        assert self._channel is not None
        assert self._process is not None
        transport: Any = self._control.transport
        process: Any = self._process
        return {
            "pid": self.pid,
            "control": transport.fileno(),
            "channel": self._channel.to_plain(),
            "output": {
                number: pipe if isinstance(pipe, int) else pipe.fileno()
                for number, pipe in process.pipes.items()
                if number in (1, 2)
            },
        }

    def resume(self, plain: dict[str, Any]) -> None:
        """
        Be the worker that another object was; instead of :meth:`start`.

        :param plain: what its :meth:`to_plain` gave.
        """
        self.pid = plain["pid"]
        self._output.name = f"worker {self.pid} {self.place}"
        sock = socket.socket(fileno=plain["channel"]["descriptor"])
        sock.setblocking(False)
        self._make_channel(sock).resume(plain["channel"])
        self._sent_before = self._sent
        control = plain["control"]
        factory = cast("ServerFactory", ServerFactory.forProtocol(lambda: self._control))
        os.set_blocking(control, False)
        self._reactor.adoptStreamConnection(control, socket.AF_UNIX, factory)
        os.close(control)
        self._serves = self._is_ready = True
        self._watchdog.start()
        self._process = InheritedProcess(
            self._readiness,
            self.pid,
            {int(number): pipe for number, pipe in plain["output"].items()},
            self._output.received,
            self.processExited,
        )

    def _serving(self, _: object) -> None:
        # Before it gets a connection it must know whom the requests on it belong to.
        if not self.ended:
            self._serves = True
            slots, standing = self._fleet.places()
            told = self._control.callRemote(Place, slots=slots, standing=standing)
            # If it dies now, that is told elsewhere.
            told.addCallbacks(self._knows, lambda _: None)

    def _knows(self, _: object) -> None:
        if not self.ended:
            self._forget_patience()
            self._is_ready = True
            self._watchdog.start()
            self._log.info("Worker {pid} online", pid=self.pid)
            self._events.ready(self)

    def _refused(self, failure: Failure) -> None:
        if failure.check(StartFailed) is not None:
            self._verdict = f"could not start: {failure.getErrorMessage()}"
        # Whatever else went wrong, the end of the process follows and tells.

    def _too_slow(self) -> None:
        self._patience = None
        self._verdict = f"was not ready within {self._birth.settings.start_timeout:g} s"
        self.kill(signal.SIGKILL)

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def assign(self, slot: Slot, events: IWorkerEvents) -> None:
        """
        Give a spare worker a slot; from now on ``events`` is told.
        """
        self.slot, self._events = slot, events
        self._output.name = f"worker {self.pid} {self.place}"
        self._log.info("Spare worker {pid} takes {place}", pid=self.pid, place=self.place)
        self.tell_places(*self._fleet.places())
        # Its death is what an error here would mean, and is told anyway.
        self._control.callRemote(Occupy, slot=slot.index).addErrback(lambda _: None)

    # IWorker

    @property
    def in_flight(self) -> Sized:
        return () if self._channel is None else self._channel.in_flight

    def entrust(self, listener: Handoff) -> None:
        self._entrusted.append(listener)
        self.room()

    def accept(self) -> None:
        # Its death is what an error here would mean, and is told anyway.
        self._control.callRemote(Accept).addErrback(lambda _: None)

    @property
    def _sent(self) -> int:
        return 0 if self._channel is None else self._channel.sent

    @property
    def load(self) -> int:
        # What is on its way was mostly sent since the figures, so it is not added to that.
        coming = max(self._sent - self._sent_before, len(self.in_flight))
        return int(self.figures.get("connections", 0)) + coming

    def reclaim(self) -> list[Handoff]:
        handoffs = [] if self._channel is None else self._channel.reclaim()
        # The listening sockets were for this worker alone; its successor gets its own.
        connections = [h for h in handoffs if h.purpose != Purpose.LISTENER]
        for listener in (*self._entrusted, *handoffs):
            if listener.purpose == Purpose.LISTENER:
                os.close(listener.descriptor)
        self._entrusted.clear()
        return connections

    def release(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        slots, standing = placement or (0, ())
        # What is still on its way to the worker must be there before it gives away.
        settled: Deferred[None] = Deferred()
        self._acknowledged.append(settled)
        self.room()
        return settled.addCallback(
            lambda _: self._control.callRemote(Release, slots=slots, standing=list(standing))
        ).addCallback(lambda _: None)

    def _release_now(self) -> None:
        # What is said later must not overtake it: the worker believes what it hears last.
        waiting, self._acknowledged = self._acknowledged, []
        for settled in waiting:
            settled.callback(None)

    def tell_places(self, slots: int, standing: Sequence[int]) -> None:
        if self._serves and not self.ended:
            self._release_now()
            told = self._control.callRemote(Place, slots=slots, standing=list(standing))
            told.addErrback(lambda _: None)  # its death is told elsewhere

    def stay(self) -> None:
        self._release_now()
        self._control.callRemote(Release, slots=-1, standing=[]).addErrback(lambda _: None)

    def adopt_sessions(self, chunk: bytes) -> Deferred[None]:
        slot = -1 if self.slot is None else self.slot.index
        answer: Deferred[None] = self._control.callRemote(Sessions, slot=slot, chunk=chunk)
        return answer.addCallback(lambda _: None)

    def stop(self, patience: float) -> None:
        self._forget_patience()
        if self._process is None:
            return  # it could not be started, which is about to be told
        if self._is_ready:
            self._release_now()
            self._control.callRemote(Stop, patience=patience).addErrback(lambda _: None)
        else:
            # It holds no connection yet, and may be in the middle of a long import.
            self.kill(signal.SIGKILL)
            patience = 0.0
        self._patience = self._reactor.callLater(patience + KILL_AFTER, self._overdue)

    def _overdue(self) -> None:
        self._patience = None
        self._log.warn(
            "Worker {pid} ({place}) did not stop in time; killing it",
            pid=self.pid,
            place=self.place,
        )
        self.kill(signal.SIGKILL)

    def kill(self, signum: int) -> None:
        """
        Send a signal, if the process is still there.
        """
        if self._process is not None:
            try:
                self._process.signalProcess(signum)
            except ProcessExitedAlready:
                pass  # its processExited is on the way

    def wants_to_leave(self) -> None:
        """
        Called when somebody has sent the worker SIGTERM.
        """
        if self.ended:
            return  # it has said so before it died, which was heard sooner
        self._log.info("Worker {pid} ({place}) was told to end", pid=self.pid, place=self.place)
        self._events.leaving(self)

    def beat(self, figures: dict[str, float]) -> None:
        """
        Called with each heartbeat.
        """
        self.figures = figures
        self._sent_before = self._sent
        self._watchdog.beat()
        self._events.beat(self)

    # IHandoffReceiver

    def received(self, handoff: Handoff) -> None:
        handoff.flags |= Flag.SERVED
        if handoff.purpose == Purpose.RESOLVE:
            self._fleet.resolve(handoff)
        else:
            self._fleet.deliver(handoff)

    def returned(self, handoff: Handoff) -> None:
        if handoff.purpose == Purpose.LISTENER:
            self._entrusted.append(handoff)
        elif self.slot is None:
            self._fleet.deliver(handoff)
        else:
            self.slot.returned(handoff)

    def room(self) -> None:
        if self._acknowledged and not self.in_flight:
            self._release_now()
        while self._entrusted and self.send(self._entrusted[0]):
            self._entrusted.popleft()
        if self.slot is not None:
            self.slot.room()

    def starved(self) -> None:
        # The window closes for a moment: each acknowledgement by another worker frees a
        # descriptor of ours, and to take and refuse meanwhile would be to spin.
        if self._starved:
            return
        self._starved = True
        self._reactor.callLater(STARVED_SECONDS, self._fed)
        now = self._reactor.seconds()
        if now - self._told_starved >= QUIET:
            self._told_starved = now
            self._log.warn(
                "No descriptor free to take a connection back from worker {pid}: raise the"
                " limit of open files (ulimit -n, LimitNOFILE=)",
                pid=self.pid,
            )

    def _fed(self) -> None:
        self._starved = False
        if self._channel is not None:
            self._channel.announce()

    def lost(self) -> None:
        # Its process has ended, which processExited tells, or ends; one that has broken
        # the protocol must not go on without a channel.
        self._reactor.callLater(CHANNELLESS_SECONDS, self._kill_if_alive)

    def _kill_if_alive(self) -> None:
        if not self.ended:
            self._verdict = self._verdict or "closed its handoff channel"
            self.kill(signal.SIGKILL)

    # ProcessProtocol

    @override
    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.received(childFD, data)

    @override
    def processExited(self, reason: Failure) -> None:
        # Not processEnded: that one waits for the pipes, which a child of the
        # application may hold open for as long as it likes.
        self.ended = True
        self._forget_patience()
        self._watchdog.stop()
        signum = getattr(reason.value, "signal", None)
        if self._is_ready or self._verdict or signum is not None:
            self._tell_end(reason)
        else:
            # It has ended by itself before it was ready: why may still be in the channel.
            heard = self._control.closed.addTimeout(LAST_WORDS_SECONDS, self._reactor)
            heard.addErrback(lambda _: None).addCallback(lambda _: self._tell_end(reason))

    def _tell_end(self, reason: Failure) -> None:
        self._forget_patience()  # it may have been told to stop meanwhile
        self._output.flush()
        cause = self._verdict or self._watchdog.verdict or describe_death(reason)
        self._events.died(self, cause)
        # Last: who waits for what it was to give away goes on at once, and must not take a
        # dead worker for one that is still to be told to stop.
        waiting, self._acknowledged = self._acknowledged, []
        for settled in waiting:
            settled.errback(WorkerError("the worker ended"))

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

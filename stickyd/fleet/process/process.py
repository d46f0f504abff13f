"""
One worker process, seen from the primary: its channels, its output, its death.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import fail, succeed
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from stickyd.control.commands import adopt_control
from stickyd.errors import ControlError, StartFailed, WorkerError
from stickyd.fleet.interfaces import IWorker
from stickyd.fleet.process.adopted_process import AdoptedProcess
from stickyd.fleet.process.control import Gives, WorkerControl
from stickyd.fleet.process.figures_page import FiguresPage
from stickyd.fleet.process.handoff_link import HandoffLink
from stickyd.fleet.process.heartbeats import Heartbeats
from stickyd.fleet.process.label import WorkerLabel
from stickyd.fleet.process.orders import WorkerOrders
from stickyd.fleet.process.output import OutputRelay
from stickyd.fleet.process.pipes import pipes_of, set_reading
from stickyd.fleet.process.termination import Termination, describe_death
from stickyd.fleet.process.watchdog import DUMP_SIGNAL
from stickyd.handoff.fd_passing import channel_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized

    from twisted.internet.defer import Deferred

    from stickyd.affinity.key_counts import Report
    from stickyd.fleet.interfaces import IFleet
    from stickyd.fleet.process.launcher import Launcher
    from stickyd.fleet.process.spec import IWorkerReactor
    from stickyd.fleet.slot import Slot
    from stickyd.handoff.channel import HandoffChannel
    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.messaging.hub import BusHub
    from stickyd.messaging.peer import BusPeer

#: Seconds that the control channel of a worker that has exited may take to end.  A child of
#: the application may hold it open.
LAST_WORDS_SECONDS = 1.0


class WorkerEvents(Protocol):
    """
    Told what happens to a worker.
    """

    def ready(self, worker: WorkerProcess) -> None:
        """
        It can take connections.
        """

    def died(self, worker: WorkerProcess, cause: str) -> None:
        """
        Its process has ended, or could not be started; ``cause`` says how, for the log.
        Called once, after which nothing else is.
        """

    def leaving(self, worker: WorkerProcess) -> None:
        """
        Somebody wants it to end: a successor should take over.
        """

    def beat(self, worker: WorkerProcess) -> None:
        """
        It has sent a heartbeat.
        """


@implementer(IWorker)
class WorkerProcess(ProcessProtocol):
    """
    A worker's process.

    :ivar slot: the slot that it occupies, or :obj:`None` for a spare.
    :ivar knows_clients: whether it remembers who its clients are.
    :ivar generation_name: what its generation is called.
    :ivar heartbeats: what the last one said.
    :ivar figures: what it has counted.
    :ivar link: its connections.
    :ivar termination: its signals and deadlines.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        launcher: Launcher,
        fleet: IFleet,
        events: WorkerEvents,
        slot: Slot | None,
        hub: BusHub,
    ) -> None:
        """
        :param launcher: starts the process, with what it says by now.
        :param events: told what happens to the worker.
        :param hub: has it on the bus from its start to its end.
        """
        self._reactor = reactor
        self._launcher = launcher
        self._spec = spec = launcher.spec
        self._fleet = fleet
        self._events = events
        self._has_begun = False
        self.slot = slot
        self._is_ready = False
        self._can_look = True
        self._page = FiguresPage()
        self.figures = self._page.figures
        self.knows_clients = spec.settings.reload_mode == "client"
        self.generation_name = spec.settings.generation_name
        self.heartbeats = Heartbeats()
        self.label = WorkerLabel(slot)
        self._output = OutputRelay(reactor, launcher.share, self.label, self._read_output)
        self.termination = Termination(reactor, spec.settings.hang_timeout, self.label)
        self._readiness = readiness
        self.link = HandoffLink(
            reactor,
            readiness,
            spec.settings.window,
            fleet,
            slot,
            self.label,
            self.termination,
            self._forget_client,
        )
        #: Set to the channel's own: a step in between would be taken for every connection.
        self.send: Callable[[Handoff], bool] = lambda handoff: False
        self._control = WorkerControl(
            fleet,
            reactor,
            spec.settings,
            -1 if slot is None else slot.index,
            self.termination,
            self.beat,
            self.wants_to_leave,
            self.label,
        )
        self._hub = hub
        self._bus: BusPeer | None = None
        self._orders = WorkerOrders(self.link, self._control, self.termination)

    @property
    def pid(self) -> int:
        """
        Its process id; 0 if it could not be started.
        """
        return self.label.pid

    @property
    def memory(self) -> float:
        """
        How many bytes it said last that it has resident.
        """
        return self.heartbeats.figures.get("memory", 0)

    @property
    def generation(self) -> int:
        """
        Its generation; 0 for a spare.
        """
        return self._control.generation

    @property
    def ended(self) -> bool:
        """
        Whether the process is gone.
        """
        return self.termination.has_ended

    # the start

    def start(self) -> None:
        """
        Start the process and ask it to serve, as soon as that goes fast.

        If the machine cannot start one more process, the worker dies a turn later.
        """
        self._launcher.call_when_ready(self._begin)

    def _begin(self) -> None:
        if self._has_begun:
            return  # it was to stop meanwhile
        self._has_begun = True
        spec = self._spec
        try:
            self._spawn()
        except OSError as problem:
            verdict = f"could not be started: {problem}"
            self.termination.blame(verdict)
            if self.termination.process is None:
                self._reactor.callLater(0, self._events.died, self, verdict)
            else:
                # There is a process, so its end is what will be told.
                self.termination.kill(signal.SIGKILL)
            return
        self._log.info(
            "Worker {pid} started ({place})",
            event="worker.started",
            pid=self.pid,
            place=self.label.place,
        )
        self.termination.allow(spec.settings.start_timeout)
        generation = 0 if self.slot is None else self.slot.generation
        self._control.serve(spec, generation).addCallbacks(self._serving, self._refused)

    def _spawn(self) -> None:
        with ExitStack() as ends:
            ours, handoffs = channel_pair()
            ends.enter_context(handoffs)
            self._connect(ours).open()
            bus, their_bus = (ends.enter_context(end) for end in socket.socketpair())
            place = self.label.place.removeprefix("slot ")
            process, control = self._launcher.start(
                self, self._spec, place, handoffs, self._page.open(), their_bus
            )
            ends.enter_context(control)
            self.termination.attend(process)
            self.label.begin(process.pid)
            self._bus = self._hub.attach(bus.dup(), self.label.__str__)
            adopt_control(self._reactor, control.fileno(), self._control)

    def _connect(self, sock: socket.socket) -> HandoffChannel:
        channel = self.link.connect(sock)
        self.send = channel.send
        return channel

    # a primary that replaces itself

    @property
    def quiet(self) -> bool:
        """
        Whether its state can be written down now.
        """
        return self.link.quiet and self._control.quiet

    def dump_state(self) -> dict[str, Any]:
        """
        The worker as JSON can carry it: descriptors by number.  Nothing is closed.
        """
        channel = self.link.channel
        assert channel is not None
        transport: Any = self._control.transport
        return {
            "pid": self.pid,
            "control": transport.fileno(),
            "gives": self._control.gives,
            "generation": self._control.generation,
            "keeps": self._control.keeps,
            "knows_clients": self.knows_clients,
            "generation_name": self.generation_name,
            "unheard": self._output.dump_state(),
            "seconds_left": self.termination.seconds_left,
            "can_look": self._can_look,
            "channel": channel.dump_state(),
            "output": pipes_of(self.termination.process),
            "figures": self._page.dump_state(),
            "app": self._control.app.dump_state(),
            "ready_at": self.figures.ready_at,
            "bus": None if self._bus is None else self._bus.dump_state(),
            "leads": self._control.candidate.dump_state(),
        }

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Be the worker that another object was; instead of :meth:`start`.

        :param plain: what its :meth:`dump_state` gave.
        """
        self._has_begun = True
        self.label.begin(plain["pid"])
        self._can_look = plain.get("can_look", False)
        sock = socket.socket(fileno=plain["channel"]["descriptor"])
        sock.setblocking(False)
        self._connect(sock).restore_state(plain["channel"])
        self.heartbeats.heard({}, None, self.link.sent)
        self._page.restore_state(plain.get("figures"))
        self._control.app.restore_state(plain.get("app", ()))
        self.figures.ready(plain.get("ready_at", 0.0))
        bus = plain.get("bus")  # there was none in a primary of before
        if bus is not None:
            sock = socket.socket(fileno=bus["descriptor"])
            self._bus = self._hub.attach(sock, self.label.__str__, bus)
        control = plain["control"]
        os.set_blocking(control, False)
        adopt_control(self._reactor, control, self._control)
        os.close(control)
        # A primary of before that was written down knew no bound.
        gives = Gives(plain.get("gives", Gives.ANY_SLOT))
        self._control.go_on(gives, plain.get("generation", 0), plain.get("keeps", False))
        self.knows_clients = plain.get("knows_clients", False)
        self.generation_name = plain.get("generation_name", "")
        self._orders.go_on()
        leads = plain.get("leads")  # a primary of before knew no leader
        if leads is not None:
            self._control.candidate.restore_state(leads)
        self._is_ready = True
        self.termination.watchdog.start()
        self.termination.go_on(plain.get("seconds_left"))
        pipes = {int(number): pipe for number, pipe in plain["output"].items()}
        self.termination.attend(
            AdoptedProcess(
                self._reactor,
                self._readiness,
                self.pid,
                pipes,
                self._output.received,
                self.processExited,
            )
        )
        self._output.restore_state(plain.get("unheard", {}))

    def _read_output(self, stream: int, reads: bool) -> None:
        set_reading(self.termination.process, stream, reads)

    def _serving(self, _: object) -> None:
        if not self.ended:
            told = self._orders.begin(*self._fleet.places())
            # If it dies now, that is told elsewhere.
            told.addCallbacks(self._knows, lambda _: None)

    def _knows(self, _: object) -> None:
        if not self.ended:
            self.termination.forget_deadline()
            self._is_ready = True
            self.termination.watchdog.start()
            self.figures.ready(self._reactor.seconds())
            self._log.info("Worker {pid} online", event="worker.online", pid=self.pid)
            if self.slot is not None:
                self._control.candidate.serve()
            self._events.ready(self)

    def _refused(self, failure: Failure) -> None:
        if failure.check(StartFailed) is not None:
            self.termination.blame(f"could not start: {failure.getErrorMessage()}")
        # Whatever else went wrong, the end of the process follows and tells.

    def assign(self, slot: Slot, events: WorkerEvents) -> None:
        """
        Give a spare worker a slot; from now on ``events`` is told.
        """
        self.slot, self._events = slot, events
        self.label.move(slot)
        self.link.occupy(slot)
        self._log.info(
            "Spare worker {pid} takes {place}",
            event="worker.spare-taken",
            pid=self.pid,
            place=self.label.place,
        )
        self.tell_places(*self._fleet.places())
        self._control.occupy(slot.index, slot.generation)
        self._control.candidate.serve()

    def _forget_client(self, key: bytes) -> None:
        """
        Take note that the worker does not know the client of a key.
        """
        if self.slot is not None:
            self._fleet.learn((self.slot.index, self.generation), [key], (), True)

    # IWorker

    @property
    def last_words(self) -> str:
        return self._output.last_words

    @property
    def lives(self) -> bool:
        return self.pid != 0 and not self.ended

    @property
    def silent_seconds(self) -> float:
        return self.termination.watchdog.silent_seconds

    @property
    def seconds_left(self) -> float | None:
        return self.termination.seconds_left

    def look(self, what: str) -> Deferred[str]:
        if not self._can_look:
            return fail(WorkerError(f"worker {self.pid} runs other code, which does not tell"))
        return self._control.look(what)

    def dump_stacks(self, heard: Callable[[str], object]) -> Callable[[], None]:
        stop = self._output.watch(heard)
        if self._is_ready:  # before that the signal may kill it
            self.termination.kill(DUMP_SIGNAL)
        return stop

    @property
    def in_flight(self) -> Sized:
        return self.link.in_flight

    def entrust(self, listener: Handoff) -> None:
        self.link.entrust(listener)

    def accept(self) -> None:
        self._control.accept()

    def reopen_log(self) -> None:
        if self._is_ready and not self.ended:
            self._control.reopen_log()

    def kill(self) -> None:
        self._forgo_start()
        self.termination.kill(signal.SIGKILL)

    def _forgo_start(self) -> None:
        """
        End it before it has begun, if it has not.
        """
        if not self._has_begun:
            self._has_begun = True
            self.termination.end()
            # Nothing is wrong with it, so it has ended as one does that was told to.
            ended = describe_death(Failure(ProcessDone(0)))
            self._reactor.callLater(0, self._events.died, self, ended)

    @property
    def load(self) -> int:
        return self.heartbeats.load(self.link.sent, len(self.in_flight))

    def reclaim(self) -> list[Handoff]:
        self._page.close()
        return self.link.reclaim()

    def release(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        return self._orders.release(placement)

    def keep(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        return self._orders.keep(placement)

    def serve_beside(self, queue: Slot) -> None:
        self.link.occupy(queue)

    def tell_places(self, slots: int, available: Sequence[int]) -> None:
        self._orders.tell_places(slots, available)

    def verify_also(self, secrets: Sequence[bytes]) -> Deferred[None]:
        return self._orders.verify_also(secrets)

    def stay(self) -> None:
        self._orders.stay()

    def adopt_sessions(self, chunk: bytes) -> Deferred[None]:
        return self._control.give_sessions(chunk)

    def stop(self, patience: float) -> None:
        self._forgo_start()
        if self.termination.process is None:
            return  # it was not started, or could not be, which is about to be told
        self._control.candidate.leave()
        if self._is_ready:
            self._orders.stop(patience)
        else:
            # It holds no connection yet, and may be in the middle of a long import.
            self.termination.kill(signal.SIGKILL)
            patience = 0.0
        self.termination.stop_by(patience)

    def wants_to_leave(self) -> None:
        """
        Called when somebody has sent the worker SIGTERM.
        """
        if self.ended:
            return  # it has said so before it died, which was heard sooner
        self._log.info(
            "Worker {worker} was told to end", event="worker.told-to-end", worker=self.label
        )
        self._events.leaving(self)

    def beat(self, figures: dict[str, float], accepted: Report | None = None) -> None:
        """
        Called with each heartbeat.

        :param accepted: what it says of connections that it has accepted by itself.
        """
        self.heartbeats.heard(figures, accepted, self.link.sent)
        self.termination.watchdog.beat()
        self.figures.hear(figures)
        self.count()
        self._events.beat(self)

    def ask_for_app_figures(self) -> Deferred[object]:
        if not self._is_ready or self.ended:
            return succeed(None)
        return self._control.ask_for_app_figures()

    def count(self) -> None:
        try:
            grown = self._page.read()
        except ControlError as problem:
            self._page.close()
            self.termination.breach("figures", str(problem))
            return
        if self.slot is not None:
            self.slot.figures.add(grown, self._reactor.seconds())

    # ProcessProtocol

    @override
    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.received(childFD, data)

    @override
    def processExited(self, reason: Failure) -> None:
        # Not processEnded: that one waits for the pipes, which a child of the
        # application may hold open for as long as it likes.
        self.termination.end()
        if self.termination.process is None:
            # It has ended before spawnProcess() could return, and so before whoever starts
            # us knows that it has a worker: that is told a turn later.
            self._reactor.callLater(0, self._exited, reason)
        else:
            self._exited(reason)

    def _exited(self, reason: Failure) -> None:
        self.termination.relent()
        signum = getattr(reason.value, "signal", None)
        if self._is_ready or self.termination.verdict or signum is not None:
            self._tell_end(reason)
        else:
            # It has ended by itself before it was ready: why may still be in the channel.
            heard = self._control.closed.addTimeout(LAST_WORDS_SECONDS, self._reactor)
            heard.addErrback(lambda _: None).addCallback(lambda _: self._tell_end(reason))

    def _tell_end(self, reason: Failure) -> None:
        self.termination.relent()  # it may have been told to stop meanwhile
        cause = self.termination.cause(reason)
        self._count_last()
        self._output.flush()
        if self._bus is not None:
            self._bus.end()
        self._control.candidate.die()
        self._events.died(self, cause)
        # Last: what waits for it to give away goes on at once, and must not take a dead worker
        # for one that is still to be told to stop.
        self.link.end()

    def _count_last(self) -> None:
        self.count()
        if self.slot is not None:
            self.slot.figures.lose(self.figures.in_flight)
            self._control.app.end(self.slot.index)

    @override
    def processEnded(self, reason: Failure) -> None:
        # Its last words may have been in the pipes still when it exited.
        self._output.flush()

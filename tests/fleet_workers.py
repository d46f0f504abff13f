"""
Workers without processes, for the model of the fleet: real code on both ends of both
channels, in one process, stepped by hand.

Only what a kernel would do is made up: processes, their ends, and the control channel's
stream.  A *process* here is what ran while it ran: the descriptors that were opened in its
turns are its own, and are closed at its end.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectionDone,
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override
from zope.interface import implementer

from stickyd.control.commands import (
    BUS_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
    Beat,
    Leave,
    Serve,
)
from stickyd.errors import StartFailed
from stickyd.identity.fleet_keys import FleetKeys
from stickyd.identity.worker_info import WorkerInfo
from stickyd.settings import Settings
from stickyd.testing import FakeReadiness
from stickyd.worker.control import PrimaryLink
from stickyd.worker.ends import Ends
from stickyd.worker.reports import Reports
from stickyd.worker.server import Serving
from tests.channels import no_descriptor_free, open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.protocol import ServerFactory

    from stickyd.control.commands import ControlProtocol
    from stickyd.fleet.process.process import WorkerProcess
    from stickyd.worker.keys import WorkerKeys

#: How many connections may be on their way to a worker that has room.
WINDOW = 8

#: How processes end.
EXITED = Failure(ProcessDone(0))
FAILED = Failure(ProcessTerminated(1, None, 256))
KILLED = Failure(ProcessTerminated(None, signal.SIGKILL, 9))


def inode(descriptor: int) -> int:
    """
    What tells two sockets apart, however many descriptors each has.
    """
    return os.fstat(descriptor).st_ino


@implementer(IReactorFDSet)
class WorkerReactor(Clock):
    """
    A worker's reactor: it turns when it is told to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reading: dict[Any, None] = {}
        self.writing: dict[Any, None] = {}

    def addReader(self, reader: Any) -> None:  # noqa: N802 - Twisted's
        self.reading[reader] = None

    def removeReader(self, reader: Any) -> None:  # noqa: N802
        self.reading.pop(reader, None)

    def addWriter(self, writer: Any) -> None:  # noqa: N802
        self.writing[writer] = None

    def removeWriter(self, writer: Any) -> None:  # noqa: N802
        self.writing.pop(writer, None)

    def removeAll(self) -> list[Any]:  # noqa: N802
        raise AssertionError("nobody asks for that")

    def getReaders(self) -> list[Any]:  # noqa: N802
        return list(self.reading)

    def getWriters(self) -> list[Any]:  # noqa: N802
        return list(self.writing)

    def turn(self) -> bool:
        """
        One turn.

        :return: whether there was something to do.
        """
        readable, writable = self._ready()
        for watched in readable:
            watched.doRead()
        for watched in writable:
            watched.doWrite()
        due = self._due()
        self.advance(0)
        return bool(readable or writable or due)

    @property
    def rests(self) -> bool:
        """
        Whether a turn would do nothing.
        """
        return not (self._due() or any(self._ready()))

    def _ready(self) -> tuple[list[Any], list[Any]]:
        readers = {watched.fileno(): watched for watched in self.reading}
        writers = {watched.fileno(): watched for watched in self.writing}
        readable, writable, _ = select.select(list(readers), list(writers), [], 0)
        return [readers[each] for each in readable], [writers[each] for each in writable]

    def _due(self) -> bool:
        return any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())


class Held(Resource):
    """
    Leaves every request unanswered until the model has it answered.
    """

    isLeaf = True

    def __init__(self, began: Callable[[Any], None]) -> None:
        super().__init__()
        self._began = began

    @override
    def render(self, request: Any) -> int:
        self._began(request)
        return NOT_DONE_YET


class Child(PrimaryLink):
    """
    A worker's process: its end of the control channel, and what :mod:`stickyd.worker` makes
    of the commands.

    :ivar alive: whether the process runs.
    :ivar hung: whether its reactor is stuck.
    :ivar descriptors: the sockets that it has open.
    :ivar reaped: whether the primary has heard of its end.
    :ivar how: how it ended.
    :ivar wire: what it has said on the control channel and the primary has not heard.
    :ivar their_wire: the opposite.
    :ivar their_end: the primary's end of that.
    :ivar answer: what fires when the application is loaded, until then.
    :ivar is_served: whether it serves.
    :ivar requests: what it has begun to answer, oldest first.
    :ivar extra_requests: how many more than these it says it has answered.
    :ivar window: how many connections may be on their way to it at most.
    """

    def __init__(
        self,
        pid: int,
        process: WorkerProcess,
        handoffs: int,
        bus: int,
        began: Callable[[Any], None],
        over: Callable[[Child], None],
    ) -> None:
        """
        :param handoffs: the end of the handoff channel that a real child would get.
        :param bus: the end of the bus; the same.
        :param began: told of each request.
        :param over: told that it is about to end, while its descriptors are still open.
        """
        super().__init__(
            self._load,
            self._stop_by,
            lambda: None,
            WorkerInfo(),
            FleetKeys(),
            lambda term, fleet, held: None,
            lambda relieved: None,
        )
        self.pid = pid
        self.pipes: dict[int, int] = {}
        self.process = process
        self.reactor = WorkerReactor()
        self.descriptors: set[int] = set()
        self._ending = self._exits = False
        with self._owning():
            self._handoffs = socket.socket(fileno=os.dup(handoffs))
            self._handoffs.setblocking(False)
            bus_end = socket.socket(fileno=os.dup(bus))
        self._sockets: list[socket.socket] = [self._handoffs, bus_end]
        self._over = over
        self._began = began
        self.wire: StringTransport = StringTransport()
        self.their_wire: StringTransport = StringTransport()
        self.their_end: ControlProtocol | None = None
        self.alive = True
        self.hung = False
        self.reaped = False
        self.how = EXITED
        self.answer: Deferred[None] | None = None
        self.requests: list[Any] = []
        self.window = WINDOW
        self.is_served = False
        self.extra_requests = 0

    @contextmanager
    def _owning(self) -> Iterator[None]:
        before = open_sockets()
        yield
        after = open_sockets()
        self.descriptors |= after - before
        self.descriptors -= before - after
        if self._exits:
            self.die(EXITED)

    # what the model lets it do

    def turn(self, starved: bool = False) -> bool:
        """
        One turn of its reactor.

        :param starved: let it receive no descriptor.
        :return: whether there was something to do.
        """
        if self.reactor.rests and not self._exits:
            return False  # to look at all descriptors takes most of the model's time
        with self._owning(), no_descriptor_free() if starved else nullcontext():
            return self.reactor.turn()

    def advance(self, seconds: float) -> None:
        """
        Let time pass, and its heart beat.
        """
        if self.alive and not self.hung:
            with self._owning():
                self.reactor.advance(seconds)
                if self.is_served and self.serving is not None:
                    figures = self.serving.figures()
                    figures["requests"] += self.extra_requests
                    self.callRemote(Beat, figures=json.dumps(figures))

    def read_control(self) -> bool:
        """
        Hear what the primary has said.

        :return: whether it had.
        """
        said = self.their_wire.value()
        self.their_wire.clear()
        if said:
            with self._owning():
                self.dataReceived(said)
        return bool(said)

    def get_ready(self) -> None:
        """
        Have the application loaded.
        """
        assert self.answer is not None
        assert self.serving is not None
        answer, self.answer = self.answer, None
        with self._owning():
            self.serving.open()
            self.is_served = True
            answer.callback(None)

    def refuse_to_start(self) -> None:
        """
        Fail to load the application, and exit.
        """
        assert self.answer is not None
        answer, self.answer = self.answer, None
        answer.errback(StartFailed("no such application"))
        self.die(FAILED)

    def change_window(self, window: int) -> None:
        """
        Have more or less room.
        """
        if self.is_served and self.serving is not None:
            self.window = window
            with self._owning():
                self.serving._capacity.change_window(window)

    def finish(self, index: int) -> None:
        """
        Answer a request.
        """
        request = self.requests.pop(index % len(self.requests))
        with self._owning():
            if request.channel is not None:  # else its client has gone
                request.setHeader(b"content-length", b"%d" % len(request.uri))
                request.write(request.uri)
                request.finish()

    def spared(self) -> set[int]:
        """
        The connections among its descriptors that outlive it, by inode: those that it has
        not acknowledged, and those on their way back that the primary has not read.
        """
        channel: Any = None if self.serving is None else self.serving._outbox._channel
        theirs = self.process.link.channel
        if channel is None or theirs is None:
            return set()
        returning = [h for h in channel.in_flight if h.sequence > theirs._taken]
        return {inode(handoff.descriptor) for handoff in (*channel._untold, *returning)}

    def ask_to_leave(self) -> None:
        """
        Get SIGTERM.
        """
        if self.is_served and not self._ending:
            self.callRemote(Leave)
        elif not self.is_served:
            self.die(EXITED)

    def die(self, how: Failure) -> None:
        """
        End, as a process does: all its descriptors are closed.
        """
        if not self.alive:
            return
        self.how = how
        self._over(self)
        self.alive = False
        for sock in self._sockets:
            if sock.fileno() >= 0:
                sock.detach()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()

    # what the primary does to it (IProcessTransport)

    def signalProcess(self, signum: int) -> None:  # noqa: N802 - Twisted's
        if self.reaped:
            raise ProcessExitedAlready
        if signum == signal.SIGKILL:
            self.die(KILLED)
        elif signum == signal.SIGTERM and self.alive and not self.hung:
            self.ask_to_leave()

    # what it does

    def _load(self, settings: str, slot: int, keys: WorkerKeys) -> Deferred[None]:
        serving = self.serving = Serving(
            self.reactor,
            Settings.from_json(settings),
            slot,
            keys,
            Ends(self._handoffs),
            Reports(self.send_sessions, lambda identifiers: succeed(None), self.send_known),
            lambda: None,
        )
        host: Any = serving.host
        host.site.resource = Held(self._begin)
        adopt = host.adopt

        def adopt_noted(sock: socket.socket, *rest: Any) -> None:
            self._sockets.append(sock)
            adopt(sock, *rest)

        host.adopt = adopt_noted
        self.answer = Deferred()
        return self.answer

    def _begin(self, request: Any) -> None:
        self.requests.append(request)
        self._began(request)

    def locateResponder(self, name: bytes) -> Any:  # noqa: N802 - Twisted's
        assert name == Serve.commandName or self.serving is not None
        return super().locateResponder(name)

    def _stop_by(self, patience: float) -> None:
        assert self.serving is not None
        if self._ending:
            self.serving.shorten_deadline(patience)
        else:
            self._ending = True
            self.reactor.callLater(0, self._finish, patience)

    def _finish(self, patience: float) -> None:
        assert self.serving is not None
        self.serving.finish(patience).addCallback(self._exit)

    def _exit(self, _: object) -> None:
        self._exits = True


class Primary(Clock):
    """
    The primary's reactor, which starts processes that are none.

    :ivar children: every process that was started.
    :ivar attempts: every attempt to start one.
    :ivar fork_fails: whether the next one cannot be started.
    """

    def __init__(self, began: Callable[[Child, Any], None], over: Callable[[Child], None]) -> None:
        super().__init__()
        self.readiness = FakeReadiness(self)
        self.children: list[Child] = []
        self.attempts: list[WorkerProcess] = []
        self.fork_fails = False
        self._pids = count(1001)
        self._began = began
        self._over = over

    def forget_attempts(self) -> None:
        """
        Close what the primary still has of its workers.
        """
        for process in self.attempts:
            if process.link.channel is not None:
                process.link.channel._socket.close()
            process._page.close()
            if process._bus is not None:
                process._bus.end()  # as garbage it would close its number when another has it

    def spawnProcess(  # noqa: N802 - Twisted's
        self,
        processProtocol: WorkerProcess,  # noqa: N803
        executable: str,
        args: list[str],
        childFDs: dict[int, int | str],  # noqa: N803
        **rest: object,
    ) -> Child:
        self.attempts.append(processProtocol)
        if self.fork_fails:
            self.fork_fails = False
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        handoffs, bus = childFDs[HANDOFF_DESCRIPTOR], childFDs[BUS_DESCRIPTOR]
        assert isinstance(handoffs, int)
        assert isinstance(bus, int)
        child = Child(
            next(self._pids),
            processProtocol,
            handoffs,
            bus,
            lambda request: self._began(child, request),
            self._over,
        )
        self.children.append(child)
        return child

    def adoptStreamConnection(  # noqa: N802 - Twisted's
        self,
        fileDescriptor: int,  # noqa: N803
        addressFamily: int,  # noqa: N803
        factory: ServerFactory,
    ) -> None:
        child = self.children[-1]
        protocol = factory.buildProtocol(cast("Any", None))
        child.their_end = cast("ControlProtocol", protocol)
        child.their_end.makeConnection(cast("Any", child.their_wire))
        child.makeConnection(cast("Any", child.wire))

    def readable(self) -> list[int]:
        """
        The descriptors of handoff channels that can be read, in the order of their start.
        """
        readers = list(self.readiness.readers)
        ready = set(select.select(readers, [], [], 0)[0])
        return [descriptor for descriptor in readers if descriptor in ready]

    def read(self, descriptor: int) -> None:
        """
        Read a handoff channel.
        """
        self.readiness.readers[descriptor]()

    def write(self) -> bool:
        """
        Write to what has room again.

        :return: whether there was something to do.
        """
        writers = dict(self.readiness.writers)
        writable = select.select([], list(writers), [], 0)[1]
        for descriptor in writable:
            writers[descriptor]()
        return bool(writable)

    def read_control(self, child: Child) -> bool:
        """
        Hear what a worker has said, and that it has ended.

        :return: whether there was anything.
        """
        assert child.their_end is not None
        said = child.wire.value()
        child.wire.clear()
        if said and not child.their_wire.disconnected:
            child.their_end.dataReceived(said)
        if not child.alive and not child.their_wire.disconnected:
            child.their_wire.disconnected = True
            child.their_end.connectionLost(Failure(ConnectionDone()))
            return True
        return bool(said)

    def reap(self, child: Child) -> None:
        """
        Hear of the end of a process.
        """
        child.reaped = True
        child.process.processExited(child.how)

    def living(self) -> list[Child]:
        """
        The processes that run and are not stuck.
        """
        return [child for child in self.children if child.alive and not child.hung]

    def starting(self) -> list[Child]:
        """
        Those that could get ready.
        """
        return [child for child in self.living() if child.answer is not None]

    def dead(self) -> list[Child]:
        """
        Those whose end the primary has not heard of.
        """
        return [c for c in self.children if not c.alive and not c.reaped]

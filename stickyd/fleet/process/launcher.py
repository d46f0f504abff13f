"""
Starting the processes of workers.

Theory of operation.  A worker is forked from a process that has imported all of ours that workers
need (:class:`stickyd.fleet.process.fork_server.ForkServer`): it starts in a twentieth of the time,
and shares the memory of that with the others.  Where there is no such process, because the system
cannot have one, or it must not fork, or it has just ended, a worker is started anew, by
``python -m stickyd.worker``; it is the same in all that it does.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from twisted.internet.defer import gatherResults

from stickyd.control.commands import (
    BUS_DESCRIPTOR,
    CONTROL_DESCRIPTOR,
    FIGURES_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
)
from stickyd.control.forking import WORKER_DESCRIPTORS
from stickyd.errors import ControlError
from stickyd.fleet.process.adopted_process import AdoptedProcess
from stickyd.fleet.process.fork_server import ForkServer
from stickyd.fleet.process.spawning import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProcessTransport
    from twisted.internet.protocol import ProcessProtocol

    from stickyd.fleet.process.output_share import OutputShare
    from stickyd.fleet.process.spec import IWorkerReactor, WorkerSpec
    from stickyd.interfaces import IReadiness

#: So many fork servers that end in a row without a worker, and there are no more of them until the
#: next reload.
MOST_FAILURES = 3


class Launcher:
    """
    Starts the processes of workers.

    :ivar spec: what the next workers are started with.
    :ivar share: how much of what they write is logged at a time.
    """

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        spec: WorkerSpec,
        share: OutputShare,
        forks: bool = sys.platform == "linux",
    ) -> None:
        """
        :param forks: whether workers may be forked.
        """
        self._reactor = reactor
        self._readiness = readiness
        self.spec = spec
        self.share = share
        self._may_fork = forks
        self._failures = 0
        self._server: ForkServer | None = None
        self._servers: list[ForkServer] = []

    @property
    def pids(self) -> list[int]:
        """
        The fork servers that have not ended yet.
        """
        return [server.pid for server in self._servers if not server.has_ended]

    def follow(self, spec: WorkerSpec) -> None:
        """
        Start workers with ``spec`` from now on, which import the same as before.
        """
        self.spec = spec

    def renew(self, spec: WorkerSpec) -> None:
        """
        Start workers with ``spec`` from now on, and with what is installed now.
        """
        self.spec = spec
        self._failures = 0
        self._drop_server()

    def stop(self) -> Deferred[list[None]]:
        """
        Start no more workers, nor call who waits to start one.

        :return: fires when no process but workers is left.
        """
        self._may_fork = False
        if self._server is not None:
            self._server.forget_waiting()
        self._drop_server()
        return gatherResults([server.kill() for server in self._servers])

    def _drop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.kill()

    def call_when_ready(self, call: Callable[[], object]) -> None:
        """
        Have ``call`` called when a worker can be started as fast as ever it will; perhaps now.
        """
        if self._server is not None and self._server.is_over:
            self._failures = MOST_FAILURES if self._server.refusal else self._failures + 1
            self._server = None
        if self._server is None and self._may_fork and self._failures < MOST_FAILURES:
            self._start_server()
        if self._server is None:
            call()
        else:
            self._server.call_when_decided(call)

    def _start_server(self) -> None:
        server = ForkServer(self._reactor, self._readiness, self.spec, self.share)
        try:
            server.start()
        except OSError:
            self._failures += 1  # nor can a worker be started, which is told then
            return
        self._server = server
        self._servers = [*(each for each in self._servers if not each.has_ended), server]

    def start(
        self,
        protocol: ProcessProtocol,
        spec: WorkerSpec,
        place: str,
        handoffs: socket.socket,
        figures: int,
        bus: socket.socket,
    ) -> tuple[IProcessTransport | AdoptedProcess, socket.socket]:
        """
        Start a worker's process.

        :param protocol: told what it writes, and that it has exited.
        :param spec: what the worker is made with.
        :param place: its slot or ``spare``, for ``ps``.
        :param handoffs: its end of the handoff channel; remains the caller's.
        :param figures: the descriptor of the page that it counts on; remains the caller's.
        :param bus: its end of the bus; the same.
        :return: the process, and our end of its control channel, non-blocking, which the
            caller closes.
        :raises OSError: if the machine cannot start one more process.
        """
        with ExitStack() as ends:
            control, theirs = socket.socketpair()
            ends.enter_context(theirs)
            ours = ends.enter_context(ExitStack())
            ours.enter_context(control)
            control.setblocking(False)
            descriptors = {
                HANDOFF_DESCRIPTOR: handoffs.fileno(),
                CONTROL_DESCRIPTOR: theirs.fileno(),
                FIGURES_DESCRIPTOR: figures,
                BUS_DESCRIPTOR: bus.fileno(),
            }
            process = self._fork(protocol, spec, place, descriptors) or spawn(
                self._reactor, protocol, spec, ["--slot", place], descriptors
            )
            ours.pop_all()
            return process, control

    def _fork(
        self,
        protocol: ProcessProtocol,
        spec: WorkerSpec,
        place: str,
        descriptors: Mapping[int, int],
    ) -> AdoptedProcess | None:
        server = self._server
        if server is None or not server.serves(spec):
            return None
        pipes: dict[int, int] = {}
        with ExitStack() as ours, ExitStack() as theirs:
            given = dict(descriptors)
            for number in (1, 2):
                pipes[number], given[number] = os.pipe()
                ours.callback(os.close, pipes[number])
                theirs.callback(os.close, given[number])
            try:
                pid = server.fork(place, [given[number] for number in WORKER_DESCRIPTORS])
            except ControlError:
                return None
            self._failures = 0
            ours.pop_all()
        return AdoptedProcess(
            self._reactor,
            self._readiness,
            pid,
            pipes,
            protocol.childDataReceived,
            protocol.processExited,
        )

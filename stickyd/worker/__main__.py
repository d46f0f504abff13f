"""
The composition root of a worker: ``python -m stickyd.worker``, started by the primary.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from typing_extensions import override

from stickyd.claim_desk import desk
from stickyd.control.commands import (
    CONTROL_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
    Beat,
    Claim,
    Leave,
    Serve,
    Sessions,
    Stop,
)
from stickyd.errors import OperatorError, StartFailed
from stickyd.net.descriptors import keep_from_children
from stickyd.net.steady_time import keep_steady
from stickyd.settings import Settings
from stickyd.worker.control import Follower
from stickyd.worker.first_order import await_first_order
from stickyd.worker.loading import import_ahead
from stickyd.worker.log import begin_logging, write_lines_at_once
from stickyd.worker.orphan import OrphanWatch
from stickyd.worker.side_effects import forget_undeclared, free_forks
from stickyd.worker.trial import try_application

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class Worker(Follower):
    """
    A worker from its start to its end.

    :ivar exit_code: what the process ends with.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        handoffs: socket.socket,
        orphan: OrphanWatch,
        problem: OperatorError | None = None,
    ) -> None:
        """
        :param problem: why the application could not be imported.
        """
        super().__init__()
        self._reactor = reactor
        self._problem = problem
        self._handoffs = handoffs
        self._orphan = orphan
        self._patience = 0.0
        self._beat: LoopingCall | None = None
        self._ending = False
        self.exit_code = 0
        reactor.addSystemEventTrigger("before", "shutdown", self._finish)
        reactor.callWhenRunning(self._mind_signals)

    def _mind_signals(self) -> None:
        """
        Take SIGTERM as a wish: a successor is ready before we go.

        A service manager may send it to the whole group; the primary, which got it too,
        then has us stop anyway.  The reactor has installed its own handlers by now.
        """

        def leave(signum: int, frame: object) -> None:
            self._reactor.callFromThread(self._ask_to_leave)

        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, _not_ours)

    def begin_with(self, read: bytes) -> None:
        """
        Act on what was read from the channel before, as soon as the loop runs.
        """
        transport: Any = self.transport
        # Nothing may be read that came later.
        transport.pauseProducing()

        def begin() -> None:
            self.dataReceived(read)
            transport.resumeProducing()

        self._reactor.callLater(0, begin)

    def _ask_to_leave(self) -> None:
        if self.serving is None or self._beat is None:
            self._end()
        elif self.transport is not None and not self._ending:
            self.callRemote(Leave)

    @Serve.responder
    def serve(
        self, settings: str, slot: int, path: list[str], secrets: list[bytes]
    ) -> Deferred[dict[str, object]]:
        if self._problem is not None:
            return self._refuse(str(self._problem))
        decided = Settings.from_json(settings)
        # Not above: the reactor must be installed before anything imports it.
        from stickyd.worker.server import Serving

        def begin(_: object) -> dict[str, object]:
            serving.open(self._handoffs)
            desk.open(self._reactor.callFromThread, serving.own_ids.claim_value)
            self._patience = self._orphan.patience = decided.stop_timeout
            self._beat = LoopingCall(self._tell_figures)
            self._beat.clock = self._reactor
            self._beat.start(decided.heartbeat)
            return {}

        try:
            serving = self.serving = Serving(
                self._reactor,
                decided,
                slot,
                secrets,
                self._send_sessions,
                self._send_claims,
                self._end,
            )
        except OperatorError as problem:
            return self._refuse(str(problem))
        return serving.host.start().addCallbacks(
            begin, lambda failure: self._refuse(failure.getErrorMessage())
        )

    def _refuse(self, reason: str) -> Deferred[dict[str, object]]:
        self.exit_code = 1
        if self.transport is not None:
            # A call later, so after the answer: we end when that has left.
            self._reactor.callLater(0, self.transport.loseConnection)
        self.serving = None
        raise StartFailed(reason)

    def _tell_figures(self) -> None:
        if self.serving is not None and self.transport is not None:
            accepted = self.serving.listening.tally.take()
            self.callRemote(
                Beat,
                figures=json.dumps(self.serving.figures()),
                accepted=None if accepted is None else accepted.to_json(),
            )

    def _send_sessions(self, slot: int, chunk: bytes) -> Deferred[None]:
        sent: Deferred[None] = self.callRemote(Sessions, slot=slot, chunk=chunk)
        return sent.addCallback(lambda _: None)

    def _send_claims(self, identifiers: list[bytes]) -> Deferred[object]:
        told: Deferred[object] = self.callRemote(Claim, identifiers=identifiers)
        return told

    @Stop.responder
    def stop(self, patience: float) -> dict[str, object]:
        self._patience = patience
        if self._ending and self.serving is not None:
            self.serving.shorten_deadline(patience)
        self._reactor.callLater(0, self._end)
        return {}

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self.serving is not None:
            # A relieved worker may have been given longer than an orphan gets.
            self.serving.shorten_deadline(self._orphan.patience)
            if self._beat is not None:
                self.serving.listening.close_orphaned()
        self._end()

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            # A signal may have begun the same a moment ago.
            with suppress(ReactorNotRunning):
                self._reactor.stop()

    def _finish(self) -> Deferred[None] | None:
        """
        Let requests under way finish before the reactor stops, within our patience.
        """
        self._ending = True
        if self._beat is None or self.serving is None:
            return None
        # The heart goes on beating: a worker that takes its time to finish does not hang.
        return self.serving.finish(self._patience)


def install_reactor(name: str) -> Any:
    """
    Install the reactor that the settings name, and return it.
    """
    if name == "epoll":
        from twisted.internet import epollreactor

        epollreactor.install()
    else:
        import asyncio

        from twisted.internet import asyncioreactor

        if name == "uvloop":
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        else:
            loop = asyncio.SelectorEventLoop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    from twisted.internet import reactor

    keep_steady(reactor)
    return reactor


def _not_ours(signum: int, frame: object) -> None:
    """
    Take no notice of Ctrl-C, which reaches the whole process group: the primary alone
    decides what it means.  Not SIG_IGN, which programs that the application starts would
    inherit.
    """


def prepare() -> None:
    """
    Make this process, which has imported all of ours, what an application expects.
    """
    forget_undeclared()
    free_forks()


def serve(reactor_name: str) -> int:
    """
    Serve until told to stop, or until the primary is gone.

    :return: the exit code.
    """
    # The primary asks for it when the heartbeats fail to come.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    begin_logging()
    orphan = OrphanWatch(os.dup(CONTROL_DESCRIPTOR))
    orphan.start()
    reactor = install_reactor(reactor_name)
    handoffs = socket.socket(fileno=HANDOFF_DESCRIPTOR)
    handoffs.setblocking(False)
    with socket.socket(fileno=CONTROL_DESCRIPTOR) as control:
        order = await_first_order(control)
        if order is None:
            return 0
        arguments, read = order
        path: list[str] = arguments["path"]
        sys.path.extend(entry for entry in path if entry not in sys.path)
        problem = None
        try:
            _import(Settings.from_json(arguments["settings"]), reactor)
        except OperatorError as raised:
            problem = raised
        worker = Worker(reactor, handoffs, orphan, problem)
        reactor.adoptStreamConnection(
            control.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: worker)
        )
    worker.begin_with(read)
    reactor.run()
    return worker.exit_code


def _import(settings: Settings, reactor: Any) -> None:
    # All of ours first: what it does to the application's world is then put right.
    import stickyd.worker.server  # noqa: F401

    prepare()
    import_ahead(settings, reactor)


def check(descriptor: int) -> int:
    """
    Try the application.

    :param descriptor: the socket of :func:`stickyd.worker.trial.try_application`.
    :return: the exit code.
    """
    write_lines_at_once()
    with socket.socket(fileno=descriptor) as channel:
        return try_application(channel, install_reactor, prepare)


def main() -> int:
    """
    Do what the command line says.

    :return: the exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m stickyd.worker", description=__doc__)
    # Only for `ps` to show: a spare gets its slot later.
    parser.add_argument("--slot", default="spare")
    parser.add_argument("--reactor", default="uvloop")
    parser.add_argument("--check", type=int, metavar="DESCRIPTOR")
    arguments = parser.parse_args()
    # What the primary gave us is ours alone: a child of the application that had the handoff
    # channel would keep it open after our death.
    keep_from_children()
    signal.signal(signal.SIGINT, _not_ours)
    # All that the primary may have blocked as it started us.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    if arguments.check is not None:
        return check(arguments.check)
    return serve(arguments.reactor)


if __name__ == "__main__":
    sys.exit(main())

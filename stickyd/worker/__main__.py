"""
The composition root of a worker: ``python -m stickyd.worker``, started by the primary.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from typing_extensions import override

from stickyd.control.commands import Beat, ControlProtocol, Serve, Stop
from stickyd.errors import ApplicationError, StartFailed
from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.readiness import readiness_of
from stickyd.settings import Settings
from stickyd.worker.log import begin_logging
from stickyd.worker.orphan import OrphanWatch

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from stickyd.interfaces import IHost
    from stickyd.worker.adopt import Adoption

#: Where :mod:`stickyd.fleet.spawn` puts our ends of the channels.
HANDOFF_DESCRIPTOR = 3
CONTROL_DESCRIPTOR = 4


class Worker(ControlProtocol):
    """
    The worker's end of the control channel, and what it is told to do.

    :ivar exit_code: what the process ends with.
    """

    _log = Logger()

    def __init__(self, reactor: Any, handoffs: socket.socket, orphan: OrphanWatch) -> None:
        super().__init__()
        self._reactor = reactor
        self._handoffs = handoffs
        self._orphan = orphan
        self._patience = 0.0
        self._host: IHost | None = None
        self._adoption: Adoption | None = None
        self._beat: LoopingCall | None = None
        self._ending = False
        self.exit_code = 0
        reactor.addSystemEventTrigger("before", "shutdown", self._finish)

    @Serve.responder
    def serve(self, settings: str, slot: int, path: list[str]) -> Deferred[dict[str, object]]:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        decided = Settings.from_json(settings)
        # Imported here, as the reactor must be installed before anything imports it.
        from stickyd.worker.application import build_host

        try:
            self._host = build_host(decided, self._reactor)
        except ApplicationError as problem:
            return self._refuse(str(problem))
        return self._host.start().addCallbacks(
            lambda _: self._begin(decided), lambda failure: self._refuse(failure.getErrorMessage())
        )

    def _begin(self, settings: Settings) -> dict[str, object]:
        from stickyd.worker.adopt import Adoption

        assert self._host is not None
        readiness = readiness_of(self._reactor)
        adoption = Adoption(self._reactor, self._host, settings.window, self._end)
        self._adoption = adoption
        channel = HandoffChannel(
            readiness, self._reactor, self._handoffs, adoption, adoption.window
        )
        adoption.announce = channel.announce
        channel.open()
        self._patience = self._orphan.patience = settings.stop_timeout
        self._beat = LoopingCall(self._tell_figures)
        self._beat.clock = self._reactor
        self._beat.start(settings.heartbeat)
        return {}

    def _refuse(self, reason: str) -> Deferred[dict[str, object]]:
        self.exit_code = 1
        # A call later, so that the answer is written before the reactor stops.
        self._reactor.callLater(0, self._end)
        raise StartFailed(reason)

    def _tell_figures(self) -> None:
        if self._host is not None and self._adoption is not None:
            figures = {"connections": self._host.connections, "adopted": self._adoption.adopted}
            self.callRemote(Beat, figures=json.dumps(figures))

    @Stop.responder
    def stop(self, patience: float) -> dict[str, object]:
        self._patience = patience
        self._reactor.callLater(0, self._end)
        return {}

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._end()

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            # A signal may have begun the same a moment ago.
            with suppress(ReactorNotRunning):
                self._reactor.stop()

    def _finish(self) -> Deferred[None]:
        """
        Let requests under way finish before the reactor stops, within our patience.
        """
        self._ending = True
        if self._beat is not None:
            self._beat.stop()
        host, adoption = self._host, self._adoption
        if host is None or adoption is None:
            return succeed(None)
        adoption.closing = True
        adoption.announce()
        overdue = self._reactor.callLater(self._patience, host.abort)

        def drained(_: object) -> Deferred[None]:
            if overdue.active():
                overdue.cancel()
            return host.stop()

        return host.drain().addCallback(drained)


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

    return reactor


def check() -> int:
    """
    Import the application whose settings stand on standard input, and say how it went.
    """
    from stickyd.worker.application import build_host

    settings = Settings.from_json(sys.stdin.read())
    try:
        build_host(settings, install_reactor(settings.worker_reactor))
    except ApplicationError as problem:
        sys.stdout.write(f"{problem}\n")
        return 1
    return 0


def main() -> int:
    """
    Serve until told to stop, or until the primary is gone.
    """
    parser = argparse.ArgumentParser(prog="python -m stickyd.worker", description=__doc__)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--reactor", default="uvloop")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    # Ctrl-C reaches the whole process group; the primary alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begin_logging()
    orphan = OrphanWatch(os.dup(CONTROL_DESCRIPTOR))
    orphan.start()
    reactor = install_reactor(arguments.reactor)
    handoffs = socket.socket(fileno=HANDOFF_DESCRIPTOR)
    handoffs.setblocking(False)
    worker = Worker(reactor, handoffs, orphan)
    reactor.adoptStreamConnection(
        CONTROL_DESCRIPTOR, socket.AF_UNIX, Factory.forProtocol(lambda: worker)
    )
    os.close(CONTROL_DESCRIPTOR)
    reactor.run()
    return worker.exit_code


if __name__ == "__main__":
    sys.exit(main())

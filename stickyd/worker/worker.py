"""
A worker from its start to its end.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from stickyd.claim_desk import desk
from stickyd.errors import OperatorError, StartFailed
from stickyd.identity.desk import fleet_keys, own_mint, this_worker
from stickyd.leadership.desk import leadership
from stickyd.net.readiness import readiness_of
from stickyd.release_desk import release_desk
from stickyd.sessions.apps.desk import session_desk
from stickyd.settings import Settings
from stickyd.worker.control import PrimaryLink
from stickyd.worker.known_clients import TOKEN
from stickyd.worker.leader_link import LeaderLink, leader_reach
from stickyd.worker.reports import Reports

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from stickyd.worker.bus import WorkerBus
    from stickyd.worker.ends import Ends
    from stickyd.worker.keys import WorkerKeys
    from stickyd.worker.orphan import OrphanWatch
    from stickyd.worker.server import Serving


#: What means nothing to a worker.  The primary alone decides what Ctrl-C means, which reaches the
#: whole process group, and what resizes; the others would end the worker.
IGNORED = frozenset(
    {
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGHUP,
        signal.SIGALRM,
        signal.SIGVTALRM,
        signal.SIGPROF,
        signal.SIGIO,
    }
)


def ignore(signum: int, frame: object) -> None:
    """
    Take no notice of a signal.  Not SIG_IGN, which programs that the application starts would
    inherit.
    """


def ignore_signals() -> None:
    """
    Take no notice of :data:`IGNORED`, unless the application handles them.
    """
    for signum in IGNORED:
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, ignore)


#: Seconds that a primary which does not answer is waited for at the end.
LAST_FIGURES_SECONDS = 1.0


class Worker:
    """
    Serves, beats, and ends in good order.

    :ivar link: the way to the primary.
    :ivar exit_code: what the process ends with.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        ends: Ends,
        orphan: OrphanWatch,
        bus: WorkerBus | None = None,
        problem: OperatorError | None = None,
    ) -> None:
        """
        :param ends: what we share with the primary.
        :param bus: ended when the application has; None if it could not be had.
        :param problem: why the application could not be imported, or that.
        """
        self._reactor = reactor
        self._problem = problem
        self._ends = ends
        self._orphan = orphan
        self._bus = bus
        self._patience_seconds = 0.0
        # Until it serves, and for good if it cannot.
        self._serving: Serving | None = None
        self._heart: LoopingCall | None = None
        self._leader_link: LeaderLink | None = None
        self._ending = False
        self.exit_code = 0
        self.link = PrimaryLink(
            self._serve,
            self._stop,
            self._lose_primary,
            this_worker,
            fleet_keys,
            self._lead,
            leadership.relieve,
        )
        reactor.addSystemEventTrigger("before", "shutdown", self._finish)
        reactor.callWhenRunning(self._mind_signals)

    def _mind_signals(self) -> None:
        """
        Take SIGTERM and SIGHUP as a wish: a successor is ready before we go.

        A service manager may send it to the whole group; the primary, which got it too,
        then has us stop anyway.  The reactor has installed its own handlers by now.
        """

        def leave(signum: int, frame: object) -> None:
            self._reactor.callFromThread(self._ask_to_leave)

        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, ignore)
        if signal.getsignal(signal.SIGHUP) is ignore:
            signal.signal(signal.SIGHUP, leave)

    def _ask_to_leave(self) -> None:
        if self._serving is None:
            self._end()
        elif self.link.is_open and not self._ending:
            self.link.ask_to_leave()

    def _serve(self, text: str, slot: int, keys: WorkerKeys) -> Deferred[None]:
        if self._problem is not None:
            self._refuse_for(self._problem)
        settings = Settings.from_json(text)
        # Not above: the reactor must be installed before anything imports it.
        from stickyd.worker.server import Serving

        try:
            serving = Serving(
                self._reactor,
                settings,
                slot,
                keys,
                self._ends,
                Reports(self.link.send_sessions, self.link.send_claims, self.link.send_known),
                self._end,
            )
        except OperatorError as problem:
            self._refuse_for(problem)
        self.link.obey_with(serving)
        return (
            serving.start_sessions()
            .addCallback(lambda _: self._bus.ready() if self._bus else None)
            .addCallback(lambda _: serving.host.start())
            .addCallbacks(
                lambda _: self._begin(serving, settings),
                lambda failure: self._refuse(failure.getErrorMessage()),
            )
        )

    def _begin(self, serving: Serving, settings: Settings) -> None:
        self._serving = serving
        serving.open()
        own_ids = serving.homes.own_ids
        desk.open(self._reactor.callFromThread, own_ids.claim_value, own_ids.is_learning)
        release_desk.open(self._reactor.callFromThread, serving.homes.release_client)
        known = serving.homes.known
        if known is not None:
            own_mint.call_when_minting(
                lambda made: self._reactor.callFromThread(known.add, TOKEN + made)
            )
        # The loop's own, where it has one: Twisted's makes a turn of it.
        soon = getattr(
            readiness_of(self._reactor), "call_soon_threadsafe", self._reactor.callFromThread
        )
        session_desk.open(serving.sessions, soon)
        self._leader_link = LeaderLink(
            self._reactor, self.link, leadership, leader_reach(self._reactor, settings, self.link)
        )
        leadership.open(self._leader_link)
        self._patience_seconds = settings.stop_timeout
        self._orphan.allow(settings.stop_timeout)
        self._heart = LoopingCall(self._beat, serving)
        self._heart.clock = self._reactor
        self._heart.start(settings.heartbeat)

    def _lead(self, term: int, fleet: str, held: tuple[int, float]) -> None:
        if self._leader_link is not None:
            self._leader_link.lead(term, fleet, held)

    def _beat(self, serving: Serving) -> None:
        if self.link.is_open:
            self.link.beat(serving)

    def _refuse_for(self, problem: OperatorError) -> NoReturn:
        trace = getattr(problem, "trace", "")
        if trace:
            self._log.error(
                "The application cannot be imported:\n{trace}",
                event="application.not-imported",
                trace=trace,
            )
        self._refuse(str(problem))

    def _refuse(self, reason: str) -> NoReturn:
        self.exit_code = 1
        transport = self.link.transport
        if transport is not None:
            # A call later, so after the answer: we end when that has left.
            self._reactor.callLater(0, transport.loseConnection)
        raise StartFailed(reason)

    def _stop(self, patience_seconds: float) -> None:
        leadership.leave()
        self._patience_seconds = patience_seconds
        if self._ending and self._serving is not None:
            self._serving.shorten_deadline(patience_seconds)
        self._reactor.callLater(0, self._end)

    def _lose_primary(self) -> None:
        leadership.leave()
        if self._serving is not None:
            # A relieved worker may have been given longer than an orphan gets.
            self._serving.shorten_deadline(self._orphan.patience)
            self._serving.listening.close_orphaned()
        self._end()

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            # A signal may have begun the same a moment ago.
            with suppress(ReactorNotRunning):
                self._reactor.stop()

    def _tell_last(self, serving: Serving) -> Deferred[object] | None:
        """
        Tell what the application has counted since the last heartbeat.
        """
        if not self.link.is_open:
            return None
        told = self.link.send_app_figures(serving, True)
        return told.addTimeout(LAST_FIGURES_SECONDS, self._reactor).addErrback(lambda _: None)

    def _finish(self) -> Deferred[None] | None:
        """
        Let requests under way finish before the reactor stops, within our patience.
        """
        self._ending = True
        if self._serving is None or self._leader_link is None:
            return None
        ended = self._leader_link.finish(self._patience_seconds)
        # The heart goes on beating: a worker that takes its time to finish does not hang.
        serving = self._serving
        finished = serving.finish(self._patience_seconds)
        finished.addCallback(lambda _: self._tell_last(serving))
        finished.addBoth(lambda result: ended.addCallback(lambda _: result))
        return finished.addCallback(lambda _: self._bus.leave() if self._bus else None)

"""
What a worker is made of while it serves.
"""

from __future__ import annotations

import os
import resource
import time
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import gatherResults, succeed
from twisted.logger import Logger

from stickyd.affinity.key_counts import Report
from stickyd.figures.page import CPU_NS, STORE_CALLS, TOKENS_REFUSED
from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.frame import Flag
from stickyd.net.readiness import readiness_of
from stickyd.net.steady_time import WallClock
from stickyd.sessions.cache import CacheMode, CachePolicy
from stickyd.sessions.record import SessionExpiry
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.opening import StoreContext, open_store
from stickyd.settings.session_url import parse_session_url
from stickyd.worker.accepting import Listening
from stickyd.worker.app_metrics import AppMetrics
from stickyd.worker.asking_keys import AskingKeys
from stickyd.worker.build_host import build_host, open_access_log
from stickyd.worker.capacity import Capacity
from stickyd.worker.farewell import Farewell
from stickyd.worker.give_away import Retirement
from stickyd.worker.handoffs import Handoffs, adopt
from stickyd.worker.homes import ClientHomes
from stickyd.worker.loop_lag import LoopLag
from stickyd.worker.outbox import Outbox
from stickyd.worker.rest import count_rest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.settings import Settings
    from stickyd.worker.ends import Ends
    from stickyd.worker.keys import WorkerKeys
    from stickyd.worker.reports import Reports


#: Seconds that a worker with nothing left to serve tries to give away the rest.
LAST_SECONDS = 10.0


class Serving:
    """
    Host, sessions, and both directions of the handoff channel.

    :ivar homes: which clients belong here, and where the others do.
    :ivar host: serves connections.
    :ivar sessions: the sessions of this worker's clients.
    :ivar retirement: gives away what is not ours any more.
    :ivar listening: accepts where the kernel steers.
    :ivar app_metrics: what the application counts.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        slot: int,
        keys: WorkerKeys,
        ends: Ends,
        reports: Reports,
        lost: Callable[[], None],
    ) -> None:
        """
        :param reports: tells the primary.
        :param ends: what we share with the primary; the socket is closed with the channel, but
            remains the caller's if this fails.
        :param lost: called when the primary has closed the handoff channel.
        :raises OperatorError: if the application, or a file that the settings name, cannot
            be had.
        """
        self._reactor = reactor
        self.sessions = session_registry(settings, reactor, keys.sessions)
        self._lost = lost
        self._access_log = open_access_log(settings.access_log)
        self._outbox = Outbox()
        self.homes = ClientHomes(
            *(reactor, settings, slot, keys, reports.claims, reports.known, self._outbox)
        )
        self.host = build_host(
            settings,
            reactor,
            self.sessions,
            self._access_log,
            self.homes.route,
            self.homes.stickiness,
            ends.counts,
        )
        self._page = ends.counts.page
        self._finishes = False
        self._asking = AskingKeys(reactor.seconds, self.host, ends.counts.page, settings.heartbeat)
        self.app_metrics = AppMetrics(reactor, bool(settings.admin))
        self._lag = LoopLag(reactor)
        self._farewell = Farewell(
            reactor, self.host, settings.stop_timeout, settings.stream_timeout
        )
        self.retirement = Retirement(
            self.host, self.sessions, self._outbox, reports.sessions, self.homes.places
        )
        self._capacity = Capacity(reactor, self.host, settings.window)
        readiness = readiness_of(reactor)
        self.listening = Listening(
            reactor,
            readiness,
            settings.affinity,
            partial(adopt, self.host),
            self._capacity.window,
            self.homes.places,
            self._outbox,
            ends.counts.page,
        )
        if self.homes.known is not None:
            self.listening.keep_clients(self.homes.known)
            self.sessions.watch_clients(self.homes.note_session)
        # Asked with each connection, so in one step where no clients are kept.
        take = self.retirement.divert if self.homes.known is None else self._divert
        listen = self.listening.add
        self._handoffs = Handoffs(
            self.host, self._capacity, self._outbox, take, listen, lost, ends.counts.page
        )
        self._channel = HandoffChannel(
            readiness, reactor, ends.handoffs, self._handoffs, self._capacity.window
        )
        # What the channel brings may leave by it again; and the accept loops must hear of room.
        self._outbox.open(self._channel)
        self._capacity.watch(self._channel.announce)
        self._capacity.watch(self.listening.look)

    def _divert(self, handoff: Handoff) -> bool:
        """
        Pass a connection on that has come and is not to be served here.
        """
        if self.retirement.divert(handoff):
            return True
        known = self.homes.known
        return known is not None and not known.meets(handoff) and self._move_on(handoff)

    def _move_on(self, handoff: Handoff) -> bool:
        handoff.flags |= Flag.MOVED_ON
        self._outbox.move_on(handoff)
        return True

    def start_sessions(self) -> Deferred[None]:
        """
        Open the store of sessions; a spare's when it gets its slot.

        :return: fires when it can be used; fails with
            :exc:`stickyd.errors.OperatorError` if it cannot be.
        """
        slot = self.homes.places.slot
        return self.sessions.store.start(slot) if slot >= 0 else succeed(None)

    def occupy(self, slot: int, generation: int = 0) -> None:
        """
        Take a slot, as a spare.
        """
        self.homes.occupy(slot, generation)
        self.sessions.distrust()
        self.start_sessions().addErrback(self._end_without_sessions)

    def place(self, slots: int, available: Sequence[int]) -> None:
        """
        Know how clients are placed from now on; some may come back who were elsewhere.
        """
        self.homes.places.update(slots, available)
        self.sessions.distrust()

    def _end_without_sessions(self, failure: Failure) -> None:
        # The next worker of the slot says the same to the primary.
        self._log.critical(
            "{problem}", event="worker.cannot-serve", problem=failure.getErrorMessage()
        )
        self._lost()

    def open(self) -> None:
        """
        Take connections from the primary.
        """
        self._capacity.count_own()
        self._lag.start()
        self._channel.open()
        if self.homes.known is not None:
            self.homes.known.begin(self.host.clients, self.retirement.carry_strangers)

    def verify_also(self, secrets: Sequence[bytes]) -> None:
        """
        Take tokens for good that are signed with these secrets; we go on signing with our own.
        """
        self.homes.verify_also(secrets)

    def release(self, slots: int, available: Sequence[int]) -> Deferred[None]:
        """
        Give away what is not ours by a new placement; see :meth:`Retirement.release`.
        """
        self.listening.released(slots, available)
        self.homes.give_away()
        self.sessions.distrust()
        return self.retirement.release(slots, available)

    def keep(self, slots: int, available: Sequence[int]) -> Deferred[None]:
        """
        Keep the clients that we know, and give away the sessions of others; see
        :meth:`ClientHomes.keep` and :meth:`Retirement.keep`.
        """
        known = self.homes.known
        if known is None:
            return succeed(None)
        self.listening.released(slots, available)
        self.sessions.distrust()
        told = self.homes.keep(slots, available)
        carried = self.retirement.keep(slots, available, known.keeps)
        return gatherResults([told, carried]).addCallback(lambda _: None)

    def stay(self) -> None:
        """
        Go on after all: the successor that was to have everything has died.
        """
        self.homes.stay()
        self.retirement.stay()
        self.listening.accept()

    def figures(self) -> dict[str, float]:
        """
        What a heartbeat tells: open connections, handoffs that were taken, connections
        that we accepted ourselves, answered requests, resident and private memory in bytes,
        sessions here, descriptors, and how late the reactor was at most since the last one, in
        seconds; of a worker that finishes, what is left.

        What counts up stands on the page of figures; what changes rarely is brought up to date
        there.
        """
        self._page[CPU_NS] = time.process_time_ns()
        self._page[TOKENS_REFUSED] = self.homes.tokens_refused
        store = self.sessions.store
        # One that stands before another asks that.
        store = getattr(store, "behind", store)
        self._page[STORE_CALLS] = getattr(store, "calls", 0)
        resident, private = memory_bytes()
        rest: dict[str, float] = {}
        if self._finishes:
            rest["waiting"], rest["streams"] = count_rest(self.host)
        return rest | {
            "connections": self.host.connections,
            "adopted": self._handoffs.adopted,
            "accepted": self.listening.accepted,
            "requests": self.host.requests,
            "memory": resident,
            "private": private,
            "sessions": self.sessions.count,
            "descriptors": self._capacity.used,
            "lag": self._lag.take(),
            "store_away": float(getattr(store, "is_away", False)),
        }

    def report(self) -> Report | None:
        """
        Tell who had most of the connections that we accepted ourselves, and of our requests.

        :return: nothing if there is nothing to tell.
        """
        accepted = self.listening.key_counts.take()
        requests, asking = self._asking.take()
        if not requests:
            return accepted
        if accepted is None:
            return Report(0, (), requests, asking)
        return Report(accepted.total, accepted.busiest, requests, asking)

    def finish(self, patience: float) -> Deferred[None]:
        """
        Take no more, finish what is under way, and close what is not finished in time.

        :return: fires when the worker may exit.
        """
        self._finishes = True
        self.listening.close()
        self.retirement.leave()
        self._capacity.close()
        # The other workers stop too, or take no more from us.
        self.homes.pause()
        self._farewell.begin(patience)

        def drained(_: object) -> Deferred[None]:
            self._farewell.stop()
            settled = self.retirement.settled()
            # The primary may be dead, or stuck, and never take what we would give it.
            settled.addTimeout(LAST_SECONDS, self._reactor)
            return settled.addErrback(lambda _: None).addCallback(lambda _: self.host.stop())

        return self.host.drain().addCallback(drained).addCallback(lambda _: self.close())

    def reopen_log(self) -> None:
        """
        Open the access log again.
        """
        if self._access_log is not None:
            self._access_log.reopen()

    def close(self) -> Deferred[None]:
        """
        Close the access log and the store of sessions.

        :return: fires when that is closed.
        """
        self._lag.stop()
        if self.homes.known is not None:
            self.homes.known.stop()
        self.sessions.stop()
        if self._access_log is not None:
            self._access_log.close()
        return self.sessions.store.stop()

    def shorten_deadline(self, patience: float) -> None:
        """
        Shorten the time that :meth:`finish` gave, if it is longer than ``patience``.
        """
        self._farewell.shorten(patience)


def session_registry(
    settings: Settings, reactor: Any, session_keys: Sequence[bytes] = ()
) -> SessionRegistry:
    """
    Make the store of this worker's sessions, which is started later.

    :raises SettingError: if there is no such store.
    """
    # Sessions outlive this process, and go to others.
    wall_clock = WallClock(reactor)
    context = StoreContext(
        reactor,
        wall_clock,
        max_count=settings.session_limit,
        max_bytes=settings.session_memory * 1024 * 1024,
        grace_seconds=settings.session_grace,
        away_in_memory=settings.session_away == "memory",
        keys=tuple(session_keys),
    )
    store = open_store(parse_session_url(settings.sessions), context)
    expiry = SessionExpiry(settings.session_idle, settings.session_lifetime)
    cache = CachePolicy(
        CacheMode(settings.session_cache),
        context.max_count,
        context.max_bytes,
        inf if context.away_in_memory else settings.session_grace,
    )
    return SessionRegistry(store, wall_clock, expiry=expiry, cache=cache)


def memory_bytes() -> tuple[int, int]:
    """
    The resident memory of this process (proc(5)), and what of it is no file's that others may
    have too; where there is no /proc, its peak, twice.
    """
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak, peak
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return resident * page_bytes, (resident - shared) * page_bytes

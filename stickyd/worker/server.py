"""
What a worker is made of while it serves.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stickyd.affinity.resolve import Resolver
from stickyd.affinity.token import Signer, merged
from stickyd.handoff.channel import HandoffChannel
from stickyd.net.readiness import readiness_of
from stickyd.net.steady_time import WallClock
from stickyd.serve.stickiness import CookieAttributes, Stickiness
from stickyd.sessions.record import SessionExpiry
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.worker.accepting import Listening
from stickyd.worker.application import build_host
from stickyd.worker.claims import RENEWAL, OwnIds, OwnKeys
from stickyd.worker.edge import open_access_log
from stickyd.worker.give_away import Retirement
from stickyd.worker.handoffs import Adoption
from stickyd.worker.outbox import Outbox
from stickyd.worker.routing import Rehoming
from stickyd.worker.slot_map import SlotMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall

    from stickyd.settings import Settings


#: Seconds that a worker with nothing left to serve tries to give away the rest.
LAST_SECONDS = 10.0


class Serving:
    """
    Host, sessions, and both directions of the handoff channel.

    :ivar host: serves connections.
    :ivar sessions: the sessions of this worker's clients.
    :ivar retirement: gives away what is not ours any more; once :meth:`open` was called.
    :ivar listening: accepts where the kernel steers; likewise.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        slot: int,
        secrets: Sequence[bytes],
        send_sessions: Callable[[int, bytes], Deferred[None]],
        send_claims: Callable[[list[bytes]], Deferred[object]],
        lost: Callable[[], None],
    ) -> None:
        """
        :param secrets: what signs (the first) and verifies tokens; none if there are none.
        :param lost: called when the primary has closed the handoff channel.
        :raises OperatorError: if the application, or a file that the settings name, cannot
            be had.
        """
        self._reactor = reactor
        self._settings = settings
        self._send_sessions = send_sessions
        self._lost = lost
        self._overdue: IDelayedCall | None = None
        # Sessions outlive this process, and go to others.
        wall_clock = WallClock(reactor)
        self.sessions = SessionRegistry(
            MemorySessionStore(
                wall_clock,
                max_count=settings.session_limit,
                max_bytes=settings.session_memory * 1024 * 1024,
            ),
            wall_clock,
            expiry=SessionExpiry(settings.session_idle, settings.session_lifetime),
        )
        self._access_log = open_access_log(settings.access_log)
        self.places = SlotMap(slot, settings.placement)
        self.own_ids = OwnIds(
            reactor, settings.keys, send_claims, min(RENEWAL, settings.learn_timeout / 4)
        )
        self._outbox = Outbox()
        self._secrets = secrets
        signer = Signer(secrets) if secrets else None
        self._stickiness = self._reception(signer)
        self._rehoming = Rehoming(
            Resolver(settings.keys, signer, self.places.stands, settings.networks),
            self.places,
            self.own_ids,
            OwnKeys(reactor),
            self._outbox,
            settings.networks,
        )
        self.host = build_host(
            settings,
            reactor,
            self.sessions,
            self._access_log,
            self._rehoming.route if self._rehoming.needed else None,
            self._stickiness,
        )

    def _reception(self, signer: Signer | None) -> Stickiness | None:
        settings = self._settings
        reception = Stickiness(
            settings.keys,
            signer,
            lambda: self.places.slot,
            self.own_ids.claim,
            settings.networks,
            CookieAttributes(
                settings.cookie_path,
                settings.cookie_domain,
                settings.cookie_samesite,
                settings.cookie_secure,
                settings.cookie_max_age,
            ),
        )
        return reception if reception.needed else None

    def open(self, sock: socket) -> None:
        """
        Take connections from the primary.

        :param sock: our end of the handoff channel.
        """
        readiness = readiness_of(self._reactor)
        self._adoption = Adoption(
            self._reactor,
            self.host,
            self._settings.window,
            self._channel_lost,
            self._outbox.returned,
            self._outbox.room,
            lambda handoff: self.retirement.divert(handoff),
        )
        channel = HandoffChannel(
            readiness, self._reactor, sock, self._adoption, self._adoption.window
        )
        self._outbox.open(channel)
        self.retirement = Retirement(
            self.host, self.sessions, self._outbox, self._send_sessions, self.places
        )
        self.listening = Listening(
            self._reactor,
            readiness,
            self._settings.affinity,
            self._adoption,
            self.places,
            self._outbox,
        )
        self._adoption.listen = self.listening.add

        def announce() -> None:
            channel.announce()
            self.listening.look()

        self._adoption.announce = announce
        channel.open()

    def verify_also(self, secrets: Sequence[bytes]) -> None:
        """
        Take tokens for good that are signed with these secrets; we go on signing with our own.
        """
        if not self._secrets:
            return  # nobody is told by a token where it belongs
        self._secrets = merged(self._secrets, secrets)
        signer = Signer(self._secrets)
        self._rehoming.renew(signer)
        if self._stickiness is not None:
            self._stickiness.signer = signer

    def _channel_lost(self) -> None:
        self._outbox.give_up()
        self._lost()

    def release(self, slots: int, standing: Sequence[int]) -> Deferred[None]:
        """
        Give away what is not ours by a new placement; see :meth:`Retirement.release`.
        """
        self.listening.released(slots, standing)
        return self.retirement.release(slots, standing)

    def stay(self) -> None:
        """
        Go on after all: the successor that was to have everything has died.
        """
        self.retirement.stay()
        self.listening.accept()

    def figures(self) -> dict[str, float]:
        """
        What a heartbeat tells: open connections, handoffs that were taken, connections
        that we accepted ourselves, answered requests, resident memory in bytes.
        """
        return {
            "connections": self.host.connections,
            "adopted": self._adoption.adopted,
            "accepted": self.listening.accepted,
            "requests": self.host.requests,
            "memory": resident_bytes(),
        }

    def finish(self, patience: float) -> Deferred[None]:
        """
        Take no more, finish what is under way, and close what is not finished in time.

        :return: fires when the worker may exit.
        """
        self.listening.close()
        self.retirement.leaving = True
        self._adoption.close()
        # The others stop too, or do without us.
        self._rehoming.paused = True
        overdue = self._overdue = self._reactor.callLater(patience, self.host.abort)

        def drained(_: object) -> Deferred[None]:
            if overdue.active():
                overdue.cancel()
            settled = self.retirement.settled()
            # The primary may be dead, or stuck, and never take what we would give it.
            settled.addTimeout(LAST_SECONDS, self._reactor)
            return settled.addErrback(lambda _: None).addCallback(lambda _: self.host.stop())

        return self.host.drain().addCallback(drained).addCallback(lambda _: self.close())

    def close(self) -> None:
        """
        Close the access log.
        """
        if self._access_log is not None and self._access_log is not sys.stdout:
            self._access_log.close()

    def shorten_deadline(self, patience: float) -> None:
        """
        Shorten the time that :meth:`finish` gave, if it is longer than ``patience``.
        """
        overdue = self._overdue
        if overdue is None or not overdue.active():
            return
        if overdue.getTime() > self._reactor.seconds() + patience:
            overdue.reset(patience)


def resident_bytes() -> int:
    """
    The resident memory of this process (proc(5)); where there is no /proc, its peak.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")

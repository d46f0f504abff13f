"""
Finding sessions of a store that answers later.

One question for an id is under way at a time, whoever asks meanwhile shares it.  What is kept
here already costs none if it cannot have changed elsewhere: in a store of this worker alone, or
if whoever asks knows that its client is this worker's, and the copy was read or written since the
worker knows that.  Else its version is compared, which costs less than to read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from stickyd.errors import StoreAway
from stickyd.sessions.cache import CacheMode, SessionCache
from stickyd.sessions.record import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.sessions.cache import CachePolicy
    from stickyd.sessions.interfaces import ISessionStore
    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.record import SessionRecord

#: Seconds that a copy waits to be compared, before it is used as it is.
COMPARE_SECONDS = 1.0


class SessionLoads:
    """
    Loads sessions, once for all who ask at a time.
    """

    def __init__(
        self,
        store: ISessionStore,
        clock: IReactorTime,
        policy: CachePolicy,
        *,
        owned: bool,
        live_of: Callable[[bytes], LiveSession | None],
        enter: Callable[[SessionRecord], LiveSession],
        gone: Callable[[bytes, EndReason | None], object],
        name_of: Callable[[bytes], bytes],
    ) -> None:
        """
        :param owned: whether nobody else writes into the store.
        :param live_of: tells what there is of a session here.
        :param enter: called with each record that was loaded.
        :param gone: called with the id of a session that turns out to have ended, and how; or
            with :obj:`None` if what there is of it here is to be left to whoever has it.
        :param name_of: gives what sessions are known by here.
        """
        self._store = store
        self._clock = clock
        self._cache = SessionCache(policy.max_count, policy.max_bytes)
        self._mode = policy.mode
        self._grace_seconds = policy.grace_seconds
        self._owned = owned
        self._live_of = live_of
        self._enter = enter
        self._gone = gone
        self._name_of = name_of
        self._under_way: dict[bytes, list[Deferred[LiveSession | None]]] = {}
        self._epoch = 0

    def distrust(self) -> None:
        """
        Compare what is kept before it is used again: its clients may have been elsewhere.
        """
        self._epoch += 1

    def load(self, uid: bytes, trusted: bool) -> Deferred[LiveSession | None]:
        """
        See :meth:`stickyd.sessions.registry.SessionRegistry.load`.
        """
        live = self._live_of(uid)
        if live is not None and live.unsure and not live.held and not live.saving:
            # Whose write it was has heard that it failed, and may try again; others see what
            # the store says.
            self._gone(live.uid, None)
            live = None
        if live is not None and self.may_use(live, trusted):
            return succeed(None if live.ended is not None else live)
        name = self._name_of(uid)
        waiting: Deferred[LiveSession | None] = Deferred()
        sharing = self._under_way.get(name)
        if sharing is not None:
            sharing.append(waiting)
            return waiting
        self._under_way[name] = [waiting]
        Deferred.fromCoroutine(self._ask(uid, live)).addBoth(self._answer, name)
        return waiting

    def under_way(self, uid: bytes) -> Deferred[None] | None:
        """
        Look whether somebody is about to have a session.

        :return: fires when they have it, after they were told; :obj:`None` if nobody asks.
        """
        sharing = self._under_way.get(self._name_of(uid))
        if sharing is None:
            return None
        waiting: Deferred[LiveSession | None] = Deferred()
        sharing.append(waiting)
        return waiting.addBoth(lambda _: None)

    def may_use(self, live: LiveSession, trusted: bool) -> bool:
        """
        Tell whether what there is of a session here needs no question; then it is used now.
        """
        if not self._is_good(live, trusted):
            return False
        live.touch()
        if self._mode is not CacheMode.OFF:
            self._cache.keep(live.name, live)
        return True

    def forget(self, name: bytes) -> None:
        """
        Keep a session no longer.
        """
        self._cache.drop(name)

    def confirm(self, live: LiveSession) -> None:
        """
        Note that a copy is what the store has.
        """
        live.confirmed = (self._epoch, self._clock.seconds())
        if self._mode is not CacheMode.OFF:
            self._cache.keep(live.name, live)

    def _is_good(self, live: LiveSession, trusted: bool) -> bool:
        if live.held or live.saving:
            return True
        if live.ended is not None or live.over or self._mode is not CacheMode.TRUST:
            return False
        return self._owned or (trusted and live.confirmed[0] == self._epoch)

    async def _ask(self, uid: bytes, live: LiveSession | None) -> LiveSession | None:
        comparable = live is not None and live.version and not live.over and live.ended is None
        if live is not None and comparable and self._mode is not CacheMode.OFF:
            version = await self._compare(live)
            if version == live.version and live.ended is None:
                self.confirm(live)
                return live
        record = await self._store.load(uid if live is None else live.uid)
        if record is None:
            if live is not None and live.version and not live.held and not live.saving:
                self._gone(live.uid, EndReason.EXPIRED if live.over else EndReason.DELETED)
            return None
        found = self._enter(record)
        self.confirm(found)
        return found

    async def _compare(self, live: LiveSession) -> int | None:
        """
        Ask for the version that is stored; while the store is away a copy that is young enough
        stands for what it would say.
        """
        asking = self._store.version(live.uid)
        asking.addTimeout(COMPARE_SECONDS, self._clock)
        try:
            return await asking
        except (StoreAway, DeferredTimeoutError):
            if self._clock.seconds() - live.confirmed[1] <= self._grace_seconds:
                return live.version
            raise StoreAway("the store of sessions is away") from None

    def _answer(self, outcome: LiveSession | Failure | None, name: bytes) -> None:
        waiting = self._under_way.pop(name)
        if not isinstance(outcome, Failure):
            live = outcome
            if live is not None:
                live.touch()
                if live.ended is not None:
                    live = None
            for deferred in waiting:
                if not deferred.called:
                    deferred.callback(live)
            return
        for deferred in waiting:
            if not deferred.called:
                deferred.errback(outcome)

"""
The sessions of a process: those in its store, and those in use.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from twisted.internet.defer import DeferredList, fail, succeed
from twisted.logger import Logger

from stickyd.errors import NoSuchSession, SessionMoved, TransferError
from stickyd.sessions.answers import result_of
from stickyd.sessions.awaited import AwaitedSessions
from stickyd.sessions.cache import CachePolicy
from stickyd.sessions.export import Export
from stickyd.sessions.interfaces import ICarriedStore, ISlotStore
from stickyd.sessions.late_export import LateExport
from stickyd.sessions.live import LiveSession
from stickyd.sessions.live_context import LiveContext
from stickyd.sessions.loads import SessionLoads
from stickyd.sessions.record import (
    HIDDEN,
    KEY_LIMIT,
    UNKNOWN_CLIENT,
    EndReason,
    HiddenId,
    SessionExpiry,
    SessionRecord,
    hidden_id,
    new_uid,
)
from stickyd.sessions.transfer import CHUNK, CHUNK_LEAST, ChunkReader, followers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from stickyd.sessions.interfaces import ISessionStore

_SWEEP_LIMIT = 1_000  # sessions looked at in one turn of the reactor: about 1 ms


#: Seconds for which a worker is believed that a session will follow; it says so again before.
FOLLOW_LEASE_SECONDS = 6.0


class SessionRegistry:
    """
    Where everybody in a process gets sessions.

    For twisted.web, :mod:`stickyd.sessions.web.site` does that; anybody else calls
    :meth:`create` and :meth:`load`::

        session = await registry.load(uid) or registry.create()
        session.data["hits"] = session.data.get("hits", 0) + 1
        await session.save()

    To carry sessions to another worker, take the chunks of :meth:`export_batches` and
    give each to :meth:`import_chunk` there.  With the yield of a chunk its
    sessions have left: here they are known as moved, a request that asks for one
    fails with :exc:`stickyd.errors.SessionMoved`, and so does every attempt to change
    one.  So nothing is written twice.  A chunk that could not be delivered is given to
    :meth:`import_chunk` here, and its sessions are back.  Sessions that a request is
    using do not leave.  They follow when it lets go of them, if :meth:`forward` was told
    how; or wait for :meth:`stickyd.sessions.live.LiveSession.when_released`, and export
    again.

    :ivar store: where the records are.
    :ivar carried: the same, if its sessions must be carried; else :obj:`None`.
    :ivar clock: gives the time, seconds since 1970.
    :ivar max_data: the most bytes that the data of one session may have.
    :ivar relieved: whether another worker has everybody's sessions from now on.
    :ivar awaited: those that another worker still uses, and will send here.
    """

    _log = Logger()

    def __init__(
        self,
        store: ISessionStore,
        clock: IReactorTime,
        *,
        expiry: SessionExpiry = SessionExpiry(),  # noqa: B008 -- frozen
        max_data: int = 256 * 1024,
        sweep: float = 30.0,
        cache: CachePolicy = CachePolicy(),  # noqa: B008 -- frozen
    ) -> None:
        """
        :param store: where the records are; nobody else may change them there.
        :param clock: ``seconds()`` gives seconds since 1970.
        :param expiry: of new sessions.
        :param max_data: the most bytes that the data of one session may have,
            as :func:`stickyd.sessions.plain.encode` writes it.
        :param sweep: how many seconds pass between two searches for sessions that are over.
        :param cache: what is kept here of a store that answers later, and for what.
        """
        self.store = store
        self.carried: ICarriedStore | None = store if ICarriedStore.providedBy(store) else None
        self.clock = clock
        self.max_data = max_data
        self._context = LiveContext(
            *(store, clock, max_data, self._over, self._renamed, _nonces().__next__, self._stored),
            lambda client, is_there: self._of_client(client, is_there),
        )
        self._of_client: Callable[[bytes, bool], object] = lambda client, is_there: None
        self._knows_clients = False
        self._expiry = expiry
        # By what is told of ids: who keeps them outside of the process does not know these.
        self._name: Callable[[bytes], bytes] = bytes if store.immediate else hidden_id
        self._live: WeakValueDictionary[bytes, LiveSession] = WeakValueDictionary()
        # Those whose id is known, by that: a hash takes its time.
        self._by_uid: WeakValueDictionary[bytes, LiveSession] = (
            self._live if store.immediate else WeakValueDictionary()
        )
        # The names that sessions had until now.
        self._former: dict[bytes, bytes] = {}
        self._loads = SessionLoads(
            *(store, clock, cache),
            owned=self.carried is not None,
            live_of=self._live_of,
            enter=self._take,
            gone=self._leave_to_holders,
            name_of=self._name,
        )
        self._reader = ChunkReader()
        self.awaited = AwaitedSessions(clock)
        self._sweep_interval = sweep
        self._sweep_call: IDelayedCall | None = None
        self._stopped = False
        self._before_export: list[Callable[[], object]] = []
        self._forward: Callable[[LiveSession], Deferred[None] | None] | None = None
        self.relieved = False
        self._handed_over = False
        store.observe(self.gone)

    @property
    def count(self) -> int:
        """
        How many sessions are here: all of a store in memory, of others those that are kept.
        """
        size: Callable[[], int] | None = getattr(self.store, "__len__", None)
        return len(self._live) if size is None else size()

    def create(
        self, key: bytes = b"", secure: bool = False, uid: bytes | None = None
    ) -> LiveSession:
        """
        Make a session, with a new id.  It is stored when it is saved.

        :param key: the affinity key of its client.  What is past 16,384 bytes is cut off.
        :param secure: whether its id is only ever sent over TLS.
        :param uid: an id of your own, ASCII, that none has; never one that a client chose.
        :raise ValueError: it looks like the hash of one.
        """
        if uid is not None and uid.startswith(HIDDEN):
            raise ValueError(f"an id cannot begin with {HIDDEN.decode()}")
        created = self.clock.seconds()
        expiry = self._expiry
        return self._enter(
            SessionRecord(
                uid=new_uid() if uid is None else uid,
                version=0,
                created=created,
                touched=created,
                idle=expiry.idle,
                lifetime=expiry.lifetime,
                key=key[:KEY_LIMIT],
                secure=secure,
            )
        )

    def load(self, uid: bytes, trusted: bool = False) -> Deferred[LiveSession | None]:
        """
        Look a session up, and note that it is used.

        :param trusted: whether the client is known to belong to this worker, by a token that was
            verified, so that what is kept here of the session cannot be out of date.
        :return: fires with the session, or with :obj:`None` if there is none.  Fails
            with :exc:`stickyd.errors.SessionMoved` if it has moved, or with an error of
            the store's.
        """
        if not self.store.immediate:
            return self._loads.load(uid, trusted)
        live = self._live_of(uid)
        if live is None:
            return self.store.load(uid).addCallback(self._loaded)
        live.touch()
        return succeed(None if live.ended is not None else live)

    def at_hand(self, uid: bytes, trusted: bool = False) -> bool:
        """
        Look whether a session can be used without asking the store, and note that it is used.

        :param trusted: as for :meth:`load`.
        """
        live = self._by_uid.get(uid)
        return (
            live is not None
            and live.ended is None
            and not live.unsure
            and self._loads.may_use(live, trusted)
        )

    def distrust(self) -> None:
        """
        Compare what is kept here of sessions with the store before it is used again: the clients
        of this worker may have been elsewhere.
        """
        self._loads.distrust()

    def _live_of(self, uid: bytes) -> LiveSession | None:
        live = self._by_uid.get(uid)
        if live is not None:
            return live
        name = self._name(uid)
        live = self._live.get(name)
        if live is None and name in self._former:
            live = self._live.get(self._former[name])
        return live

    def find(self, uid: bytes) -> LiveSession | None:
        """
        Look a session up in an immediate store, as :meth:`load`.

        :raise stickyd.errors.SessionMoved: it has moved.
        """
        return result_of(self.load(uid))

    def in_use(self, uid: bytes) -> LiveSession:
        """
        Get a session that somebody is using already.

        :raise stickyd.errors.NoSuchSession: nobody is.
        """
        live = self._live_of(uid)
        if live is None:
            raise NoSuchSession("nobody is using a session of this id")
        return live

    def busy(self, select: Callable[[LiveSession], bool] | None = None) -> list[LiveSession]:
        """
        Tell which sessions requests are using, so that :meth:`export_batches` left them.

        :param select: leaves out those for which it is false.
        """
        return [
            live
            for live in self._live.values()
            if live.held and live.ended is None and (select is None or select(live))
        ]

    def watch_clients(self, of_client: Callable[[bytes, bool], object]) -> None:
        """
        Have ``of_client`` called with what tells a client from all others of this worker, whenever
        the client uses a session (and true), and when its session is deleted (and false).
        """
        self._of_client = of_client
        self._knows_clients = True

    def call_before_export(self, callback: Callable[[], object]) -> None:
        """
        Have ``callback`` called before sessions leave.  It holds those that requests under
        way may still ask for.
        """
        self._before_export.append(callback)

    def forward(
        self,
        send: Callable[[LiveSession], Deferred[None] | None] | None,
        relieved: bool = False,
    ) -> None:
        """
        Have what requests let go of from now on follow those that have left.

        :param send: called with each such session; gives what fires, and never fails, when
            the session is where it belongs, or :obj:`None` if it stays.  :obj:`None` to have
            none follow any more.
        :param relieved: whether all of them go, and none comes any more.
        """
        self._forward = send
        self.relieved = relieved

    @property
    def forwards(self) -> bool:
        """
        Whether sessions follow those that have left.
        """
        return self._forward is not None

    def let_go(self, live: LiveSession) -> Deferred[None] | None:
        """
        Say that what :meth:`stickyd.sessions.live.LiveSession.hold` announced is done and
        saved.

        :return: fires when the session is where it belongs; :obj:`None` if that is here.
        """
        live.release()
        return None if self._forward is None else self._forward(live)

    def _lacks(self, uid: bytes) -> bool:
        try:
            return result_of(self.store.load(uid)) is None
        except SessionMoved:
            return True

    def has_moved(self, uid: bytes) -> bool:
        """
        Tell whether a session of an immediate store has left for another worker.  That is no use.
        """
        try:
            result_of(self.store.load(uid))
        except SessionMoved:
            return True
        return False

    def export_batches(
        self,
        select: Callable[[SessionRecord], bool] | None = None,
        max_bytes: int = CHUNK,
        uids: Iterable[bytes] | None = None,
    ) -> Iterator[bytes]:
        """
        Take sessions out, to be carried to another worker.  None from a store that every
        worker sees.

        :param select: leaves those here for which it is false.
        :param max_bytes: the most bytes of a chunk, 49,152 or more.
        :param uids: the ids of those that shall leave; all by default.  ``select`` is not
            asked about them.
        :return: chunks.  Each session leaves when the chunk that has it, or the
            first part of it, is given out; one of which not all parts were
            taken comes back when the iterator is closed.
        :raise ValueError: ``max_bytes`` is too small.
        """
        if max_bytes < CHUNK_LEAST:
            raise ValueError(f"a chunk must have room for {CHUNK_LEAST} bytes, not {max_bytes}")
        if self.carried is None:
            return iter(())
        return Export(self.carried, self._live, select, max_bytes, self._prepare, uids).chunks()

    def late_export(self, send: Callable[[bytes], Awaitable[None]]) -> LateExport:
        """
        Carry sessions as :meth:`export_batches` does, of a store that answers later.

        :param send: sends a chunk; fires when somebody else has it.
        """
        assert self.carried is not None
        return LateExport(self.carried, self._live_of, self._loads.under_way, self._prepare, send)

    async def hand_over(self, forward: Callable[[SessionRecord], Deferred[None]]) -> bool:
        """
        Leave the store to the next worker of this slot, but for the sessions that are held.

        :param forward: as :meth:`stickyd.sessions.interfaces.ISlotStore.hand_over`.
        :return: whether it is a store that can be left.
        """
        store = self.store
        if not ISlotStore.providedBy(store):
            return False
        if self._handed_over:
            return True
        self._handed_over = True
        self._prepare()
        for live in list(self._live.values()):
            if live.held or live.ended is not None:
                continue
            live.leave()
            if live.unsaved and live.version:
                await live.save().addErrback(self._not_saved_in_time)
        self._prepare()
        kept: list[bytes] = []
        left: list[bytes] = []
        for live in list(self._live.values()):
            (kept if live.held or live.saving else left).append(live.uid)
        handed = store.hand_over(kept, forward)
        for uid in left:
            self.gone(uid, EndReason.MOVED)
        await handed
        return True

    def claim_leftovers(self, slots: int) -> Deferred[None]:
        """
        Take in this slot's share of what slots have left that there are not any more.
        """
        if not ISlotStore.providedBy(self.store):
            return succeed(None)
        return self.store.claim_leftovers(slots).addCallback(lambda _: None)

    def _not_saved_in_time(self, failure: Failure) -> None:
        self._log.failure(
            "sessions: a session leaves without its last changes",
            failure,
            event="session.last-changes-lost",
        )

    def take_back(self) -> None:
        """
        Go on with all sessions, as there is no next worker after all.
        """
        if ISlotStore.providedBy(self.store):
            self._handed_over = False
            self.store.take_back()

    def _prepare(self) -> None:
        for callback in self._before_export:
            callback()

    def import_chunk(self, chunk: bytes) -> Deferred[int]:
        """
        Take in sessions that were taken out elsewhere.  May be repeated.

        :param chunk: what :meth:`export_batches` gave.  The parts of a session that comes
            in parts are given in their order.
        :return: fires with how many sessions are stored now that were not before.  Fails
            with :exc:`stickyd.errors.TransferError` if it is not a chunk; nothing of it
            is stored then.  A session for which the store has no room is logged.
        """
        return self.take_in(chunk).addCallback(len)

    def take_in(self, chunk: bytes) -> Deferred[list[SessionRecord]]:
        """
        Do the same.

        :return: fires with the sessions that are stored now and were not before.
        """
        try:
            keys = followers(chunk)
            if keys is not None:
                # Of a store that both workers use, one after the other, an earlier version may
                # be here already.
                lacks = self._lacks if self.store.immediate else self.awaited.has_not_come
                lacking = {uid: key for uid, key in keys.items() if lacks(uid)}
                self.awaited.expect(lacking, FOLLOW_LEASE_SECONDS)
                return succeed([])
            records = self._reader.read(chunk)
        except TransferError:
            return fail()
        carried = self.carried
        if carried is None:
            # Of the worker of a former generation, which had another store.
            self._log.warn(
                "sessions: {n} that were carried here are lost",
                event="session.carried-lost",
                n=len(records),
            )
            return succeed([])
        self._arm()
        if self._knows_clients and self.store.immediate:
            records = [
                record if record.client else replace(record, client=UNKNOWN_CLIENT)
                for record in records
            ]
        adopted = [
            carried.adopt(record).addCallbacks(self._adopted, self._refused, (record,))
            for record in records
        ]
        # Whoever keeps a session until it is here must hear that it is not.
        return DeferredList(
            adopted, fireOnOneErrback=not self.store.immediate, consumeErrors=True
        ).addCallback(
            lambda stored: [record for record, (_, new) in zip(records, stored, strict=True) if new]
        )

    def stop(self) -> None:
        """
        Stop looking for sessions that are over.
        """
        self._stopped = True
        if self._sweep_call is not None and self._sweep_call.active():
            self._sweep_call.cancel()

    def gone(self, uid: bytes, reason: EndReason) -> None:
        """
        Note that a session is no longer here: for the store and the session alone.
        """
        name = self._name(uid)
        self._loads.forget(name)
        live = self._live.pop(name, None)
        if reason is EndReason.MOVED:
            self.awaited.left(uid if live is None else live.uid)
        if live is not None:
            self._by_uid.pop(live.uid, None)
            live.end(reason)

    def _over(self, live: LiveSession, reason: EndReason) -> None:
        current = self._live.get(live.name)
        if current is live or reason.for_good:
            self.gone(live.uid, reason)
        if current is not live:
            live.end(reason)  # it was left to whoever has it

    def _leave_to_holders(self, uid: bytes, reason: EndReason | None) -> None:
        if reason is not None:
            self.gone(uid, reason)
            return
        name = self._name(uid)
        self._loads.forget(name)
        live = self._live.pop(name, None)
        if live is not None:
            self._by_uid.pop(live.uid, None)

    def _stored(self, live: LiveSession) -> None:
        if live.ended is None:
            self._loads.confirm(live)

    def _renamed(self, old: bytes, new: bytes, seconds: float) -> None:
        former, name = self._name(old), self._name(new)
        live = self._live[name] = self._live.pop(former)
        live.name = name
        self._by_uid.pop(old, None)
        self._by_uid[new] = live
        self._loads.forget(former)
        if seconds and not self.store.immediate:
            # Until the store knows, who asks for the old one must not write it.
            self._former[former] = name
            self.clock.callLater(seconds, self._former.pop, former, None)

    def _enter(self, record: SessionRecord) -> LiveSession:
        self._arm()
        live = LiveSession(self._context, record)
        live.name = self._name(record.uid)
        self._live[live.name] = live
        if not isinstance(record.uid, HiddenId):
            self._by_uid[record.uid] = live
        return live

    def _loaded(self, record: SessionRecord | None) -> LiveSession | None:
        if record is None:
            return None
        live = self._take(record)
        live.touch()
        return live

    def _take(self, record: SessionRecord) -> LiveSession:
        live = self._live.get(self._name(record.uid))
        if live is None:
            return self._enter(record)
        if live.version != record.version and not live.held and not live.saving:
            live.refresh(record)
        return live

    def _arm(self) -> None:
        if self._sweep_call is None and not self._stopped:
            self._sweep_call = self.clock.callLater(self._sweep_interval, self._sweep)

    def _sweep(self) -> None:
        self.store.expire(_SWEEP_LIMIT).addCallbacks(self._swept, self._sweep_failed)

    def _swept(self, more: bool) -> None:
        self._sweep_call = None
        if not self._stopped:
            delay = 0.0 if more else self._sweep_interval
            self._sweep_call = self.clock.callLater(delay, self._sweep)

    def _sweep_failed(self, failure: Failure) -> None:
        self._log.failure(
            "sessions: the search for sessions that are over has failed",
            failure,
            event="session.search-failed",
        )
        self._swept(False)

    def _adopted(self, stored: bool, record: SessionRecord) -> bool:
        self.awaited.come(record.uid)
        if stored:
            # What anybody has of an earlier version of it here is out of date.
            self.gone(record.uid, EndReason.SUPERSEDED)
        return stored

    def _refused(self, failure: Failure) -> bool | Failure:
        if not self.store.immediate:
            return failure
        self._log.failure(
            "sessions: a session that was carried here is lost",
            failure,
            event="session.carried-lost",
        )
        return False


def _nonces() -> Iterator[bytes]:
    """
    Names for writes: no other process makes the same.
    """
    ours = os.urandom(8)
    return (ours + number.to_bytes(8, "big") for number in count())

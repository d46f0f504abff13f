"""
The store in the worker's own memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import fail, succeed
from zope.interface import implementer

from stickyd.errors import (
    NoSuchSession,
    SessionConflict,
    SessionError,
    SessionMoved,
    SessionTooLarge,
    SettingError,
)
from stickyd.sessions.interfaces import ICarriedStore
from stickyd.sessions.record import EndReason, HiddenId, SessionRecord
from stickyd.sessions.stores.eviction import EvictionOrder
from stickyd.sessions.stores.timer_wheel import TimerWheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stickyd.sessions.stores.opening import StoreContext
    from stickyd.settings.session_url import SessionUrl

OVERHEAD = 1_536
"""
What a session counts beside its data and key, in bytes: the record, its places in this
store, and the objects that twisted.web's applications see (measured: 0.45 KiB for
the record and 1.3 KiB for all, on CPython 3.11).
"""


class _Entry:
    __slots__ = ("nonce", "record", "tick", "touched")

    def __init__(self, record: SessionRecord, nonce: bytes) -> None:
        self.record = record
        self.nonce = nonce
        # Apart from the record, which is immutable: a touch must not make a new one.
        self.touched = record.touched
        self.tick: int | None = None  # where it is in the wheel

    def due(self) -> float:
        record = self.record
        return min(self.touched + record.idle, record.created + record.lifetime)

    def current(self) -> SessionRecord:
        if self.touched != self.record.touched:
            record = self.record
            self.record = record.revised(record.version, self.touched, record.data)
        return self.record


@implementer(ICarriedStore)
class MemorySessionStore:
    """
    Keeps records in a dict, at most so many and so large.  When it is full, sessions give way
    that were used once, and those that were not used for the longest time, see
    :mod:`stickyd.sessions.stores.eviction`.

    :ivar evicted: how many gave way.
    :ivar expired: how many were over.
    :ivar size: what the records count, in bytes (see :data:`OVERHEAD`).
    """

    immediate = True

    def __init__(
        self,
        clock: IReactorTime,
        *,
        max_count: int = 100_000,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """
        :param clock: ``seconds()`` gives seconds since 1970.
        :param max_count: the most sessions.
        :param max_bytes: the most bytes, counted as in ``size``.
        """
        if max_count < 1 or max_bytes < 1:
            raise ValueError("a session store must have room for at least one session and byte")
        self.evicted = 0
        self.expired = 0
        self.size = 0
        self._clock = clock
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._entries: dict[bytes, _Entry] = {}
        self._order = EvictionOrder()
        self._moved: dict[bytes, int | None] = {}  # and where each is in the wheel
        self._wheel = TimerWheel()
        self._observers: list[Callable[[bytes, EndReason], object]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def start(self, slot: int) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def check(self) -> Deferred[list[str]]:
        return succeed([])

    def observe(self, callback: Callable[[bytes, EndReason], object]) -> None:
        self._observers.append(callback)

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        entry = self._find(uid)
        while entry is not None and entry.record.alias:
            uid = entry.record.alias
            entry = self._find(uid)
        if entry is not None:
            return succeed(entry.current())
        if uid in self._moved:
            return fail(_moved(uid))
        return succeed(None)

    def version(self, uid: bytes) -> Deferred[int | None]:
        entry = self._find(uid)
        if entry is not None:
            return succeed(None if entry.record.alias else entry.record.version)
        return fail(_moved(uid)) if uid in self._moved else succeed(None)

    def save(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        entry = self._find(record.uid)
        if entry is None:
            if record.uid in self._moved:
                return fail(_moved(record.uid))
            if record.version:
                return fail(NoSuchSession(f"session {_short(record.uid)} has ended"))
            touched = record.touched
        else:
            stored = entry.record
            if stored.version != record.version or stored.alias:
                if nonce and entry.nonce == nonce and stored.version == record.version + 1:
                    return succeed(entry.current())
                return fail(_conflict(record.uid, record.version, stored))
            touched = max(entry.touched, record.touched)
        return self._store(record.revised(record.version + 1, touched, record.data), nonce)

    def touch(self, uid: bytes) -> Deferred[bool]:
        entry = self._entries.get(uid)
        if entry is None or entry.record.alias:
            return succeed(False)
        now = self._clock.seconds()
        if entry.due() <= now:
            self._end(uid, EndReason.EXPIRED)
            return succeed(False)
        entry.touched = now
        self._order.use(uid)
        return succeed(True)

    def delete(self, uid: bytes) -> Deferred[bool]:
        entry = self._find(uid)
        if entry is None:
            return succeed(False)
        self._remove(uid)
        return self.delete(entry.record.alias) if entry.record.alias else succeed(True)

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        entry = self._find(old)
        if entry is None:
            return succeed(False)
        record = entry.record
        if record.alias == new:
            return succeed(True)
        if record.alias or record.version != version:
            return fail(_conflict(old, version, record))
        now = self._clock.seconds()
        alias = SessionRecord(
            *(old, version + 1, now, now, seconds, seconds, b"{}", record.key, record.secure, new)
        )
        return self._store(alias).addCallback(lambda stored: True)

    def expire(self, limit: int) -> Deferred[bool]:
        now = self._clock.seconds()
        for _ in range(limit):
            uid = self._wheel.pop(now)
            if uid is None:
                return succeed(False)
            self._look_at(uid, now)
        return succeed(True)

    def enumerate(self, limit: int) -> Iterator[Deferred[list[SessionRecord]]]:
        # A snapshot of the ids: others come and go meanwhile.
        uids = list(self._entries)
        for start in range(0, len(uids), limit):
            entries = [self._find(uid) for uid in uids[start : start + limit]]
            yield succeed([entry.current() for entry in entries if entry is not None])

    def move(self, uid: bytes) -> Deferred[SessionRecord | None]:
        entry = self._find(uid)
        if entry is None:
            return succeed(None)
        record = entry.current()
        self._remove(uid)
        self._mark_moved(record)
        self._tell(uid, EndReason.MOVED)
        return succeed(record)

    def put(self, record: SessionRecord) -> None:
        """
        Keep a record as it is.
        """
        self._store(record)

    def peek(self, uid: bytes) -> SessionRecord | None:
        """
        Look a record up, be it an alias itself.
        """
        entry = self._find(uid)
        return None if entry is None else entry.current()

    def take(self, uid: bytes) -> SessionRecord | None:
        """
        Take a record out, and know nothing of it any more.
        """
        record = self.peek(uid)
        if record is not None:
            self._remove(uid)
        return record

    def moved(self, uid: bytes) -> Deferred[None]:
        return succeed(None)

    def adopt(self, record: SessionRecord) -> Deferred[bool]:
        if isinstance(record.uid, HiddenId):
            return fail(SessionError("a session of which only the hash of the id is known"))
        entry = self._find(record.uid)
        known = entry is not None and entry.record.version >= record.version
        if known or record.due() <= self._clock.seconds():
            if entry is not None and not known:
                self._end(record.uid, EndReason.DELETED)
            return succeed(False)
        return self._store(record).addCallback(lambda stored: True)

    def _find(self, uid: bytes) -> _Entry | None:
        entry = self._entries.get(uid)
        if entry is not None and entry.due() <= self._clock.seconds():
            self._end(uid, EndReason.EXPIRED)
            return None
        return entry

    def _store(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        cost = _cost(record)
        if cost > self._max_bytes:
            return fail(
                SessionTooLarge(
                    f"session {_short(record.uid)} counts {cost} bytes; "
                    f"the store has room for {self._max_bytes}"
                )
            )
        self._forget_move(record.uid)
        # The record tells it too, as it comes from another worker.
        again = record.touched > record.created
        if record.uid in self._entries:
            again = self._remove(record.uid) or again
        self._order.add(record.uid, again)
        entry = self._entries[record.uid] = _Entry(record, nonce)
        entry.tick = self._wheel.put(record.uid, record.due())
        self.size += cost
        # The new one fits alone, so the loop ends before there is no other.
        while len(self._entries) > self._max_count or self.size > self._max_bytes:
            self._end(self._order.next(record.uid), EndReason.EVICTED)
        return succeed(record)

    def _remove(self, uid: bytes) -> bool:
        entry = self._entries.pop(uid)
        self._wheel.remove(uid, entry.tick)
        self.size -= _cost(entry.record)
        return self._order.remove(uid)

    def _end(self, uid: bytes, reason: EndReason) -> None:
        self._remove(uid)
        self.evicted += reason is EndReason.EVICTED
        self.expired += reason is EndReason.EXPIRED
        self._tell(uid, reason)

    def _look_at(self, uid: bytes, now: float) -> None:
        """
        Deal with an id that the wheel gave out.
        """
        entry = self._entries.get(uid)
        if entry is None:
            del self._moved[uid]
        elif entry.due() <= now:
            self._end(uid, EndReason.EXPIRED)
        else:
            entry.tick = self._wheel.put(uid, entry.due())

    def _mark_moved(self, record: SessionRecord) -> None:
        self._moved[record.uid] = self._wheel.put(record.uid, record.due())
        if len(self._moved) > self._max_count:
            self._forget_move(next(iter(self._moved)))

    def _forget_move(self, uid: bytes) -> None:
        if uid in self._moved:
            self._wheel.remove(uid, self._moved.pop(uid))

    def _tell(self, uid: bytes, reason: EndReason) -> None:
        for observer in self._observers:
            observer(uid, reason)


def open_memory(url: SessionUrl, context: StoreContext) -> MemorySessionStore:
    """
    Make the store of ``memory``.
    """
    if url.rest:
        raise SettingError(f"--sessions {url.shown}: memory has nothing to set; write memory")
    return MemorySessionStore(
        context.clock, max_count=context.max_count, max_bytes=context.max_bytes
    )


def _cost(record: SessionRecord) -> int:
    return OVERHEAD + len(record.data) + len(record.key)


def _short(uid: bytes) -> str:
    """
    Enough of an id to find it in a log; not enough to use it.
    """
    return uid[:6].decode("ascii", "replace") + "..."


def _conflict(uid: bytes, version: int, stored: SessionRecord) -> SessionConflict:
    found = "it has another id by now" if stored.alias else f"{stored.version} is stored"
    return SessionConflict(f"session {_short(uid)}: version {version} was loaded, but {found}")


def _moved(uid: bytes) -> SessionMoved:
    return SessionMoved(f"session {_short(uid)} has moved to another worker")

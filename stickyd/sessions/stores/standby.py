"""
Going on in memory while a store is away: ``--session-away memory``.

A change that the store cannot take is kept here, and the session goes on from there; when the
store answers again, the last state of each is written.  Meanwhile nobody else sees it, and it is
lost if this process ends first: that is what an operator chooses who says ``memory``.  A session
of which this process has no copy cannot be had.

The store counts one version for what may have been several here.  So, until this process forgets
the session, versions are translated.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import NoSuchSession, SessionConflict, SessionMoved, StoreAway
from stickyd.sessions.interfaces import ISessionStore
from stickyd.sessions.record import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from stickyd.sessions.record import SessionRecord

#: Seconds between two attempts to write what was kept.
RETRY_SECONDS = 1.0


class _Kept:
    """
    A session that the store does not have as it is.

    :ivar record: as it is here; :obj:`None` once it was removed.
    :ivar pending: the write of which nobody knows whether it was done, with the version that it
        starts from there, and its nonce.
    """

    def __init__(
        self, record: SessionRecord | None, pending: tuple[SessionRecord, bytes] | None
    ) -> None:
        self.record = record
        self.pending = pending


@implementer(ISessionStore)
class StandbyStore:
    """
    Stands before a store that every worker uses.

    :ivar behind: that store.
    :ivar lost: how many sessions could not be written later, as somebody else had done it.
    """

    immediate = False

    _log = Logger()

    def __init__(self, behind: ISessionStore, clock: IReactorTime, most: int) -> None:
        """
        :param most: how many sessions are kept at most; past it changes fail.
        """
        self.behind = behind
        self.lost = 0
        self._clock = clock
        self._most = most
        self._kept: dict[bytes, _Kept] = {}
        # How far versions here are ahead of those that are stored.
        self._ahead: dict[bytes, int] = {}
        self._observers: list[Callable[[bytes, EndReason], object]] = []
        self._retry: IDelayedCall | None = None
        behind.observe(self._tell)

    def start(self, slot: int) -> Deferred[None]:
        return self.behind.start(slot)

    def stop(self) -> Deferred[None]:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        writing = Deferred.fromCoroutine(self._write_kept())
        return writing.addCallback(lambda _: self.behind.stop())

    def check(self) -> Deferred[list[str]]:
        return self.behind.check()

    def observe(self, callback: Callable[[bytes, EndReason], object]) -> None:
        self._observers.append(callback)

    def _tell(self, uid: bytes, reason: EndReason) -> None:
        self._ahead.pop(uid, None)
        for observer in self._observers:
            observer(uid, reason)

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        kept = self._kept.get(uid)
        if kept is not None:
            return succeed(kept.record)
        return self.behind.load(uid).addCallback(self._translated)

    def _translated(self, record: SessionRecord | None) -> SessionRecord | None:
        ahead = 0 if record is None else self._ahead.get(record.uid, 0)
        return replace(record, version=record.version + ahead) if record and ahead else record

    def version(self, uid: bytes) -> Deferred[int | None]:
        kept = self._kept.get(uid)
        if kept is not None:
            return succeed(None if kept.record is None else kept.record.version)
        ahead = self._ahead.get(uid, 0)
        return self.behind.version(uid).addCallback(lambda found: found and found + ahead)

    def save(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        kept = self._kept.get(record.uid)
        if kept is not None:
            return Deferred.fromCoroutine(self._save_kept(record, kept))
        stored = record.version - self._ahead.get(record.uid, 0)
        written = replace(record, version=stored)
        saving: Deferred[Any] = self.behind.save(written, nonce).addCallback(self._translated)
        return saving.addErrback(self._keep, record, written, nonce)

    async def _save_kept(self, record: SessionRecord, kept: _Kept) -> SessionRecord:
        if kept.record is None:
            raise NoSuchSession("this session has ended")
        if kept.record.version != record.version:
            raise SessionConflict("somebody else has written this session; load it again")
        kept.record = replace(record, version=record.version + 1)
        return kept.record

    def _keep(
        self, failure: Failure, record: SessionRecord, written: SessionRecord, nonce: bytes
    ) -> Any:
        if not failure.check(StoreAway) or len(self._kept) >= self._most:
            return failure
        here = replace(record, version=record.version + 1)
        self._kept[record.uid] = _Kept(here, (written, nonce))
        self._try_later()
        return here

    def touch(self, uid: bytes) -> Deferred[bool]:
        if uid in self._kept:
            return succeed(self._kept[uid].record is not None)
        return self.behind.touch(uid)

    def delete(self, uid: bytes) -> Deferred[bool]:
        kept = self._kept.get(uid)
        if kept is not None:
            there = kept.record is not None
            kept.record = None
            return succeed(there)
        return self.behind.delete(uid).addErrback(self._keep_removed, uid)

    def _keep_removed(self, failure: Failure, uid: bytes) -> Any:
        if not failure.check(StoreAway) or len(self._kept) >= self._most:
            return failure
        self._kept[uid] = _Kept(None, None)
        self._try_later()
        return True

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        if old in self._kept or new in self._kept:
            # Who logs in gets a new id that every worker knows, or comes again.
            return fail(StoreAway("the store of sessions is away"))
        return self.behind.alias(old, version - self._ahead.get(old, 0), new, seconds)

    def expire(self, limit: int) -> Deferred[bool]:
        now = self._clock.seconds()
        for uid, kept in list(self._kept.items()):
            if kept.record is not None and kept.record.due() <= now:
                del self._kept[uid]
                self._tell(uid, EndReason.EXPIRED)
        return self.behind.expire(limit)

    # the store is there again

    def _try_later(self) -> None:
        if self._retry is None:
            self._retry = self._clock.callLater(RETRY_SECONDS, self._try)

    def _try(self) -> None:
        self._retry = None
        writing = Deferred.fromCoroutine(self._write_kept())
        writing.addErrback(
            lambda failure: self._log.failure(
                "sessions kept in memory", failure, event="store.failed"
            )
        )
        writing.addCallback(lambda _: self._try_later() if self._kept else None)

    async def _write_kept(self) -> None:
        for uid, kept in list(self._kept.items()):
            try:
                await self._write(uid, kept)
            except StoreAway:
                return
            except (SessionConflict, NoSuchSession, SessionMoved) as problem:
                # What somebody else has made of it counts.
                self.lost += 1
                self._log.warn(
                    "sessions: what was kept in memory of one while the store was away is lost:"
                    " {problem}",
                    event="store.kept-lost",
                    problem=problem,
                )
                if self._kept.pop(uid, None) is not None:
                    self._tell(uid, EndReason.SUPERSEDED)

    async def _write(self, uid: bytes, kept: _Kept) -> None:
        while kept.record is not None and kept.pending is not None:
            written, nonce = kept.pending
            stored = await self.behind.save(written, nonce)
            record: Any = kept.record
            if record is None:
                break  # removed meanwhile
            if replace(record, version=0, touched=0.0) == replace(written, version=0, touched=0.0):
                kept.pending = None
                self._ahead[uid] = record.version - stored.version
            else:
                kept.pending = (replace(record, version=stored.version), os.urandom(16))
        if kept.record is None:
            await self.behind.delete(uid)
        self._kept.pop(uid, None)

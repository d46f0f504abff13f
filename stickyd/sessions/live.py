"""
A session in use.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from stickyd.errors import (
    NoSuchSession,
    NotCarriable,
    SessionConflict,
    SessionMoved,
    SessionTooLarge,
)
from stickyd.sessions.data import SessionData
from stickyd.sessions.record import KEY_LIMIT, EndReason, hidden_id, new_uid

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.sessions.live_context import LiveContext
    from stickyd.sessions.record import SessionRecord


#: Seconds for which the id that a session had still finds it: for requests of its client that
#: were under way when it got another.
FORMER_ID_SECONDS = 10.0


#: A store that answers later is told of a use no more often than this, and than so often in the
#: time after which the session would be over.
TOUCH_SECONDS = 60.0
TOUCHES_IN_IDLE = 10.0


class LiveSession:
    """
    A session in use: one object for each in a process, shared by all who use it at the
    same time.  Made by :class:`stickyd.sessions.registry.SessionRegistry`.

    :ivar ended: why it is no longer here, or :obj:`None` while it is.
    :ivar data: what the session carries, see :class:`stickyd.sessions.interfaces.ISessionData`.
    :ivar touched: when it was last used here, in seconds since 1970.
    :ivar name: what it is known by to the registry, for that.
    :ivar confirmed: which loads have found it to be what is stored, and when; for the registry.
    :ivar client: what tells the client that used it last from all others of this worker, where
        workers keep the clients that they know; empty if nothing does.
    """

    _log = Logger()

    __slots__ = (
        "__weakref__",
        "_changed",
        "_context",
        "_former",
        "_former_seconds",
        "_holders",
        "_on_gone",
        "_on_leaving",
        "_record",
        "_released",
        "_saving",
        "_told_touch",
        "_unsure",
        "_waiting",
        "client",
        "confirmed",
        "data",
        "ended",
        "name",
        "touched",
    )

    def __init__(self, context: LiveContext, record: SessionRecord) -> None:
        self.ended: EndReason | None = None
        self.data = SessionData(record.data, context.max_data, self._check_here)
        self.touched = self._told_touch = record.touched
        self.confirmed = (-1, 0.0)
        self.client = record.client
        self.name = record.uid
        self._context = context
        self._holders = 0
        # Tuples, as most stay empty and there may be a hundred thousand sessions.
        self._on_gone: tuple[Callable[[EndReason], object], ...] = ()
        self._on_leaving: tuple[Callable[[], object], ...] = ()
        self._released: tuple[Deferred[None], ...] = ()
        # What is stored, but for its data, key and expiry, which may be ahead of it.
        self._record = record
        self._changed = not record.version
        self._saving = False
        self._waiting: tuple[Deferred[None], ...] = ()
        # A write of which nobody knows whether it was done, and its nonce.
        self._unsure: tuple[SessionRecord, bytes] | None = None
        # The id that it had, and the version under it, until that is an alias.
        self._former: dict[bytes, int] | None = None
        self._former_seconds = 0.0

    @property
    def uid(self) -> bytes:
        """
        The id.
        """
        return self._record.uid

    def is_former_id(self, uid: bytes) -> bool:
        """
        Whether an id that has found it is one that it had before.
        """
        return hidden_id(uid) != hidden_id(self.uid) if uid != self.uid else False

    @property
    def version(self) -> int:
        """
        The version that was loaded or last saved; 0 if there is none yet.
        """
        return self._record.version

    @property
    def secure(self) -> bool:
        """
        Whether its id is only ever sent over TLS.
        """
        return self._record.secure

    @property
    def idle(self) -> float:
        """
        Seconds without a use after which it is over.  A change counts once it is saved.
        """
        return self._record.idle

    @idle.setter
    def idle(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a session's idle time must be more than 0 seconds, not {seconds!r}")
        self._amend(idle=float(seconds))

    @property
    def key(self) -> bytes:
        """
        The affinity key of its client.  A change counts once it is saved.
        """
        return self._record.key

    @key.setter
    def key(self, key: bytes) -> None:
        if key != self._record.key:
            self._amend(key=key[:KEY_LIMIT])

    def note_client(self, client: bytes) -> None:
        """
        Take note of the client that uses it, for :attr:`client`.  In a worker's memory that is
        saved with it, as whoever has the session next must know.
        """
        if client != self.client:
            self.client = client
            if self._context.store.immediate and self.ended is None:
                self._amend(client=client)
        self._context.of_client(client, True)

    @property
    def unsaved(self) -> bool:
        """
        Whether there may be something to save.
        """
        return self._changed or self._saving or self.data.unsealed

    @property
    def unsure(self) -> bool:
        """
        Whether nobody knows if what was written last is stored.
        """
        return self._unsure is not None

    @property
    def saving(self) -> bool:
        """
        Whether it is being written.
        """
        return self._saving

    def last_touch_seconds(self) -> float:
        """
        How many seconds ago it was last used here.
        """
        return self._context.clock.seconds() - self.touched

    def touch(self) -> None:
        """
        Note that it is used now.  If it turns out to be over, it has ``ended``.
        """
        context = self._context
        self.touched = now = context.clock.seconds()
        if context.store.immediate:
            context.store.touch(self._record.uid)
        elif now - self._told_touch >= min(TOUCH_SECONDS, self.idle / TOUCHES_IN_IDLE):
            self._told_touch = now
            if self.version:
                context.store.touch(self.uid).addErrback(self._not_touched)

    @property
    def over(self) -> bool:
        """
        Whether it is over as far as is known here; somebody else may have used it.
        """
        record = self._record
        due = min(self.touched + record.idle, record.created + record.lifetime)
        return due <= self._context.clock.seconds()

    def save(self) -> Deferred[None]:
        """
        Write what has changed, if anything has.

        :return: fires when it is stored.  Fails with
            :exc:`stickyd.errors.NotCarriable` or :exc:`stickyd.errors.SessionTooLarge` if a
            list or dict in the data was changed into something that cannot be carried:
            the data is then what was last saved.  Fails with
            :exc:`stickyd.errors.SessionConflict` if somebody else has written the
            session: this object is then out of date, load the session again.  Fails
            with :exc:`stickyd.errors.NoSuchSession` or
            :exc:`stickyd.errors.SessionMoved` if there are changes and the session has
            ended or moved.  After any other error of the store, it can be tried again.
        """
        if not self._saving:
            return self._save()
        # All who come while the store is writing share the one write that follows.
        deferred: Deferred[None] = Deferred()
        self._waiting += (deferred,)
        return deferred

    def delete(self) -> Deferred[None]:
        """
        End it for good.

        :return: fires when the store has removed it.  Here it has ended at once.
        """
        if self.ended not in (None, EndReason.SUPERSEDED):
            return succeed(None)
        # If somebody else has written it since, whoever uses that here hears of the end.
        self._context.gone(self, EndReason.DELETED)
        self.ended = EndReason.DELETED
        if self.client:
            self._context.of_client(self.client, False)
        return self._context.store.delete(self.uid).addCallback(_nothing)

    def regenerate(self, former_id_seconds: float = FORMER_ID_SECONDS) -> Deferred[None]:
        """
        Give it a new id, and make the old one unknown soon: to be done when a client logs
        in, so that an id that somebody has planted on it beforehand is worth
        nothing.  Data, times and callbacks stay; changes are saved.

        :param former_id_seconds: for how long the old id still finds the session: for requests
            of its client that are under way, and would get another session, and be logged
            out by its cookie.  0 to have it unknown at once.
        :return: fires when the new id is stored and the old one is an alias, or removed.
            Fails as :meth:`save`, with the old id kept if the data cannot be carried; after
            an error of the store the session is not here any more.
        """
        if self.ended is not None:
            return fail(self._error())
        try:
            self.data.seal()
        except (NotCarriable, SessionTooLarge):
            return fail()
        self.data.unsaved()
        old, new = self.uid, new_uid()
        self._former = {**(self._former or {}), old: self.version}
        self._amend(uid=new, version=0)
        self._context.renamed(old, new, former_id_seconds)
        self._former_seconds = former_id_seconds
        return self.save()

    def _leave_ids(self, _: object, new: bytes) -> Deferred[None]:
        """
        Have the ids that it had find the one under which it is stored now.  Nobody writes it
        meanwhile: what is not in the record under its old id would be lost with that.
        """
        former, self._former = self._former or {}, None
        return Deferred.fromCoroutine(self._leave(former, new))

    async def _leave(self, former: dict[bytes, int], new: bytes) -> None:
        store, seconds = self._context.store, self._former_seconds
        for old, version in former.items():
            if not version:
                continue  # nobody else has ever seen it
            if not seconds:
                found = await store.delete(old)
            else:
                found = await store.alias(old, version, new, seconds).addErrback(
                    self._not_left, new
                )
            self._left_id(found, new)

    def _left_id(self, found: bool, new: bytes) -> None:
        if not found:
            # Somebody has ended the session under its old id meanwhile: a logout counts.
            self._context.gone(self, EndReason.DELETED)
            self._context.store.delete(new)

    def call_when_gone(self, callback: Callable[[EndReason], object]) -> None:
        """
        Have ``callback`` called with the reason when the session is no longer here.
        """
        self._on_gone += (callback,)

    def call_before_leaving(self, callback: Callable[[], object]) -> None:
        """
        Have ``callback`` called before the session is carried to another worker, perhaps
        more than once.  It may still put into ``data`` what shall go along.
        """
        self._on_leaving += (callback,)

    @property
    def held(self) -> bool:
        """
        Whether somebody is using it, so that it must not be carried away now.
        """
        return self._holders > 0

    def hold(self) -> None:
        """
        Say that it is in use and changes may follow: it is not carried away before
        :meth:`release` was called as often as this.
        """
        self._holders += 1

    def release(self) -> None:
        """
        Say that what :meth:`hold` announced is done, and saved.
        """
        self._holders -= 1
        if not self._holders:
            waiting, self._released = self._released, ()
            for deferred in waiting:
                deferred.callback(None)

    def when_released(self) -> Deferred[None]:
        """
        :return: fires when nobody holds it, at once if nobody does.
        """
        if not self._holders:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._released += (deferred,)
        return deferred

    def leave(self) -> None:
        """
        Get ready to be carried to another worker: for the registry alone.
        """
        for callback in self._on_leaving:
            try:
                callback()
            except Exception:  # noqa: BLE001 -- the application's code; the session leaves anyway
                self._log.failure(
                    "session: a callback before the session leaves has failed",
                    event="session.callback-failed",
                )

    def end(self, reason: EndReason) -> None:
        """
        Note that it is no longer here: for the registry alone.
        """
        self.ended = reason
        callbacks, self._on_gone = self._on_gone, ()
        for callback in callbacks:
            try:
                callback(reason)
            except Exception:  # noqa: BLE001 -- the application's code; the others must be called
                self._log.failure(
                    "session: a callback at the session's end has failed",
                    event="session.callback-failed",
                )

    def refresh(self, record: SessionRecord) -> None:
        """
        Take over what somebody else has written: for the registry alone.
        """
        self._record = record
        self._changed = False
        self.touched = self._told_touch = record.touched
        self.data.reset(record.data)

    def _amend(self, **fields: Any) -> None:
        self._check_here()
        self._record = replace(self._record, **fields)
        self._changed = True

    def _check_here(self) -> None:
        # Asked with each access, and to look up a member of an enumeration takes its time.
        if self.ended is not None and self.ended is EndReason.MOVED:
            raise self._error()

    def _error(self) -> Exception:
        if self.ended is EndReason.MOVED:
            return SessionMoved(
                "this session has moved to another worker; nothing can change it here"
            )
        if self.ended is EndReason.SUPERSEDED:
            return SessionConflict("somebody else has written this session; load it again")
        return NoSuchSession("this session has ended")

    def _save(self) -> Deferred[None]:
        try:
            text = self.data.seal()
        except (NotCarriable, SessionTooLarge):
            self.data.reset(self._record.data)
            return fail()
        if text is None and not self._changed:
            return succeed(None)
        if self.ended is not None:
            return fail(self._error())
        data = self._record.data if text is None else text
        self._changed = False
        self._saving = True
        record = self._record.revised(self._record.version, self.touched, data)
        if self._unsure is None:
            saving = self._write(record)
        else:
            saving = self._write_again(record, *self._unsure)
        if self._former:
            saving.addCallback(self._leave_ids, record.uid).addErrback(self._lost)
        return saving.addBoth(self._go_on)

    def _write(self, record: SessionRecord) -> Deferred[None]:
        store = self._context.store
        # What is immediate loses no answer.
        nonce = b"" if store.immediate else self._context.nonce()
        return store.save(record, nonce).addCallbacks(
            self._saved, self._not_saved, errbackArgs=(record, nonce)
        )

    def _write_again(
        self, record: SessionRecord, unsure: SessionRecord, nonce: bytes
    ) -> Deferred[None]:
        """
        Have a write done whose answer was lost, or find that it is, and then the next one.
        """
        self._unsure = None

        def written(stored: SessionRecord) -> Deferred[None] | None:
            # What was amended since must not be taken for saved.
            amended, self._changed = self._changed, True
            self._saved(stored)
            self._changed = amended
            if stored.uid != record.uid:
                return self._write(record)
            if replace(record, version=0, touched=0.0) == replace(unsure, version=0, touched=0.0):
                return None
            return self._write(record.revised(stored.version, record.touched, record.data))

        saving = self._context.store.save(unsure, nonce)
        return saving.addErrback(self._not_saved, unsure, nonce).addCallback(written)

    def _saved(self, stored: SessionRecord) -> None:
        if self._former is not None and stored.uid in self._former:
            self._former[stored.uid] = stored.version
        self.data.saved(stored.data)
        self._told_touch = max(self._told_touch, stored.touched)
        if not self._context.store.immediate:
            self._context.stored(self)
        if not self._changed:
            self._record = stored
            return
        # Amended meanwhile.  With a new id, this is the version of the old one.
        current = self._record
        version = stored.version if stored.uid == current.uid else current.version
        self._record = replace(current, version=version, data=stored.data)

    def _not_saved(self, failure: Failure, record: SessionRecord, nonce: bytes) -> Failure:
        match failure.value:
            case SessionConflict():
                self._context.gone(self, EndReason.SUPERSEDED)
            case SessionMoved():
                self._context.gone(self, EndReason.MOVED)
            case NoSuchSession():
                self._context.gone(self, EndReason.EXPIRED)
            case SessionTooLarge():
                self._changed = True
                self.data.unsaved()
            case _:
                if nonce:
                    self._unsure = (record, nonce)
                self._changed = True
                self.data.unsaved()
        return failure

    def _not_touched(self, failure: Failure) -> None:
        # The worst that follows is an early end; whoever saves hears what is wrong.
        self._log.failure(
            "session: its use could not be noted", failure, event="session.use-not-noted"
        )

    def _go_on(self, result: Failure | None) -> Failure | None:
        self._saving = False
        waiting, self._waiting = self._waiting, ()
        if waiting:
            self._save().addBoth(_tell_all, waiting)
        return result

    def _not_left(self, failure: Failure, new: bytes) -> Deferred[bool]:
        if not failure.check(SessionConflict):
            return fail(failure)
        # What somebody else has written under the old id is not in the new one.
        return self._context.store.delete(new).addBoth(lambda _: failure)

    def _lost(self, failure: Failure) -> Failure:
        self._context.gone(self, EndReason.SUPERSEDED)
        return failure


def _nothing(result: object) -> None:
    return None


def _tell_all(result: Failure | None, waiting: tuple[Deferred[None], ...]) -> None:
    for deferred in waiting:
        if result is None:
            deferred.callback(None)
        else:
            deferred.errback(result)

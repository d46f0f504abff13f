"""
What one request does to its session, in the loop that the registry is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed

from stickyd.affinity.client_identity import IDENTITY, KNOWN, client_in
from stickyd.errors import NoSuchSession, SessionConflict, SessionMoved
from stickyd.sessions.apps.tracked import TrackedData
from stickyd.sessions.record import EndReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.registry import SessionRegistry

#: Seconds that a request waits for a session that another request of its client still uses in
#: the worker that was relieved.
AWAIT_SECONDS = 30.0

#: How often changes are put on the session anew, while others write it all the time.
MOST_TRIES = 32

EMPTY = b"{}"


class UnitOfWork:
    """
    Loads a session, holds it so that it is not carried to another worker meanwhile, and
    writes it.

    :ivar uid: the session's id; :obj:`None` while there is none.
    :ivar sent: the id by which the client has named it; :obj:`None` if it has named none that
        there is.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        uids: Sequence[bytes] = (),
        key: bytes = b"",
        secure: bool = False,
        known: bool = False,
        client: bytes | None = None,
    ) -> None:
        """
        :param uids: the ids that the client sends; the first of which there is a session is
            its own.
        :param key: the affinity key of the client, which the session remembers.
        :param secure: whether its id is only ever sent over TLS.
        :param known: whether the client is known to belong to this worker, by a token that was
            verified, so that what is kept here of the session cannot be out of date.
        :param client: what tells the client from all others of this worker, where workers keep the
            clients that they know.
        """
        self.uid: bytes | None = None
        self.sent: bytes | None = None
        self._given = False  # whether the id is of our making
        self.registry = registry
        self._uids = uids
        self._key = key
        self._secure = secure
        self._known = known
        self._client = client
        self._live: LiveSession | None = None

    @classmethod
    def of_request(
        cls,
        registry: SessionRegistry,
        uids: Sequence[bytes],
        secure: bool,
        told: Mapping[str, Any],
    ) -> UnitOfWork:
        """
        Make that of a request.

        :param told: where the host says who the client is: the scope or the environ.
        """
        identity, known = told.get(IDENTITY, b""), told.get(KNOWN, False)
        return cls(registry, uids, identity, secure, known, client_in(told))

    def load(self) -> Deferred[bytes]:
        """
        Load the session, and hold it.

        :return: fires with its data; with that of an empty one if there is none.  Fails with
            :exc:`stickyd.errors.SessionMoved` or an error of the store's.
        """
        if len(self._uids) != 1 or self._live is not None or self.registry.awaited.keys:
            return Deferred.fromCoroutine(self._load())
        # As most often: without a coroutine, which costs more than all else together.
        return self.registry.load(self._uids[0], self._known).addCallback(self._found)

    def fresh(self) -> Deferred[bytes]:
        """
        Get the data as it stands.

        :return: as :meth:`load`; fails too with :exc:`stickyd.errors.NoSuchSession` if the
            session has ended.
        """
        return Deferred.fromCoroutine(self._fresh())

    def save(
        self, data: TrackedData, flushed: bool, new_id: bool, idle_seconds: float | None = None
    ) -> Deferred[bytes | None]:
        """
        Write what has changed, if anything has; end a session that is empty by now.

        :param flushed: whether the session has been ended, and what is in ``data`` is a new
            one's.
        :return: fires with the data that is stored now; with :obj:`None` if that has not
            changed.  Fails as :meth:`commit`.
        """
        return Deferred.fromCoroutine(self._save(data, flushed, new_id, idle_seconds))

    def finish(
        self, data: TrackedData, flushed: bool, new_id: bool, idle_seconds: float | None = None
    ) -> Deferred[bytes | None]:
        """
        Do the same, and hold the session no longer, if that goes well.
        """
        return Deferred.fromCoroutine(self._finish(data, flushed, new_id, idle_seconds))

    def commit(
        self,
        data: TrackedData,
        new_id: bool = False,
        idle_seconds: float | None = None,
        uid: bytes | None = None,
    ) -> Deferred[bytes]:
        """
        Write what has changed, if anything has; a session that is not there is made.

        :param new_id: whether the session gets another id.
        :param idle_seconds: after how long without a use it is over, if that shall change.
        :param uid: the id of a session that is made, if not a random one.
        :return: fires with the data that is stored now.  Fails with
            :exc:`stickyd.errors.SessionConflict` if somebody else has changed what was read
            or written, :exc:`stickyd.errors.NoSuchSession` if the session has ended meanwhile,
            :exc:`stickyd.errors.NotCarriable` and :exc:`stickyd.errors.SessionTooLarge` for
            what cannot be kept, with :exc:`stickyd.errors.SessionMoved`, and with errors of the
            store's.
        """
        return Deferred.fromCoroutine(self._commit(data, new_id, idle_seconds, uid))

    def end(self) -> Deferred[None]:
        """
        End the session for good.  What is committed from now on makes a new one.
        """
        return Deferred.fromCoroutine(self._end(True))

    @property
    def named(self) -> bool:
        """
        Whether the client names a session at all.
        """
        return bool(self._uids)

    def cookie(self, modified: bool) -> bytes | None:
        """
        Tell what the client's cookie shall be.

        Who has come by an id that the session had before gets no other: it may not be the
        client who has logged in, but somebody who has planted that id on it.

        :param modified: whether the session has changed, so that the cookie shall last longer.
        :return: the id; nothing to have it forgotten; :obj:`None` to leave it as it is.
        """
        if self._given:
            return self.uid
        if self.uid is None:
            return None if self.sent is None else b""
        return self.uid if modified and self.uid == self.sent else None

    @property
    def unsaved(self) -> bool:
        """
        Whether something is to be written that the application did not change: whose it is.
        """
        return self._live is not None and self._live.unsaved

    @property
    def holds(self) -> bool:
        """
        Whether it holds a session.
        """
        return self._live is not None

    def let_go(self) -> Deferred[None]:
        """
        Hold the session no longer.

        :return: fires when it is where it belongs.
        """
        live, self._live = self._live, None
        following = None if live is None else self.registry.let_go(live)
        return succeed(None) if following is None else following

    async def _load(self) -> bytes:
        if self._live is not None:
            return self._live.data.text()
        for uid in self._uids:
            await self._arrival(uid)
            live = await self.registry.load(uid, self._known)
            # An id that was sent without TLS is worth nothing with it, and the reverse.
            if live is not None and live.secure == self._secure:
                self.sent = uid
                return self._hold(live)
        return EMPTY

    def _found(self, live: LiveSession | None) -> bytes:
        if live is None or live.secure != self._secure:
            return EMPTY
        self.sent = self._uids[0]
        return self._hold(live)

    async def _arrival(self, uid: bytes) -> None:
        registry = self.registry
        arriving = registry.awaited.wait(uid)
        if arriving is None:
            return
        arriving.addTimeout(AWAIT_SECONDS, registry.clock)
        try:
            await arriving
        except defer.TimeoutError:
            raise SessionMoved("this session is still used by another worker") from None
        if registry.relieved:
            raise SessionMoved("this session has gone past this worker")

    def _hold(self, live: LiveSession) -> bytes:
        live.hold()
        self._live, self.uid = live, live.uid
        if self._key:
            live.key = self._key
        if self._client is not None:
            live.note_client(self._client)
        return live.data.text()

    async def _fresh(self) -> bytes:
        live = self._live
        if live is not None:
            if live.ended is None:
                return live.data.text()
            if live.ended.for_good:
                raise NoSuchSession("the session has ended meanwhile")
            if live.ended is EndReason.MOVED:
                raise SessionMoved("this session has moved to another worker")
            self.let_go()
        if self.uid is None:
            return EMPTY
        live = await self.registry.load(self.uid)
        if live is None:
            raise NoSuchSession("the session has ended meanwhile")
        return self._hold(live)

    async def _commit(
        self, data: TrackedData, new_id: bool, idle_seconds: float | None, uid: bytes | None
    ) -> bytes:
        for _ in range(MOST_TRIES):
            text = data.merged(await self._fresh())
            live = self._live
            made = live is None
            if live is None:
                live = self.registry.create(self._key, self._secure, uid)
                self._hold(live)
                new_id = False
            live.data.replace(text)
            if idle_seconds is not None and live.idle != idle_seconds:
                live.idle = idle_seconds
            try:
                await (live.regenerate() if new_id else live.save())
            except SessionConflict:
                self.let_go()
                if made:
                    raise  # the id is another session's
                continue
            self.uid = live.uid
            self._given = self._given or made or new_id
            return text
        raise SessionConflict(
            f"others have written the session {MOST_TRIES} times while this request tried to"
        )

    async def _save(
        self, data: TrackedData, flushed: bool, new_id: bool, idle_seconds: float | None
    ) -> bytes | None:
        if flushed or (data.void and data.unsaved):
            # The last value may be a message that was shown; that is no logout.
            await self._end(flushed or data.cleared)
            if data.void:
                return EMPTY
            # What stands there now is new: it cannot conflict with what is gone.
            rest = TrackedData()
            rest.update(data)
            return await self._commit(rest, False, idle_seconds, None)
        if new_id or data.unsaved or self.unsaved:
            return await self._commit(data, new_id, idle_seconds, None)
        return None

    async def _finish(
        self, data: TrackedData, flushed: bool, new_id: bool, idle_seconds: float | None
    ) -> bytes | None:
        text = await self._save(data, flushed, new_id, idle_seconds)
        await self.let_go()
        return text

    async def _end(self, is_done: bool) -> None:
        """
        :param is_done: whether the application is done with the client too.
        """
        live = self._live
        if self.uid is not None and (live is None or live.ended is not None):
            # What others have written since is ended too.
            live = await self.registry.load(self.uid)
        if live is not None:
            if not is_done:
                live.client = b""
            elif self._client is not None:
                live.note_client(self._client)
            await live.delete()
        await self.let_go()
        self.uid = None
        self._given = False

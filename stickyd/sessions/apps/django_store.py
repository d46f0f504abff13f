"""
Sessions for Django: a session engine.
"""
# mypy: disable-error-code="import-untyped,no-any-unimported,misc"
# (Django has no annotations of its own.)

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from twisted.internet.defer import Deferred
from typing_extensions import override

from stickyd.errors import NoSuchSession, SessionConflict
from stickyd.sessions.apps.cookies import is_id
from stickyd.sessions.apps.desk import session_desk
from stickyd.sessions.apps.tracked import TrackedData
from stickyd.sessions.apps.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stickyd.sessions.apps.place import SessionPlace


class SessionStore(SessionBase):
    """
    A session in the store of ``--sessions``: ``SESSION_ENGINE = "stickyd.django"``.

    It holds plain data (see :class:`stickyd.sessions.interfaces.ISessionData`), whatever
    ``SESSION_SERIALIZER`` is.  Changes inside of values count, without ``modified`` being set.
    Saving raises :exc:`stickyd.errors.SessionConflict` if another request has changed what this
    one has read or written; :class:`stickyd.sessions.apps.django_middleware.SessionMiddleware`
    answers it with 409.

    Where no stickyd worker runs, ``STICKYD_SESSIONS`` in the settings is the URL of the store.

    :ivar identity: of the client, which the session remembers; the middleware sets it.
    :ivar known: whether a token of the client's, which was verified, names this worker; the same.
    :ivar client: what tells the client from all others of this worker; the same.
    :ivar keeps: whether the session stays in this worker until :meth:`release` is called; the
        same.
    """

    identity = b""
    known = False
    client: bytes | None = None
    keeps = False

    _unit: UnitOfWork | None = None
    # What was loaded, which is _session_cache too until that is cleared.
    _tracked: TrackedData | None = None
    _failure: Exception | None = None

    def __init__(self, session_key: str | None = None) -> None:
        """
        :param session_key: the id that the client sends.
        """
        self._changed: bool = False
        super().__init__(session_key)

    @property
    def modified(self) -> bool:
        """
        Whether anything was changed, inside of values too.
        """
        tracked = self._tracked
        current = self.__dict__.get("_session_cache") is tracked
        return bool(self._changed or (tracked is not None and current and tracked.modified))

    @modified.setter
    def modified(self, modified: bool) -> None:
        self._changed = modified
        if not modified and self._tracked is not None:
            self._tracked.modified = False

    @property
    def borrowed(self) -> bool:
        """
        Whether the session has another id by now than the one that the client has sent, which
        finds it for a moment still: the client gets no cookie then.
        """
        unit = self._unit
        if unit is None or unit.uid is None or self.session_key is None:
            return False
        return bool(unit.uid != self.session_key.encode("ascii", "replace"))

    @property
    def failure(self) -> Exception | None:
        """
        Why it could not be had or saved, last.
        """
        return self._failure

    def release(self) -> None:
        """
        Let the session be carried to another worker: the request is over.
        """
        if self._unit is not None:
            self._place().leave(self._unit)

    # Reading.

    @override
    def load(self) -> Any:
        return self._wait(self._load)

    @override
    async def aload(self) -> Any:
        return await self._ask(self._load)

    @override
    def exists(self, session_key: str) -> bool:
        return bool(self._wait(self._exists, session_key))

    @override
    async def aexists(self, session_key: str) -> bool:
        return bool(await self._ask(self._exists, session_key))

    # Writing.

    @override
    def create(self) -> None:
        self._session_key = self._get_new_session_key()
        self.save(must_create=True)
        self.modified = True

    @override
    async def acreate(self) -> None:
        self._session_key = await self._aget_new_session_key()
        await self.asave(must_create=True)
        self.modified = True

    @override
    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)
        self._wait(self._create if must_create else self._save, data, self._age(data))

    @override
    async def asave(self, must_create: bool = False) -> None:
        if self.session_key is None:
            await self.acreate()
            return
        data = await self._aget_session(no_load=must_create)
        await self._ask(self._create if must_create else self._save, data, self._age(data))

    @override
    def delete(self, session_key: str | None = None) -> None:
        self._wait(self._delete, session_key or self.session_key)

    @override
    async def adelete(self, session_key: str | None = None) -> None:
        await self._ask(self._delete, session_key or self.session_key)

    @override
    def cycle_key(self) -> None:
        data = self._session
        if self.session_key is None:
            self.create()
        else:
            self._wait(self._cycle, data)
            self.modified = True

    @override
    async def acycle_key(self) -> None:
        data = await self._aget_session()
        if self.session_key is None:
            await self.acreate()
        else:
            await self._ask(self._cycle, data)
            self.modified = True

    @override
    def flush(self) -> None:
        super().flush()
        self._unit = self._tracked = None

    @override
    async def aflush(self) -> None:
        await super().aflush()
        self._unit = self._tracked = None

    @classmethod
    @override
    def clear_expired(cls) -> None:
        """
        Do nothing: the store looks after that itself.
        """

    @classmethod
    @override
    async def aclear_expired(cls) -> None:
        """
        Do nothing, as well.
        """

    # Getting into the loop.

    @staticmethod
    def _place() -> SessionPlace:
        return session_desk.place(
            getattr(settings, "STICKYD_SESSIONS", None), settings.SESSION_COOKIE_AGE
        )

    def _wait(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        place = self._place()
        try:
            return place.wait(_started, function, place, *arguments)
        except Exception as problem:
            self._failure = problem
            raise

    async def _ask(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        place = self._place()
        try:
            return await place.ask(_started, function, place, *arguments)
        except Exception as problem:
            self._failure = problem
            raise

    def _age(self, data: dict[str, Any]) -> float:
        """
        Tell for how long the session shall live, without that being a use of it.
        """
        return float(self.get_expiry_age(expiry=dict.get(data, "_session_expiry")))

    # In the loop, while whoever has called waits.

    def _begin(self, place: SessionPlace, key: str | None) -> UnitOfWork:
        uid = b"" if key is None else key.encode("ascii", "replace")
        uids = [uid] if is_id(uid) else []
        unit = UnitOfWork(place.registry, uids, self.identity, known=self.known, client=self.client)
        # Should nobody call release().
        weakref.finalize(self, place.leave, unit).atexit = False
        self._unit = unit
        return unit

    async def _load(self, place: SessionPlace) -> TrackedData:
        unit = self._begin(place, self.session_key)
        self._tracked = TrackedData(await unit.load())
        if not self.keeps:
            await unit.let_go()
        if unit.sent is None:
            # Never taken for the key of a new one: somebody may have planted it.
            self._session_key = None
        return self._tracked

    async def _exists(self, place: SessionPlace, key: str | None) -> bool:
        uid = b"" if key is None else key.encode("ascii", "replace")
        if not is_id(uid):
            return False
        live = await place.registry.load(uid)
        return live is not None and live.uid == uid

    async def _create(self, place: SessionPlace, data: dict[str, Any], age: float) -> None:
        unit = self._begin(place, None)
        tracked = TrackedData()
        tracked.update(data)
        try:
            text = await unit.commit(
                tracked, idle_seconds=max(age, 1.0), uid=self.session_key.encode("ascii")
            )
        except SessionConflict:
            raise CreateError from None
        tracked.settled(text)
        self._tracked = self._session_cache = tracked
        await (unit.end() if age <= 0 else unit.let_go())

    async def _save(self, place: SessionPlace, data: dict[str, Any], age: float) -> None:
        unit, tracked = self._unit, self._tracked
        if unit is None or tracked is None:
            unit = self._begin(place, self.session_key)
            tracked = TrackedData(await unit.load())
            if unit.sent is None:
                raise UpdateError
        if data is not tracked:
            # It was cleared, and is a new dict since.
            tracked.clear()
            tracked.update(data)
        if age <= 0:
            await unit.end()
            return
        try:
            text = await unit.commit(tracked, idle_seconds=age)
        except NoSuchSession:
            raise UpdateError from None
        tracked.settled(text)
        self._tracked = self._session_cache = tracked
        await unit.let_go()

    async def _delete(self, place: SessionPlace, key: str | None) -> None:
        unit = self._unit
        uid = b"" if key is None else key.encode("ascii", "replace")
        if unit is not None and unit.uid is not None and uid in (unit.uid, unit.sent):
            await unit.end()
        elif is_id(uid):
            live = await place.registry.load(uid)
            if live is not None:
                if self.client is not None and key == self.session_key:
                    live.note_client(self.client)
                await live.delete()

    async def _cycle(self, place: SessionPlace, data: TrackedData) -> None:
        unit = self._unit
        if unit is None or not isinstance(data, TrackedData):
            # It was cleared before.
            await self._delete(place, self.session_key)
            self._session_key = None
            return
        data.settled(await unit.commit(data, True))
        assert unit.uid is not None
        self._session_key = unit.uid.decode("ascii")


def _started(function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Deferred[Any]:
    """
    Start a coroutine.
    """
    return Deferred.fromCoroutine(function(*arguments))

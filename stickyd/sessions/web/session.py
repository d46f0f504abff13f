"""
The session that twisted.web's applications see.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import fail, succeed
from twisted.logger import Logger
from twisted.python.components import Componentized, registerAdapter
from twisted.python.reflect import qual
from twisted.web import server
from typing_extensions import override

from stickyd.errors import SessionError
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.live import FORMER_ID_SECONDS
from stickyd.sessions.record import EndReason
from stickyd.sessions.web.carriables import Carriables

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.web.source import SessionSource


#: By what a session knows the component that is its data.
_DATA_NAME = qual(ISessionData)


class Session(server.Session):
    """
    A :class:`twisted.web.server.Session` that can be carried to another worker.

    All that twisted.web's can be asked for is here, with the same meaning: adapters
    registered for it, ``uid``, ``site``, ``expire``, ``touch``, ``notifyOnExpire``,
    ``lastModified``, and ``sessionTimeout``, also as an attribute of a subclass.  What goes
    along to another worker is :class:`stickyd.sessions.interfaces.ISessionData`.  Adapters,
    attributes and callbacks belong to this process and stay, which the log says once of each,
    unless :meth:`call_before_leaving` takes care of it, the adapter is made of the data, or it
    provides :class:`stickyd.sessions.interfaces.ICarriable`.

    :ivar live: the session itself, which does not know the web.
    """

    _log = Logger()

    _declared_timeout: float | None = None

    # Whether what it holds beside its data finds its way into that by itself.
    _carries = False
    # How often the data was asked for.  An adapter that asks for it while it is made keeps
    # nothing of its own.
    _data_asked = 0
    _carriables: Carriables | None = None
    _made = False

    def __init__(self, site: SessionSource, uid: bytes, reactor: object = None) -> None:
        """
        :param site: knows the session by its id already.
        :param uid: the id.
        :param reactor: not used: the registry of the site has the clock.
        """
        Componentized.__init__(self)
        self.site = site
        self.uid = uid
        self.expireCallbacks: list[Callable[[], object]] = []
        self.sessionNamespaces: dict[Any, Any] = {}
        self.live: LiveSession = site.session_registry.in_use(uid)
        self.live.call_when_gone(self._gone)
        self._ending: Deferred[None] | None = None
        if self._declared_timeout is not None and not self.live.version:
            self.live.idle = self._declared_timeout
        self._made = True

    def __setattr__(self, name: str, value: object) -> None:
        """
        Set an attribute; say if it is one that stays behind when the session is carried.
        """
        if self._made and not hasattr(self, name):
            self._left_behind(f"The attribute {name}")
        super().__setattr__(name, value)

    @override
    def setComponent(self, interfaceClass: Any, component: Any) -> None:
        super().setComponent(interfaceClass, component)
        self._note_component(interfaceClass, component)

    @override
    def addComponent(self, component: Any, ignoreClass: int = 0) -> None:
        known = set(self._adapterCache)
        super().addComponent(component, ignoreClass)
        for name in set(self._adapterCache) - known:
            if not self._carry(str(name), component):
                self._left_behind(f"The component {name}")

    @override
    def getComponent(self, interface: Any, default: Any = None) -> Any:
        if interface is ISessionData:
            self.__dict__["_data_asked"] = self._data_asked + 1
            # What all ask for, without a look at who might adapt to it.
            data = self._adapterCache.get(_DATA_NAME)
            if data is not None:
                return data
        known, asked = len(self._adapterCache), self._data_asked
        found = super().getComponent(interface, default)
        put = found is not self and len(self._adapterCache) != known
        if not put or interface is ISessionData or self._carry(qual(interface), found):
            return found
        # What is made of the data keeps nothing of its own.
        if self._data_asked == asked:
            self._left_behind(f"The component {qual(interface)}")
        return found

    @override
    def notifyOnExpire(self, callback: Callable[[], object]) -> None:
        self._left_behind("A callback of notifyOnExpire()")
        super().notifyOnExpire(callback)

    def _note_component(self, interface: Any, component: Any) -> None:
        if interface is not ISessionData and not self._carry(qual(interface), component):
            self._left_behind(f"The component {qual(interface)}")

    def _carry(self, name: str, component: Any) -> bool:
        """
        Have a component go along with the session.

        :return: whether it can.
        """
        carriables = Carriables() if self._carriables is None else self._carriables
        if not carriables.add(name, component, self.live.data):
            return False
        if self._carriables is None:
            self._carriables = carriables
            self.live.call_before_leaving(lambda: carriables.dump(self.live.data))
        return True

    def _left_behind(self, what: str) -> None:
        if not self._carries:
            self.site.tell_left_behind(what)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        # ``sessionTimeout = 60`` in a subclass is twisted.web's way to set it.
        declared = cls.__dict__.get("sessionTimeout")
        if isinstance(declared, (int, float)):
            cls._declared_timeout = float(declared)
            del cls.sessionTimeout

    @property  # type: ignore[override]  # a plain int attribute in twisted.web
    def sessionTimeout(self) -> float:  # noqa: N802 -- twisted.web's name
        """
        Seconds without a use after which it is over.
        """
        return self.live.idle

    @sessionTimeout.setter
    def sessionTimeout(self, seconds: float) -> None:  # noqa: N802 -- as above
        self.live.idle = seconds

    @property
    def lastModified(self) -> float:  # noqa: N802 -- twisted.web's name, there an attribute
        """
        When it was last used, in seconds since 1970.
        """
        return self.live.touched

    def call_before_leaving(self, callback: Callable[[], object]) -> None:
        """
        Have ``callback`` called before the session is carried to another worker, perhaps
        more than once: the time to put what an adapter holds into
        :class:`stickyd.sessions.interfaces.ISessionData`.
        """
        self._carries = True
        self.live.call_before_leaving(callback)

    @override
    def startCheckingExpiration(self) -> None:
        """
        Do nothing: the registry looks after all sessions together.
        """

    @override
    def touch(self) -> None:
        self.live.touch()

    @override
    def expire(self) -> None:
        """
        End the session.  The response of a request that uses it waits until the store has
        removed it.
        """
        live = self.live
        superseded = live.ended is EndReason.SUPERSEDED
        if live.ended is None or superseded:
            self._ending = live.delete()
        if superseded:
            # It has heard of an end already, but not of this one.
            self._gone(EndReason.DELETED)

    def regenerate(self, former_id_seconds: float = FORMER_ID_SECONDS) -> Deferred[None]:
        """
        Give the session a new id, see :meth:`stickyd.sessions.live.LiveSession.regenerate`.
        The client does not hear of it: in a request call its ``regenerate_session``.
        """
        done = self.live.regenerate(former_id_seconds)
        if self.live.uid != self.uid and self.live.ended is None:
            del self.site.sessions[self.uid]
            self.uid = self.live.uid
            self.site.sessions[self.uid] = self
        return done

    @property
    def settled(self) -> bool:
        """
        Whether :meth:`settle` has nothing to do.
        """
        return self._ending is None and self._carriables is None and not self.live.unsaved

    def settle(self) -> Deferred[None]:
        """
        Bring to the store what a request has done to the session.

        :return: fires when the store has it; fails as
            :meth:`stickyd.sessions.live.LiveSession.save`, but not for a session that has
            ended: what is not there needs no saving.
        """
        ended = self.live.ended
        if ended is None or not ended.for_good:
            if self._carriables is not None:
                try:
                    self._carriables.dump(self.live.data)
                except (SessionError, TypeError, ValueError):
                    return fail()
            return self.live.save()
        done, self._ending = self._ending, None
        return succeed(None) if done is None else done

    def _gone(self, reason: EndReason) -> None:
        self.site.sessions.pop(self.uid, None)
        if not reason.for_good:
            return
        callbacks, self.expireCallbacks = self.expireCallbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 -- the application's; the others must be called
                self._log.failure(
                    "session: a callback of notifyOnExpire has failed",
                    event="session.callback-failed",
                )


def _data_of(session: Session) -> Any:
    return session.live.data


registerAdapter(_data_of, Session, ISessionData)

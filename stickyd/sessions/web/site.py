"""
Sessions for twisted.web: ``request.getSession()`` of a site and its requests.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.web import server
from typing_extensions import override

from stickyd.errors import NoSuchSession
from stickyd.sessions.answers import result_of
from stickyd.sessions.web.cookie import SessionCookie
from stickyd.sessions.web.request import SessionRequestMixin
from stickyd.sessions.web.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.web.resource import IResource

    from stickyd.sessions.registry import SessionRegistry


def _no_key(request: server.Request) -> bytes:
    return b""


def _nobody(request: server.Request) -> bool:
    return False


def _unnamed(request: server.Request) -> bytes | None:
    return None


def _named_by_cookies(request: server.Request) -> Iterable[bytes]:
    cookies: dict[bytes, bytes] = request.received_cookies
    return list(cookies.values())


def with_sessions(request_class: type[server.Request]) -> type[server.Request]:
    """
    Make a class of requests that use a :class:`SessionSite`'s sessions.

    :param request_class: is given back as it is if it does so already.
    """
    if issubclass(request_class, SessionRequestMixin):
        return request_class
    return type(request_class.__name__, (SessionRequestMixin, request_class), {})


class SessionSite(server.Site):
    """
    A :class:`twisted.web.server.Site` whose sessions are kept in a store and can be
    carried to another worker.

    ``sessionFactory`` may be set, as in twisted.web, to a subclass of
    :class:`stickyd.sessions.web.session.Session`.

    :ivar sessions: the sessions in use, by id: those of this process, not all of the store.
    :ivar session_registry: all sessions.
    :ivar session_cookie: how the cookie looks.
    :ivar session_key: tells a request's affinity key, which a session remembers.
    :ivar session_client: tells a request's client from all others of this process, where its
        clients are known; by default of none.
    :ivar session_trusted: tells whether a request's client is known to belong to this process, so
        that nobody else can have changed its sessions; by default of none.
    :ivar session_ids: tells the ids by which a request may ask for sessions, so that these
        do not leave before it has; by default whatever its cookies say.
    """

    session_client: Callable[[server.Request], bytes | None] = staticmethod(_unnamed)
    session_trusted: Callable[[server.Request], bool] = staticmethod(_nobody)
    session_ids: Callable[[server.Request], Iterable[bytes]] = staticmethod(_named_by_cookies)

    _log = Logger()

    sessions: dict[bytes, Session]
    sessionFactory: type[Session] = Session  # noqa: N815 -- twisted.web's name

    def __init__(
        self,
        resource: IResource,
        requestFactory: type[server.Request] | None = None,  # noqa: N803 -- as in twisted.web
        *args: Any,
        sessions: SessionRegistry,
        cookie: SessionCookie = SessionCookie(),  # noqa: B008 -- frozen
        session_key: Callable[[server.Request], bytes] = _no_key,
        **keywords: Any,
    ) -> None:
        """
        :param resource: the root.
        :param requestFactory: a class of requests; it need not know of these sessions.
        :param sessions: where they are.
        :param cookie: how the cookie looks.
        :param session_key: tells a request's affinity key, so that the sessions of keys
            that get another worker can be found.
        """
        super().__init__(resource, requestFactory, *args, **keywords)
        self.requestFactory = with_sessions(self.requestFactory)
        self.session_registry = sessions
        self.session_cookie = cookie
        self.session_key = session_key

    def tell_left_behind(self, what: str) -> None:
        """
        Have the log say once that something on a session does not go along with it.
        """
        told = self.__dict__.setdefault("_left_behind", set())
        if what not in told:
            told.add(what)
            self._log.warn(
                "{what} on a session stays in this worker's memory: at a reload, a resize or a"
                " recycling the session goes on without it.  Keep what has to go along in"
                " stickyd.interfaces.ISessionData, have a component provide"
                " stickyd.interfaces.ICarriable, or have session.call_before_leaving() write"
                " it there",
                event="session.stays-here",
                what=what,
            )

    @override
    def makeSession(self) -> Session:
        """
        Make a session outside of a request.
        """
        return self.make_session(b"", False)

    @override
    def getSession(self, uid: bytes) -> Session:
        """
        Get a session by its id, and note that it is used.

        :raise KeyError: there is none (a :exc:`stickyd.errors.NoSuchSession`).  With
            a store that is not immediate: nobody is using it, see
            :meth:`stickyd.sessions.registry.SessionRegistry.load`.
        :raise stickyd.errors.SessionMoved: another worker has it.
        """
        session = self.sessions.get(uid)
        if session is not None:
            session.touch()
            if session.live.ended is None:
                return session
        registry = self.session_registry
        live = registry.find(uid) if registry.store.immediate else registry.in_use(uid)
        if live is None:
            raise NoSuchSession("there is no session of this id")
        # An id that the session had until now finds it under the one that it has.
        session = self.sessions.get(live.uid)
        if session is None:
            session = self.sessions[live.uid] = self.sessionFactory(self, live.uid)
        return session

    def make_session(self, key: bytes, secure: bool) -> Session:
        """
        Make a session.

        :param key: the affinity key of its client, or nothing.
        :param secure: whether its id is only ever sent over TLS.
        """
        live = self.session_registry.create(key, secure)
        session = self.sessions[live.uid] = self.sessionFactory(self, live.uid)
        if self.session_registry.store.immediate:
            # Whoever makes a session outside of a request expects it to be there.
            result_of(live.save())
        return session

"""
Sessions for ASGI applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.sessions.apps.asgi_exchange import AsgiExchange
from stickyd.sessions.apps.asgi_session import AsgiSession
from stickyd.sessions.apps.attributes import app_cookie
from stickyd.sessions.apps.desk import session_desk

if TYPE_CHECKING:
    from stickyd.sessions.apps.asgi_exchange import Application, Receive, Send
    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.web.cookie import SessionCookie


class SessionMiddleware:
    """
    Gives an ASGI application ``scope["session"]``, which is ``request.session`` in Starlette
    and FastAPI: a dict, see :class:`stickyd.sessions.apps.asgi_session.AsgiSession`.

    Served by stickyd, the sessions are in the store of ``--sessions``.  Under another server
    they are in the one that ``url`` names.

    The session is loaded before the application is called, if the client sends the id of
    one; from the worker's memory, unless it is not there yet.  It is saved before the response
    begins: a client is told nothing that could still be lost.
    """

    def __init__(
        self,
        app: Application,
        url: str | None = None,
        *,
        idle_seconds: float = 1800.0,
        cookie: SessionCookie | None = None,
        on_conflict: Application | None = None,
    ) -> None:
        """
        :param url: as ``--sessions``; without one, and without stickyd, sessions are in this
            process's memory.
        :param idle_seconds: after how long without a use a session is over, without stickyd.
        :param cookie: how the cookie looks, see
            :func:`stickyd.sessions.apps.attributes.app_cookie`.
        :param on_conflict: an ASGI application that answers when the changes of a request
            cannot be saved, as another request has changed the same meanwhile, in the place
            of a short 409.
        """
        self.app = app
        self._url = url
        self._idle_seconds = idle_seconds
        self._conflict = on_conflict
        self._cookie = app_cookie() if cookie is None else cookie

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """
        Serve a request.
        """
        # The host may have given it a session already: --asgi-sessions.
        if scope["type"] not in ("http", "websocket") or isinstance(
            scope.get("session"), AsgiSession
        ):
            await self.app(scope, receive, send)
            return
        place = session_desk.place(self._url, self._idle_seconds)
        exchange = AsgiExchange(place, self._cookie, self._conflict, scope, receive, send)
        await exchange.run(self.app)


def with_sessions(
    application: Application,
    place: SessionPlace,
    cookie: SessionCookie,
    on_conflict: Application | None = None,
) -> Application:
    """
    Stand before an application, and give it sessions: what the host does itself.

    :param on_conflict: as of :class:`SessionMiddleware`.
    """

    async def serve(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            exchange = AsgiExchange(place, cookie, on_conflict, scope, receive, send)
            await exchange.run(application)
        else:
            await application(scope, receive, send)

    return serve

"""
Sessions for WSGI applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.sessions.apps.attributes import app_cookie
from stickyd.sessions.apps.desk import session_desk
from stickyd.sessions.apps.wsgi_exchange import WsgiExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stickyd.sessions.apps.wsgi_exchange import Application
    from stickyd.sessions.web.cookie import SessionCookie


class SessionMiddleware:
    """
    Gives a WSGI application ``environ["stickyd.session"]``: a dict, see
    :class:`stickyd.sessions.apps.wsgi_session.WsgiSession`.

    Served by stickyd, the sessions are in the store of ``--sessions``.  Under another server
    they are in the one that ``url`` names.
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
        :param on_conflict: a WSGI application that answers when the changes of a request
            cannot be saved, as another request has changed the same meanwhile, in the place
            of a short 409.
        """
        self.app = app
        self._url = url
        self._idle_seconds = idle_seconds
        self._conflict = on_conflict
        self._cookie = app_cookie() if cookie is None else cookie

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """
        Serve a request.
        """
        place = session_desk.place(self._url, self._idle_seconds)
        exchange = WsgiExchange(place, self._cookie, self._conflict, environ, start_response)
        return exchange.run(self.app)

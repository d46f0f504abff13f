"""
Sessions for Flask applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask.sessions import SessionInterface as FlasksInterface
from typing_extensions import override
from werkzeug.exceptions import HTTPException

from stickyd.sessions.apps.cookies import ids_among
from stickyd.sessions.apps.desk import session_desk
from stickyd.sessions.apps.flask_session import FlaskSession
from stickyd.sessions.apps.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from flask import Flask, Request, Response


class SessionInterface(FlasksInterface):
    """
    Keeps ``flask.session`` in the store of ``--sessions``.

    Write ``app.session_interface = stickyd.flask.SessionInterface()``.  The cookie looks as
    Flask's own settings say.  A permanent session is over when it was not used for
    ``PERMANENT_SESSION_LIFETIME``.  The session is loaded when it is first used; a request that
    does not use it costs nothing.
    """

    def __init__(self, url: str | None = None, *, idle_seconds: float = 1800.0) -> None:
        """
        :param url: what store to open where no stickyd worker runs, as ``--sessions``; by
            default this process's memory.
        :param idle_seconds: after how long without a use a session that is not permanent is
            over there.
        """
        self._url = url
        self._idle_seconds = idle_seconds

    @override
    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        place = session_desk.place(self._url, self._idle_seconds)
        sent = request.cookies.getlist(self.get_cookie_name(app))
        uids = ids_among(text.encode("latin-1", "replace") for text in sent)
        secure = self.get_cookie_secure(app)
        unit = UnitOfWork.of_request(place.registry, uids, secure, request.environ)
        return FlaskSession(place, unit)

    @override
    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        """
        Save the session, and set its cookie.  A conflict is answered with 409, or what the
        application has registered for that.
        """
        if not session.loaded:
            session.abandon()
            return
        lifetime = app.permanent_session_lifetime.total_seconds()
        try:
            session.finish(lifetime if session.permanent else None)
        except HTTPException as problem:
            _replace(response, app.make_response(app.handle_http_exception(problem)))
            return
        session.answered()
        if session.accessed:
            response.vary.add("Cookie")
        value = session.cookie(self.should_set_cookie(app, session))
        if value is None:
            return
        response.vary.add("Cookie")
        attributes: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "samesite": self.get_cookie_samesite(app),
            "httponly": self.get_cookie_httponly(app),
        }
        if self.get_cookie_partitioned(app):
            attributes["partitioned"] = True
        name = self.get_cookie_name(app)
        if not value:
            response.delete_cookie(name, **attributes)
            return
        expires = self.get_expiration_time(app, session)
        response.set_cookie(name, value.decode("ascii"), expires=expires, **attributes)


def _replace(response: Response, other: Response) -> None:
    """
    Make a response another one: Flask takes none in its place any more.
    """
    response.status = other.status
    response.response = other.response
    response.headers.clear()
    response.headers.extend(other.headers)

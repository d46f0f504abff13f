"""
The session of a Flask application's request.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flask.sessions import SessionMixin
from werkzeug.exceptions import Conflict, ServiceUnavailable

from stickyd.errors import NoSuchSession, SessionConflict, SessionMoved, StoreAway
from stickyd.sessions.apps.refusal import refusal_of
from stickyd.sessions.apps.wsgi_session import WsgiSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.apps.unit_of_work import UnitOfWork


class FlaskConflict(SessionConflict, Conflict):
    """
    A conflict that Flask answers with 409, or with what the application has registered for it
    by ``@app.errorhandler(409)``.
    """


class FlaskSession(WsgiSession, SessionMixin):  # type: ignore[override]  # new is nobody's to set
    """
    What ``flask.session`` is: a :class:`stickyd.sessions.apps.wsgi_session.WsgiSession` with
    Flask's flags.
    """

    def __init__(self, place: SessionPlace, unit: UnitOfWork) -> None:
        super().__init__(place, unit)
        # A request that ends with an error in a test is never saved.
        weakref.finalize(self, place.leave, unit).atexit = False

    @property
    def permanent(self) -> bool:
        """
        Whether it lasts for ``PERMANENT_SESSION_LIFETIME``, and the cookie when the browser is
        closed; asking is no use of it, once it is loaded.
        """
        if not self.loaded:
            self.mark_accessed()
        return bool(dict.get(self, "_permanent", False))

    @permanent.setter
    def permanent(self, permanent: bool) -> None:
        self["_permanent"] = bool(permanent)

    def cookie(self, modified: bool) -> bytes | None:
        """
        Tell what the client's cookie shall be; see
        :meth:`stickyd.sessions.apps.unit_of_work.UnitOfWork.cookie`.
        """
        return self._unit.cookie(modified)

    @contextmanager
    def noting_failures(self) -> Iterator[None]:
        """
        Raise what Flask has an answer for, where nobody is to blame.
        """
        try:
            with super().noting_failures():
                yield
        except (SessionConflict, NoSuchSession, SessionMoved, StoreAway) as problem:
            refusal = refusal_of(problem)
            assert refusal is not None
            text = refusal.body.decode().strip()
            if refusal.status == 409:
                raise FlaskConflict(text) from problem
            raise ServiceUnavailable(text, retry_after=refusal.retry_after_seconds) from problem

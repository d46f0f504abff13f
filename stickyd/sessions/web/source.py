"""
What requests and sessions need of the site that has the sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.web.server import Request

    from stickyd.sessions.registry import SessionRegistry
    from stickyd.sessions.web.cookie import SessionCookie


class SessionSource(Protocol):
    """
    A :class:`stickyd.sessions.web.site.SessionSite`, seen by the requests and sessions that it
    makes.  Its sessions are :class:`stickyd.sessions.web.session.Session`.
    """

    sessions: Any
    session_registry: SessionRegistry
    session_cookie: SessionCookie

    def session_key(self, request: Request) -> bytes:
        """
        Tell a request's affinity key, which a session remembers.
        """

    def session_client(self, request: Request) -> bytes | None:
        """
        Tell a request's client from all others of this worker, where workers keep clients.
        """

    def session_trusted(self, request: Request) -> bool:
        """
        Tell whether a request's client is known to belong to this worker.
        """

    def session_ids(self, request: Request) -> Iterable[bytes]:
        """
        Tell the ids by which a request may ask for sessions.
        """

    def getSession(self, uid: bytes) -> Any:  # noqa: N802 - twisted.web's name
        """
        Get a session by its id, and note that it is used.

        :raise stickyd.errors.NoSuchSession: there is none.
        :raise stickyd.errors.SessionMoved: another worker has it.
        """

    def make_session(self, key: bytes, secure: bool) -> Any:
        """
        Make a session.
        """

    def tell_left_behind(self, what: str) -> None:
        """
        Have the log say once that something on a session does not go along with it.
        """

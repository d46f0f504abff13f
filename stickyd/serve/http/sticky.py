"""
Site and request with the worker's sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.serve.http.request import Request
from stickyd.serve.http.site import HTTPSite
from stickyd.sessions.web.cookie import SessionCookie
from stickyd.sessions.web.request import SessionRequestMixin
from stickyd.sessions.web.site import SessionSite

if TYPE_CHECKING:
    from twisted.web.resource import IResource

    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.http.context import HTTPContext
    from stickyd.sessions.registry import SessionRegistry


class SessionRequest(SessionRequestMixin, Request):
    """
    A request whose ``getSession()`` gives a session that can be carried.
    """


# It is ours too; and as long as a request holds no session, its writing is as it was.
SessionRequest._plain = SessionRequest._answers = True


def _key_of(request: Any) -> bytes:
    handoff = request.channel.handoff
    return b"" if handoff is None else handoff.identity


def _client_of(request: Any) -> bytes | None:
    handoff = request.channel.handoff
    return None if handoff is None else handoff.client


def _is_known(request: Any) -> bool:
    return getattr(request.channel, "names_our_slot", False) is True


class StickySite(SessionSite, HTTPSite):
    """
    Serves resources with the worker's sessions.
    """

    requestFactory = SessionRequest  # noqa: N815 - Twisted's name

    def __init__(
        self,
        resource: IResource,
        context: HTTPContext,
        access_log: AccessLog | None,
        sessions: SessionRegistry,
        cookie: SessionCookie = SessionCookie(),  # noqa: B008 -- frozen
    ) -> None:
        # Not by super(): the two have different parameters, and this is all that
        # SessionSite's would do.
        HTTPSite.__init__(self, resource, context, access_log, SessionRequest)
        self.session_registry = sessions
        self.session_cookie = cookie
        self.session_key = _key_of
        self.session_client = _client_of
        self.session_trusted = _is_known
        ids = getattr(resource, "session_ids", None)
        if ids is not None:
            # It finds its sessions by something else than a cookie.
            self.session_ids = ids

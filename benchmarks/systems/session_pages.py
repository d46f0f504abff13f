"""
Resources that use the session of their client in three ways: not at all, to read it, to change
it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.web.resource import Resource
from typing_extensions import override

from stickyd.sessions.interfaces import ISessionData

if TYPE_CHECKING:
    from twisted.web.server import Request

_PID = os.getpid()


class Page(Resource):
    """
    Answers with a count, as the demonstration does.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        return b"Worker %d session hits: %d\n" % (_PID, self.count(request))

    def count(self, request: Any) -> int:
        """
        Use the session.

        :return: the count; 1 if there is none.
        """
        return 1


class ReadingPage(Page):
    """
    Reads the session; the first request of a client makes it.
    """

    @override
    def count(self, request: Any) -> int:
        data = request.getSession(ISessionData)
        hits: int | None = data.get("hits")
        if hits is None:
            data["hits"] = hits = 1
        return hits


class ChangingPage(Page):
    """
    Counts in the session.
    """

    @override
    def count(self, request: Any) -> int:
        data = request.getSession(ISessionData)
        hits: int = data.get("hits", 0) + 1
        data["hits"] = hits
        return hits


none, read, change = Page, ReadingPage, ChangingPage

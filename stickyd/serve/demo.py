"""
The demonstration: counts the hits of each client, in the sessions.

In memory the count is written into the session when that leaves for another worker; anywhere
else with every hit, before its response begins, so that the count survives what the store
promises.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from stickyd.errors import NoSuchSession, SessionConflict

if TYPE_CHECKING:
    from twisted.web.server import Request

    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.record import EndReason
    from stickyd.sessions.registry import SessionRegistry


#: A session is not told more often than this that it is used.
_TOUCH_SECONDS = 10.0


class _Hits:
    """
    The count of one client.
    """

    __slots__ = ("count", "live")

    def __init__(self, live: LiveSession) -> None:
        self.live = live
        self.count: int = live.data.get("hits", 0)

    def store(self) -> None:
        """
        Write the count into the session.
        """
        self.live.data["hits"] = self.count


class Counter(Resource):
    """
    Answers ``Worker <pid> session hits: <n>`` at every path.

    As long as one client always reaches one worker, ``n`` rises by one each time.  The
    client is its address; its session is found by that, without a cookie.
    """

    isLeaf = True

    def __init__(self, sessions: SessionRegistry) -> None:
        super().__init__()
        self._sessions = sessions
        self._immediate = sessions.store.immediate
        self._hits: dict[object, _Hits] = {}
        self._line = b"Worker %d session hits: %%d\n" % os.getpid()

    @override
    def render(self, request: Request) -> bytes | int:
        address = request.getClientAddress()
        client = getattr(address, "host", "")
        if not self._immediate:
            Deferred.fromCoroutine(self._answer(client, request))
            return NOT_DONE_YET
        hits = self._hits.get(client) or self._find(client, request)
        if hits.live.last_touch_seconds() > _TOUCH_SECONDS:
            hits.live.touch()
        hits.count += 1
        return self._line % hits.count

    async def _answer(self, client: str, request: Any) -> None:
        try:
            count = await self._count(_uid_of(client), request)
        except Exception:  # noqa: BLE001 -- 503 while the store is away, else 500
            if not request.finished and not request._disconnected:
                request.processingFailed(Failure())
            return
        if not request._disconnected:
            request.write(self._line % count)
            request.finish()

    async def _count(self, uid: bytes, request: Any) -> int:
        """
        Count one more, as often as it takes while others do too.
        """
        sessions = self._sessions
        while True:
            live = await sessions.load(uid)
            if live is None:
                came = request.channel.handoff
                key = b"" if came is None else came.identity
                live = sessions.create(key, uid=uid)
            live.hold()
            count: int = live.data.get("hits", 0) + 1
            live.data["hits"] = count
            try:
                await live.save()
            except (SessionConflict, NoSuchSession):
                continue
            finally:
                following = sessions.let_go(live)
                if following is not None:
                    await following
            return count

    def session_ids(self, request: Request) -> list[bytes]:
        """
        Tell by which id the session of a request is found.
        """
        return [_uid_of(getattr(request.getClientAddress(), "host", ""))]

    def _find(self, client: str, request: Any) -> _Hits:
        uid = _uid_of(client)
        live = self._sessions.find(uid)
        made = live is None
        handoff = request.channel.handoff
        if live is None:
            live = self._sessions.create(b"" if handoff is None else handoff.identity, uid=uid)
        if handoff is not None and handoff.client is not None:
            live.note_client(handoff.client)
        # So that it is there when sessions are carried.
        live.save()
        if made and self._sessions.forwards:
            # The others have left already: it follows them before its client hears of it.
            request.hold_sessions()
        hits = self._hits[client] = _Hits(live)
        live.call_before_leaving(hits.store)

        def gone(_: EndReason) -> None:
            self._hits.pop(client, None)

        live.call_when_gone(gone)
        return hits


def _uid_of(client: str) -> bytes:
    return b"address:" + client.encode()

"""
Tests of sessions behind twisted.web's requests: real HTTP, over a transport in memory.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.logger import capturedLogs
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from twisted.web import server

from stickyd.errors import NoSuchSession, SessionMoved
from stickyd.sessions.answers import result_of
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.web.request import SessionRequestMixin
from stickyd.sessions.web.site import with_sessions
from tests.sessions.web.web import COOKIE, Cart, ICart, Web, count, count_and_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[[Any], Any]


def test_idle_session_expires() -> None:
    """
    After its timeout the session is new, its callbacks were called, and uses put it off.
    """
    ends: list[str] = []

    def render(request: server.Request) -> bytes:
        session = request.getSession()
        if session.live.version == 1 and not session.expireCallbacks:
            session.notifyOnExpire(lambda: 1 / 0)
            session.notifyOnExpire(lambda: ends.append("expired"))
        return count(request)

    web = Web(render)
    web.get()
    for body in (b"2", b"3"):
        web.clock.advance(899)
        assert web.get().body == body
    assert ends == []
    with capturedLogs() as events:
        web.clock.advance(900)
        assert web.get().body == b"1"
    assert ends == ["expired"]
    assert any("a callback of notifyOnExpire has failed" in event["log_format"] for event in events)
    assert len(web.site.sessions) == 1


def test_expired_sessions_are_dropped_without_a_request() -> None:
    """
    The sweep takes what is over out of the site too.
    """
    web = Web(count)
    web.get()
    web.clock.pump([30] * 32)
    assert web.site.sessions == {}
    assert len(web.store) == 0


registerAdapter(Cart, server.Session, ICart)


def test_site_as_in_twisted() -> None:
    """
    site.makeSession() and site.getSession(uid) work outside of requests.
    """
    web = Web(count)
    session = web.site.makeSession()
    assert web.site.getSession(session.uid) is session
    assert web.site.sessions == {session.uid: session}
    web.cookies[COOKIE] = session.uid
    assert web.get().cookies == {}
    with pytest.raises(KeyError) as caught:
        web.site.getSession(b"unknown")
    assert isinstance(caught.value, NoSuchSession)
    web.clock.advance(900)
    with pytest.raises(KeyError):
        web.site.getSession(session.uid)


def test_carried_to_another_worker() -> None:
    """
    The same cookie finds the same data at the worker that the session was carried to.
    """
    old, new = Web(count), Web(count)
    old.get()
    session = old.site.sessions[old.uid]
    ends: list[str] = []
    session.notifyOnExpire(lambda: ends.append("expired"))
    session.call_before_leaving(lambda: session.live.data.update(hits=41))
    for chunk in old.registry.export_batches():
        result_of(new.registry.import_chunk(chunk))
    new.cookies = old.cookies
    assert new.get().body == b"42"
    assert old.site.sessions == {}
    assert ends == []


def test_moved_session_is_not_replaced() -> None:
    """
    At the old worker, a request with the cookie is told to come again, and keeps its cookie.
    """
    web = Web(count)
    web.get()
    list(web.registry.export_batches())
    response = web.get()
    assert response.code == 503
    assert response.headers[b"retry-after"] == [b"1"]
    assert response.cookies == {}


def test_session_moves_during_a_stream() -> None:
    """
    A stream whose session has moved can read it, but neither change it nor get another.
    """
    requests: list[Any] = []

    def render(request: server.Request) -> int:
        count(request)
        request.write(b"x")
        requests.append(request)
        return server.NOT_DONE_YET

    web = Web(render)
    exchange = web.begin()
    data = next(iter(web.site.sessions.values())).live.data
    list(web.registry.export_batches())
    assert data["hits"] == 1
    with pytest.raises(SessionMoved):
        data["hits"] = 2
    with pytest.raises(SessionMoved):
        requests[0].getSession()
    with capturedLogs():
        requests[0].processingFailed(Failure(SessionMoved("moved")))
    assert exchange.response.code == 200


def test_held_until_the_head() -> None:
    """
    A session does not leave while a page is being made, and may once its response has begun.
    """
    requests: list[server.Request] = []
    web = Web(count_and_keep(requests))
    web.begin()
    assert list(web.registry.export_batches()) == []
    requests[0].write(b"x")
    assert len(list(web.registry.export_batches())) == 1


def test_evicted_session_leaves_the_site() -> None:
    """
    A session for which the store has no room any more is not kept by the site either.
    """
    web = Web(count, store_of=lambda clock: MemorySessionStore(clock, max_count=2))
    ends: list[str] = []
    web.site.makeSession().notifyOnExpire(lambda: ends.append("evicted"))
    for _ in range(2):
        web.site.makeSession()
    assert len(web.site.sessions) == 2
    assert ends == ["evicted"]


def test_with_sessions() -> None:
    """
    A class of requests gets sessions once, and stays the class that it was.
    """

    class Own(server.Request):
        pass

    made = with_sessions(Own)
    assert issubclass(made, Own)
    assert issubclass(made, SessionRequestMixin)
    assert made.__name__ == "Own"
    assert with_sessions(made) is made
    web = Web(count, request_class=Own)
    assert web.get().body == b"1"
    assert web.site.requestFactory is not Own


def test_site_below_a_site() -> None:
    """
    The cookie of a site that is reached below another has the path in its name, as in
    twisted.web.
    """

    def render(request: Any) -> bytes:
        request.sitepath = [b"sub"]
        return count(request)

    assert list(Web(render).get().cookies) == [COOKIE + b"_sub"]

"""
A session, as twisted.web's applications use it.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import capturedLogs
from twisted.web import server

from stickyd.sessions.answers import result_of
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.web.session import Session
from tests.sessions.web.web import COOKIE, START, ICart, Web, count

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[[Any], Any]


def test_session_timeout_of_one_session() -> None:
    """
    session.sessionTimeout = 5 counts for this session.
    """

    def render(request: server.Request) -> bytes:
        request.getSession().sessionTimeout = 5
        return count(request)

    web = Web(render)
    web.get()
    assert web.site.sessions[web.uid].sessionTimeout == 5
    web.clock.advance(5)
    assert web.get().body == b"1"


def test_session_timeout_of_a_class() -> None:
    """
    A subclass with sessionTimeout = 5, as sessionFactory, counts for new sessions.
    """

    class Short(Session):
        sessionTimeout = 5  # noqa: N815 -- twisted.web's name and way

    web = Web(count)
    web.site.sessionFactory = Short
    web.get()
    session = web.site.sessions[web.uid]
    assert isinstance(session, Short)
    assert session.sessionTimeout == 5
    session.sessionTimeout = 50
    assert session.sessionTimeout == 50


def test_expire() -> None:
    """
    session.expire() ends the session at once; the next request has a new one.
    """
    ends: list[str] = []

    def render(request: server.Request) -> bytes:
        session = request.getSession()
        hits = count(request)
        if hits == b"2":
            session.notifyOnExpire(lambda: ends.append("expired"))
            session.expire()
            session.expire()
            assert request.getSession() is not session
        return hits

    web = Web(render)
    web.get()
    first = web.uid
    assert web.get().body == b"2"
    assert ends == ["expired"]
    assert web.uid != first
    assert result_of(web.store.load(first)) is None


def test_logout() -> None:
    """
    A request that ends its session is answered, whatever it changed before.
    """

    def render(request: server.Request) -> bytes:
        hits = count(request)
        request.getSession().expire()
        return hits

    web = Web(render)
    assert web.get().body == b"1"
    assert web.site.sessions == {}
    assert len(web.store) == 0


def test_adapters_registered_for_twisted() -> None:
    """
    An adapter registered for twisted.web's Session works, and stays with the session.
    """

    def render(request: server.Request) -> bytes:
        cart: Any = request.getSession(ICart)
        again: Any = ICart(request.getSession())
        assert again is cart
        assert cart.session is request.getSession()
        cart.items += 1
        return b"%d" % cart.items

    web = Web(render)
    assert [web.get().body, web.get().body] == [b"1", b"2"]


def test_session_as_in_twisted() -> None:
    """
    The session has the attributes that twisted.web's has, with the same meaning.
    """
    web = Web(count)
    web.get()
    session = web.site.sessions[web.uid]
    assert isinstance(session, server.Session)
    assert session.uid == web.uid
    assert session.site is web.site
    assert session.sessionNamespaces == {}
    assert (session.lastModified, session.sessionTimeout) == (START, 900)
    web.clock.advance(5)
    session.touch()
    assert session.lastModified == START + 5


def test_data_by_both_ways() -> None:
    """
    ISessionData(session) and getSession(ISessionData) give the same data.
    """
    web = Web(count)
    session = web.site.makeSession()
    data: Any = ISessionData(session)
    assert data is session.live.data
    assert session.getComponent(ISessionData) is session.live.data


def test_regenerate() -> None:
    """
    At a login the client gets a new id, the old one is soon worth nothing, and the data stays.
    """

    def render(request: Any) -> bytes:
        hits = count(request)
        if hits == b"2":
            session = request.regenerate_session()
            assert request.getSession() is session
        return hits

    web = Web(render)
    web.get()
    planted = web.uid
    response = web.get()
    assert response.body == b"2"
    assert web.uid != planted
    assert len(response.headers[b"set-cookie"]) == 1
    assert list(web.site.sessions) == [web.uid]
    assert web.get().body == b"3"
    uid = web.uid
    web.cookies[COOKIE] = planted
    response = web.get()
    assert (response.body, response.cookies) == (b"4", {})
    web.clock.advance(10)
    web.cookies[COOKIE] = uid
    assert web.get().body == b"5"
    web.cookies[COOKIE] = planted
    assert web.get().body == b"1"


def test_planted_id_is_not_found_elsewhere() -> None:
    """
    Who has planted an id on a client gets nothing by it after the login, from another address.
    """

    def render(request: Any) -> bytes:
        hits = count(request)
        if hits == b"2":
            request.regenerate_session()
        return hits

    web = Web(render)
    web.site.session_key = lambda request: key
    key = b"192.0.2.1"
    web.get()
    planted = web.uid
    web.get()
    uid = web.uid
    key = b"192.0.2.66"
    web.cookies[COOKIE] = planted
    assert web.get().body == b"1"
    key = b"192.0.2.1"
    web.cookies[COOKIE] = planted
    assert web.get().body == b"3"
    web.cookies[COOKIE] = uid
    assert web.get().body == b"4"


def test_regenerate_a_new_session() -> None:
    """
    A login in the very first request sends one cookie, with the id that counts.
    """

    def render(request: Any) -> bytes:
        request.regenerate_session()
        return count(request)

    web = Web(render)
    assert len(web.get().headers[b"set-cookie"]) == 1
    assert list(web.site.sessions) == [web.uid]


def test_regenerate_too_late() -> None:
    """
    Once the response has begun, the cookie could not be sent: refused.
    """
    errors: list[Exception] = []

    def render(request: Any) -> int:
        count(request)
        request.write(b"x")
        try:
            request.regenerate_session()
        except RuntimeError as error:
            errors.append(error)
        request.finish()
        return server.NOT_DONE_YET

    web = Web(render)
    web.get()
    assert "once the response has begun" in str(errors[0])
    assert list(web.site.sessions) == [web.uid]


def test_regenerate_uncarriable() -> None:
    """
    A login with data that cannot be carried fails, and leaves the id as it was.
    """

    def render(request: Any) -> bytes:
        data = request.getSession(ISessionData)
        if data:
            data["n"].append(object())
            request.regenerate_session()
        data["n"] = []
        return b""

    web = Web(render)
    web.get()
    before = web.uid
    with capturedLogs():
        assert web.get().code == 500
    assert web.uid == before
    assert list(web.site.sessions) == [before]


def test_session_knows_the_key() -> None:
    """
    A session remembers its client's affinity key, the latest one.
    """
    keys = [b"one", b"two", b"two"]
    web = Web(count, {"session_key": lambda request: keys.pop(0)})
    for key, version in ((b"one", 2), (b"two", 3), (b"two", 4)):
        web.get()
        record = result_of(web.store.load(web.uid))
        assert record is not None
        assert (record.key, record.version) == (key, version)


def test_it_is_told_whose_session_is_used_and_whose_deleted() -> None:
    """
    Where workers keep the clients that they know, it is told of each what becomes of its session;
    outside of a request too.
    """
    told: list[tuple[bytes, bool]] = []
    clients = [b"a", b"b"]

    def render(request: server.Request) -> bytes:
        if request.path == b"/" and len(told) == 2:
            request.getSession().expire()
        return count(request)

    web = Web(render)
    web.site.session_client = lambda request: clients[-1]
    web.registry.watch_clients(lambda client, is_there: told.append((client, is_there)))
    web.get()
    web.get()
    assert told == [(b"b", True)] * 2
    clients.pop()
    web.get()
    assert told[2:] == [(b"a", True), (b"a", False), (b"a", True)]
    web.site.getSession(web.uid).expire()
    assert told[5:] == [(b"a", False)]

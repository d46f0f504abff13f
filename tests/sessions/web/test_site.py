"""
Tests of sessions behind twisted.web's requests: real HTTP, over a transport in memory.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import Resource
from zope.interface import Interface, alsoProvides, implementer

from stickyd.errors import NoSuchSession, NotCarriable, SessionMoved, StoreAway
from stickyd.sessions.answers import result_of
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.record import SessionExpiry
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.web.cookie import SessionCookie
from stickyd.sessions.web.request import SessionRequestMixin
from stickyd.sessions.web.session import Session
from stickyd.sessions.web.site import SessionSite, with_sessions
from tests.sessions.test_late import LateStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.interfaces import ISessionStore

    Render = Callable[[Any], Any]

START = 1_700_000_000.0
COOKIE = b"TWISTED_SESSION"
SECURE_COOKIE = b"TWISTED_SECURE_SESSION"


class Page(Resource):
    """
    A page that a function renders.
    """

    isLeaf = True

    def __init__(self, render: Render) -> None:
        super().__init__()
        self.render_GET = render


class SecureTransport(StringTransport):
    """
    A transport that says it is TLS; of that twisted.web asks no more than this.
    """

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802 -- of the interface
        """
        There is no TCP below.
        """


@dataclass
class Response:
    """
    What came back.
    """

    code: int
    headers: dict[bytes, list[bytes]]
    body: bytes

    @property
    def cookies(self) -> dict[bytes, bytes]:
        """
        The values of the cookies that it sets.
        """
        pairs = [line.split(b";")[0].split(b"=", 1) for line in self.headers.get(b"set-cookie", [])]
        return {pair[0]: pair[1] for pair in pairs}


def parse(text: bytes) -> Response:
    """
    Read one response, whose body is all that follows.
    """
    head, _, body = text.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        headers.setdefault(name.lower(), []).append(value)
    return Response(int(status.split()[1]), headers, body)


@dataclass
class Exchange:
    """
    A connection with one request.
    """

    channel: Any
    transport: StringTransport

    @property
    def response(self) -> Response:
        """
        What came back so far.
        """
        return parse(self.transport.value())

    def lose(self) -> None:
        """
        Have the client go away.
        """
        self.channel.connectionLost(Failure(ConnectionDone()))


@dataclass
class Web:
    """
    A site and its clock, and a browser's cookies.
    """

    render: Render
    options: dict[str, Any] = field(default_factory=dict)
    store_of: Callable[[Clock], ISessionStore] = MemorySessionStore
    site_class: type[SessionSite] = SessionSite
    request_class: type[server.Request] | None = None

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store: Any = self.store_of(self.clock)
        self.registry = SessionRegistry(self.store, self.clock, expiry=SessionExpiry(idle=900))
        self.site = self.site_class(
            Page(self.render),
            self.request_class,
            reactor=self.clock,
            sessions=self.registry,
            **self.options,
        )
        self.cookies: dict[bytes, bytes] = {}

    def begin(self, secure: bool = False, method: bytes = b"GET") -> Exchange:
        """
        Send a request with the cookies.
        """
        transport = SecureTransport() if secure else StringTransport()
        if secure:
            alsoProvides(transport, ISSLTransport)
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        cookies = b"; ".join(name + b"=" + value for name, value in self.cookies.items())
        channel.dataReceived(
            method
            + b" / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nCookie: "
            + cookies
            + b"\r\n\r\n"
        )
        return Exchange(channel, transport)

    def get(self, secure: bool = False) -> Response:
        """
        Send a request, and keep the cookies that come back.
        """
        response = self.begin(secure).response
        self.cookies.update(response.cookies)
        return response

    @property
    def uid(self) -> bytes:
        """
        The id in the browser's cookie.
        """
        return self.cookies[COOKIE]


def count(request: server.Request) -> bytes:
    """
    A page that counts its visits.
    """
    data = request.getSession(ISessionData)
    data["hits"] = data.get("hits", 0) + 1
    return b"%d" % data["hits"]


def count_and_keep(requests: list[server.Request]) -> Render:
    """
    Make a page that counts, and leaves the answer to the test.
    """

    def render(request: server.Request) -> int:
        count(request)
        requests.append(request)
        return server.NOT_DONE_YET

    return render


def test_session_follows_the_cookie() -> None:
    """
    The second request with the cookie has the session of the first, and gets no new cookie.
    """
    web = Web(count)
    assert web.get().body == b"1"
    second = web.get()
    assert second.body == b"2"
    assert second.cookies == {}
    assert Web(count).get().body == b"1"


def test_saved_before_the_response() -> None:
    """
    When the response is there, the store has what the request did.
    """
    web = Web(count)
    web.get()
    web.get()
    record = result_of(web.store.load(web.uid))
    assert record is not None
    assert record.data == b'{"hits":2}'


def test_cookie_attributes() -> None:
    """
    Scripts cannot read the cookie, and other sites' forms do not send it.
    """
    [line] = Web(count).get().headers[b"set-cookie"]
    value, _, attributes = line.partition(b"; ")
    assert len(value.partition(b"=")[2]) == 32
    assert attributes == b"Path=/; HttpOnly; SameSite=lax"


def test_secure_cookie() -> None:
    """
    On TLS the cookie has its own name and is Secure.
    """
    [line] = Web(count).get(secure=True).headers[b"set-cookie"]
    assert line.startswith(SECURE_COOKIE + b"=")
    assert line.endswith(b"; Path=/; Secure; HttpOnly; SameSite=lax")


def test_cookie_settings() -> None:
    """
    Each setting of the cookie shows in it.
    """
    cookie = SessionCookie(
        name=b"id",
        path="/a",
        domain="x.org",
        max_age=60,
        http_only=False,
        same_site="none",
        always_secure=True,
    )
    [line] = Web(count, {"cookie": cookie}).get().headers[b"set-cookie"]
    assert line[:3] == b"id="
    assert line.partition(b"; ")[2] == b"Domain=x.org; Path=/a; Max-Age=60; Secure; SameSite=none"
    [line] = Web(count, {"cookie": SessionCookie(same_site=None)}).get().headers[b"set-cookie"]
    assert line.partition(b"; ")[2] == b"Path=/; HttpOnly"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": b"a b"}, "cannot be the name of a cookie"),
        ({"secure_name": b""}, "cannot be the name of a cookie"),
        ({"name": b"x", "secure_name": b"x"}, "cannot share a cookie"),
        ({"path": "/;x"}, "cannot stand in a cookie"),
        ({"domain": "a\r\nb"}, "cannot stand in a cookie"),
        ({"same_site": "Lax"}, "same_site is lax, strict, none or None, not 'Lax'"),
        ({"same_site": "none"}, "not always secure"),
        ({"max_age": 0}, "max_age must be more than 0 seconds, not 0"),
    ],
)
def test_cookie_settings_refused(settings: dict[str, Any], message: str) -> None:
    """
    A cookie that browsers would drop or misread cannot be set up.
    """
    with pytest.raises(ValueError, match=message):
        SessionCookie(**settings)


def test_planted_id_is_not_taken() -> None:
    """
    An id that nobody made here gives a new session with a new id.
    """
    web = Web(count)
    web.cookies[COOKIE] = b"0" * 32
    response = web.get()
    assert response.body == b"1"
    assert response.cookies[COOKIE] != b"0" * 32
    assert b"0" * 32 not in web.site.sessions


@pytest.mark.parametrize("value", [b"", b"x", b"\xff\xfe", b"a" * 4_000])
def test_strange_cookies(value: bytes) -> None:
    """
    Whatever stands in the cookie, the client gets a new session.
    """
    web = Web(count)
    web.cookies[COOKIE] = value
    assert web.get().body == b"1"


def test_insecure_id_is_worth_nothing_on_tls() -> None:
    """
    The id of a session without TLS is not taken on TLS, nor the other way.
    """
    web = Web(count)
    web.get()
    web.cookies[SECURE_COOKIE] = web.uid
    assert web.get(secure=True).body == b"1"
    web.get(secure=True)
    web.cookies[COOKIE] = web.cookies[SECURE_COOKIE]
    assert web.get().body == b"1"


def test_both_sessions_in_one_request() -> None:
    """
    On TLS a request can have the session of the plain cookie too, and both are saved.
    """

    def render(request: server.Request) -> bytes:
        assert request.getSession() is not request.getSession(forceNotSecure=True)
        request.getSession(ISessionData)["x"] = "secure"
        request.getSession(ISessionData, forceNotSecure=True)["x"] = "plain"
        return b""

    web = Web(render)
    web.get(secure=True)
    for name, text in ((COOKIE, b'{"x":"plain"}'), (SECURE_COOKIE, b'{"x":"secure"}')):
        record = result_of(web.store.load(web.cookies[name]))
        assert record is not None
        assert record.data == text


def test_page_without_session() -> None:
    """
    A page that asks for no session sets no cookie and makes none.
    """
    web = Web(lambda request: b"hello")
    response = web.get()
    assert (response.code, response.body, response.cookies) == (200, b"hello", {})
    assert len(web.store) == 0


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


class ICart(Interface):
    """
    What an application of twisted.web adapts sessions to.
    """


@implementer(ICart)
class Cart:
    """
    A cart that lives in the process.
    """

    def __init__(self, session: server.Session) -> None:
        self.session = session
        self.items = 0


registerAdapter(Cart, server.Session, ICart)


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


def test_data_by_both_ways() -> None:
    """
    ISessionData(session) and getSession(ISessionData) give the same data.
    """
    web = Web(count)
    session = web.site.makeSession()
    data: Any = ISessionData(session)
    assert data is session.live.data
    assert session.getComponent(ISessionData) is session.live.data


def test_uncarriable_value_fails_the_request() -> None:
    """
    A value that cannot be carried, smuggled into a list, makes a 500, and is forgotten.
    """

    def render(request: server.Request) -> bytes:
        data = request.getSession(ISessionData)
        if data.setdefault("cart", []) == []:
            data["cart"].append(1)
        else:
            data["cart"].append(object())
        return b"ok"

    web = Web(render)
    assert web.get().code == 200
    with capturedLogs() as events:
        response = web.get()
    assert response.code == 500
    [failure] = [event["log_failure"] for event in events if "log_failure" in event]
    assert isinstance(failure.value, NotCarriable)
    assert str(failure.value).startswith("cart[1] is of the type object;")
    record = result_of(web.store.load(web.uid))
    assert record is not None
    assert record.data == b'{"cart":[1]}'
    assert dict(web.site.sessions[web.uid].live.data) == {"cart": [1]}


def test_uncarriable_value_at_finish() -> None:
    """
    The same holds for a response without a body.
    """

    def render(request: server.Request) -> int:
        request.getSession(ISessionData).setdefault("cart", []).append(object())
        request.finish()
        return server.NOT_DONE_YET

    web = Web(render)
    with capturedLogs():
        assert web.get().code == 500


def test_uncarriable_value_after_the_head() -> None:
    """
    Once the response has begun, the failure can only be logged; the response goes on.
    """

    def render(request: server.Request) -> int:
        data = request.getSession(ISessionData)
        data["cart"] = []
        request.write(b"one ")
        request.getSession(ISessionData)["cart"].append(object())
        request.write(b"two")
        request.finish()
        return server.NOT_DONE_YET

    web = Web(render)
    with capturedLogs() as events:
        response = web.get()
    assert b"one" in response.body
    assert b"two" in response.body
    assert "what a request did to it is lost" in events[0]["log_format"]
    record = result_of(web.store.load(web.uid))
    assert record is not None
    assert record.data == b'{"cart":[]}'


def test_change_after_the_head() -> None:
    """
    What a streaming page does after the head is saved at the next write or the end.
    """

    def render(request: server.Request) -> int:
        request.getSession(ISessionData)["n"] = 1
        request.write(b"one")
        request.getSession(ISessionData)["n"] = 2
        request.finish()
        return server.NOT_DONE_YET

    web = Web(render)
    web.get()
    record = result_of(web.store.load(web.uid))
    assert record is not None
    assert (record.version, record.data) == (3, b'{"n":2}')


def test_head_request() -> None:
    """
    A HEAD request has the session too, and its response no body.
    """
    web = Web(count)
    response = web.begin(method=b"HEAD").response
    assert response.body == b""
    assert response.headers[b"content-length"] == [b"1"]
    record = result_of(web.store.load(response.cookies[COOKIE]))
    assert record is not None
    assert record.data == b'{"hits":1}'


def test_client_gone() -> None:
    """
    What a request did is saved even if its client goes away, and the session is released.
    """
    requests: list[server.Request] = []
    web = Web(count_and_keep(requests))
    exchange = web.begin()
    [session] = web.registry.busy()
    exchange.lose()
    assert web.registry.busy() == []
    record = result_of(web.store.load(session.uid))
    assert record is not None
    assert record.data == b'{"hits":1}'


def test_client_gone_with_uncarriable_value() -> None:
    """
    If what it did cannot be saved, it is logged.
    """

    def render(request: server.Request) -> int:
        request.getSession(ISessionData).setdefault("cart", []).append(object())
        return server.NOT_DONE_YET

    web = Web(render)
    exchange = web.begin()
    with capturedLogs() as events:
        exchange.lose()
    assert "what a request did to it is lost" in events[0]["log_format"]


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


def late_web(render: Render) -> Web:
    """
    A site over a store that answers later.
    """
    return Web(render, store_of=LateStore)


def late_get(web: Web) -> Response:
    """
    Send a request, and let the store work.
    """
    exchange = web.begin()
    web.store.run()
    web.cookies.update(exchange.response.cookies)
    return exchange.response


def test_late_store() -> None:
    """
    With a store that answers later, the session is found, and each response waits for it.
    """
    web = late_web(count)
    exchange = web.begin()
    assert exchange.transport.value() == b""
    web.store.run()
    assert exchange.response.body == b"1"
    web.cookies.update(exchange.response.cookies)
    record = result_of(web.store.behind.load(web.uid))
    assert record is not None
    assert record.data == b'{"hits":1}'
    again = web.begin()
    assert again.transport.value() == b""
    assert late_get(web).body == b"3"
    assert again.response.body == b"2"


def test_late_store_of_another_worker() -> None:
    """
    A session that another worker has made is found, and its changes are seen.
    """
    web = late_web(count)
    late_get(web)
    web.site.sessions.clear()
    gc.collect()
    assert late_get(web).body == b"2"
    record = result_of(web.store.behind.load(web.uid))
    assert record is not None
    result_of(web.store.behind.save(replace(record, data=b'{"hits":41}')))
    assert late_get(web).body == b"42"


def test_late_store_that_is_down() -> None:
    """
    If the session cannot be loaded, or cannot be saved, the request fails.
    """
    web = late_web(count)
    web.store.broken = OSError("down")
    with capturedLogs():
        assert late_get(web).code == 500
    web.store.broken = None
    late_get(web)
    web.store.broken = OSError("down")
    with capturedLogs():
        assert late_get(web).code == 500


def test_late_store_that_is_away() -> None:
    """
    While the store is away a request that needs it is told to come again, be it for the load or
    for the commit; and it gets no cookie of a session that is not stored.
    """
    web = late_web(count)
    web.store.broken = StoreAway("the store is away", 3)
    with capturedLogs():
        late_get(web)
        response = web.begin()
        web.store.run()
    assert response.response.code == 503
    assert response.response.headers[b"retry-after"] == [b"3"]
    assert response.response.cookies == {}
    web.store.broken = None
    assert late_get(web).body == b"1"
    web.store.broken = StoreAway("the store is away", 3)
    with capturedLogs():
        response = web.begin()
        web.store.run()
    assert response.response.code == 503


def test_late_store_and_a_stream() -> None:
    """
    All that is written while the store works comes after the head, in order.
    """

    def render(request: server.Request) -> int:
        count(request)
        request.write(b"one ")
        request.getSession(ISessionData)["n"] = 1
        request.write(b"two ")
        request.finish()
        return server.NOT_DONE_YET

    web = late_web(render)
    exchange = web.begin()
    assert exchange.transport.value() == b""
    web.store.run()
    body = exchange.response.body
    assert body.index(b"one") < body.index(b"two") < body.index(b"0\r\n\r\n")
    record = result_of(web.store.behind.load(exchange.response.cookies[COOKIE]))
    assert record is not None
    assert record.data == b'{"hits":1,"n":1}'


def test_late_failure_after_the_head() -> None:
    """
    If a later save of a stream fails, it is logged and the stream goes on.
    """
    requests: list[server.Request] = []

    def render(request: server.Request) -> int:
        count(request)
        request.write(b"one ")
        requests.append(request)
        return server.NOT_DONE_YET

    web = late_web(render)
    exchange = web.begin()
    web.store.run()
    count(requests[0])
    web.store.broken = OSError("down")
    requests[0].write(b"two ")
    requests[0].finish()
    assert b"two" not in exchange.transport.value()
    with capturedLogs() as events:
        web.store.run()
    assert b"two" in exchange.response.body
    assert exchange.transport.value().endswith(b"0\r\n\r\n")
    assert "what a request did to it is lost" in events[-1]["log_format"]


def test_late_client_gone() -> None:
    """
    A client that goes away while the store works gets nothing, and harms nothing.
    """
    rendered: list[bytes] = []

    def render(request: server.Request) -> bytes:
        rendered.append(count(request))
        return rendered[-1]

    web = late_web(render)
    late_get(web)
    loading = web.begin()
    loading.lose()
    web.store.run()
    assert rendered == [b"1"]
    saving = web.begin()
    web.store.run(1)
    assert rendered == [b"1", b"2"]
    saving.lose()
    web.store.run()
    assert saving.transport.value() == b""
    record = result_of(web.store.behind.load(web.uid))
    assert record is not None
    assert record.data == b'{"hits":2}'


def test_late_logout() -> None:
    """
    The response to a logout waits until the store has removed the session; if it cannot, the
    request fails.
    """

    def render(request: server.Request) -> bytes:
        hits = count(request)
        if hits == b"2":
            request.getSession().expire()
        return hits

    web = late_web(render)
    late_get(web)
    exchange = web.begin()
    web.store.run(2)
    assert exchange.transport.value() == b""
    assert result_of(web.store.behind.load(web.uid)) is not None
    web.store.run()
    assert exchange.response.body == b"2"
    assert result_of(web.store.behind.load(web.uid)) is None
    late_get(web)
    failing = web.begin()
    web.store.run(2)
    web.store.broken = OSError("down")
    with capturedLogs():
        web.store.run()
    assert failing.response.code == 500


def test_late_login() -> None:
    """
    The response to a login waits until the store has the new id; if it cannot have it, the
    request fails.
    """

    def render(request: Any) -> bytes:
        hits = count(request)
        if hits != b"1":
            request.regenerate_session()
        return hits

    web = late_web(render)
    late_get(web)
    planted = web.uid
    exchange = web.begin()
    web.store.run(2)
    assert exchange.transport.value() == b""
    web.store.run()
    assert exchange.response.body == b"2"
    web.cookies.update(exchange.response.cookies)
    found = result_of(web.store.behind.load(planted))
    assert found is not None
    assert found.uid == web.uid
    failing = web.begin()
    web.store.run(2)
    web.store.broken = OSError("down")
    with capturedLogs():
        web.store.run()
    assert failing.response.code == 500
    assert result_of(web.store.behind.load(web.uid)) is not None


def test_late_session_deleted_by_another_worker() -> None:
    """
    A request whose session another worker ends meanwhile is answered; its changes end too.
    """
    requests: list[server.Request] = []
    web = late_web(count)
    late_get(web)
    web.site.resource.render_GET = count_and_keep(requests)
    exchange = web.begin()
    web.store.run()
    result_of(web.store.behind.delete(web.uid))
    requests[0].write(b"x")
    requests[0].finish()
    web.store.run()
    assert exchange.response.code == 200
    assert web.site.sessions == {}


@pytest.mark.parametrize("first", [True, False])
def test_fault_4_of_several_cookies_the_one_of_a_session_counts(first: bool) -> None:
    """
    Fault 4: a browser may have another cookie of the same name, of another path or domain.
    """
    web = Web(count)
    assert web.get().body == b"1"
    foreign = b"somebody's"
    uid = web.uid
    both = (foreign, uid) if first else (uid, foreign)
    web.cookies[COOKIE] = both[0] + b"; " + COOKIE + b"=" + both[1]
    response = web.get()
    assert response.body == b"2"
    assert response.cookies == {}

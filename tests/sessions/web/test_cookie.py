"""
The cookie that carries a session's id.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.web import server

from stickyd.sessions.answers import result_of
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.web.cookie import SessionCookie
from tests.sessions.web.web import COOKIE, SECURE_COOKIE, Web, count

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[[Any], Any]


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


def test_cookie_by_its_name() -> None:
    """
    A name of one's own is that of both cookies; twisted.web's name has twisted.web's for TLS.
    """
    assert SessionCookie.named("TWISTED_SESSION") == SessionCookie()
    cookie = SessionCookie.named("shop")
    assert (cookie.name, cookie.secure_name) == (b"shop", b"shop_SECURE")


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

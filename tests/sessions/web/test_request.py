"""
When a request saves its session, and what happens if that fails.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import capturedLogs
from twisted.web import server

from stickyd.errors import NotCarriable
from stickyd.sessions.answers import result_of
from stickyd.sessions.interfaces import ISessionData
from tests.sessions.web.web import COOKIE, Web, count, count_and_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[[Any], Any]


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


def test_page_without_session() -> None:
    """
    A page that asks for no session sets no cookie and makes none.
    """
    web = Web(lambda request: b"hello")
    response = web.get()
    assert (response.code, response.body, response.cookies) == (200, b"hello", {})
    assert len(web.store) == 0


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

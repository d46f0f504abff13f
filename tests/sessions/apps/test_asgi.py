"""
Sessions of ASGI applications, of one worker.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.errors import (
    NotCarriable,
    SessionTooLarge,
    StoreAway,
)
from stickyd.sessions.apps.asgi_middleware import with_sessions
from stickyd.sessions.apps.attributes import app_cookie
from tests.hosting import run
from tests.sessions.apps.asgi_client import Browser, Talk
from tests.sessions.apps.asgi_views import count, ignore, look, serving
from tests.sessions.apps.workers import SharedStore, a_clock, a_worker, alone

if TYPE_CHECKING:
    from stickyd.sessions.apps.asgi_session import AsgiSession


def test_counts_for_each_client(loop: asyncio.AbstractEventLoop) -> None:
    """
    A session begins with its first change, and is there for the next request, of its own client
    only; who has none gets no cookie for looking.
    """
    place = alone()
    counting, looking = serving(place, count), serving(place, look)

    async def story() -> None:
        one, other = Browser(), Browser()
        assert (await one.get(looking)).values(b"set-cookie") == []
        assert not one.cookies
        assert [(await one.get(counting)).body for _ in range(3)] == [b"1", b"2", b"3"]
        assert (await other.get(counting)).body == b"1"
        seen = await one.get(looking)
        assert seen.body == b'{"hits": 3}'
        assert seen.values(b"set-cookie") == []
        assert seen.values(b"vary") == [b"Cookie"]
        assert (await one.get(serving(place, ignore))).fields == []

    run(loop, story())


def test_cookie(loop: asyncio.AbstractEventLoop) -> None:
    """
    The cookie has the attributes that were asked for; over TLS another name, and Secure.
    """
    place = alone()
    plain = serving(place, count, name="sid", path="/shop", domain="example.com", max_age=60)

    async def story() -> None:
        browser = Browser()
        (line,) = (await browser.get(plain)).values(b"set-cookie")
        uid = browser.cookies[b"sid"].decode()
        assert line.decode() == (
            f"sid={uid}; path=/shop; domain=example.com; Max-Age=60; httponly; samesite=lax"
        )
        tls = Browser("https", dict(browser.cookies))
        (line,) = (await tls.get(plain)).values(b"set-cookie")
        assert line.startswith(b"sid_SECURE=")
        assert b"; secure" in line
        # An id that was sent in the clear is worth nothing with TLS.
        planted = Browser("https", {b"sid_SECURE": browser.cookies[b"sid"]})
        assert (await planted.get(plain)).body == b"1"
        strict = serving(place, count, same_site="none", https_only=True, http_only=False)
        (line,) = (await Browser().get(strict)).values(b"set-cookie")
        assert line.endswith(b"; path=/; secure; samesite=none")

    run(loop, story())


@pytest.mark.parametrize(
    "value", [b"", b"x", b"../../etc/passwd", b"0" * 129, b"sha256:" + b"0" * 64, b"0" * 32]
)
def test_damaged_cookie_is_no_session(value: bytes, loop: asyncio.AbstractEventLoop) -> None:
    """
    A cookie that names no session is answered as none, and never taken for a new one's id.
    """
    place = alone()

    async def story() -> None:
        browser = Browser(cookies={b"session": value})
        answer = await browser.get(serving(place, look))
        assert (answer.status, answer.body) == (200, b"{}")
        assert (await browser.get(serving(place, count))).body == b"1"
        assert browser.cookies[b"session"] != value

    run(loop, story())


def test_it_is_told_whose_session_ends(loop: asyncio.AbstractEventLoop) -> None:
    """
    Where workers keep the clients that they know, it is told whose session was used, whose was
    deleted, and who got another one in its place.
    """
    place = alone()
    told: list[tuple[bytes, bool]] = []
    place.registry.watch_clients(lambda client, is_there: told.append((client, is_there)))

    async def flush(session: AsgiSession) -> None:
        session.flush()

    async def renew(session: AsgiSession) -> None:
        session.flush()
        session["n"] = 1

    async def use_up(session: AsgiSession) -> None:
        del session["n"]

    async def clear(session: AsgiSession) -> None:
        session.clear()

    async def story() -> None:
        browser = Browser(client=b"c")
        await browser.get(serving(place, count))
        assert told == [(b"c", True)]
        await browser.get(serving(place, renew))
        assert [there for _, there in told[1:]][-2:] == [False, True]
        await browser.get(serving(place, use_up))
        assert told[-1] == (b"c", True)
        for leave in (flush, clear):
            await browser.get(serving(place, count))
            await browser.get(serving(place, leave))
            assert told[-1] == (b"c", False)
        await Browser().get(serving(place, count))
        assert told[-1] == (b"c", False)

    run(loop, story())


def test_clearing_ends_it(loop: asyncio.AbstractEventLoop) -> None:
    """
    What is emptied is ended: the browser forgets the cookie, and the id is nobody's.
    """
    place = alone()

    async def clear(session: AsgiSession) -> str:
        session.clear()
        return "bye"

    async def flush(session: AsgiSession) -> str:
        session.flush()
        session["notice"] = "you have left"
        return "bye"

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))
        former = dict(browser.cookies)
        answer = await browser.get(serving(place, clear))
        assert b"Max-Age=0" in answer.values(b"set-cookie")[0]
        assert (await Browser(cookies=former).get(serving(place, look))).body == b"{}"
        await browser.get(serving(place, count))
        former = dict(browser.cookies)
        await browser.get(serving(place, flush))
        assert browser.cookies != former
        assert (await browser.get(serving(place, look))).body == b'{"notice": "you have left"}'
        assert (await Browser(cookies=former).get(serving(place, look))).body == b"{}"

    run(loop, story())


def test_store_that_is_away(loop: asyncio.AbstractEventLoop) -> None:
    """
    A request whose session cannot be loaded or saved gets 503, with the time to come again; one
    without a session is served.
    """
    clock = a_clock()
    store = SharedStore(clock)
    place = a_worker(store, clock)

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))
        store.broken = StoreAway("no answer", 7)
        cookies = dict(browser.cookies)
        assert (await Browser().get(serving(place, look))).status == 200
        for asking in (browser, Browser()):
            answer = await asking.get(serving(place, count))
            assert (answer.status, answer.values(b"retry-after")) == (503, [b"7"])
            assert answer.values(b"set-cookie") == []

        async def transact(session: AsgiSession) -> Any:
            return await session.transact(lambda data: data.update(n=1))

        assert (await Browser().get(serving(place, transact))).status == 503
        store.broken = None
        assert (await Browser(cookies=cookies).get(serving(place, look))).body == b'{"hits": 1}'

    run(loop, story())


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda session: session.update({"k": object()}), NotCarriable),
        (lambda session: session.update({1: "x"}), NotCarriable),
        (lambda session: session.setdefault("list", []).append(object()), NotCarriable),
        (lambda session: session.update(text="x" * 300_000), SessionTooLarge),
    ],
)
def test_fault_of_the_application(
    wrong: Any, error: type[Exception], loop: asyncio.AbstractEventLoop
) -> None:
    """
    What cannot be kept is the application's own error, which its server shows whole; the
    session stays as it was.
    """
    place = alone()

    async def view(session: AsgiSession) -> str:
        wrong(session)
        return "saved"

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))
        with pytest.raises(error):
            await browser.get(serving(place, view))
        assert (await browser.get(serving(place, look))).body == b'{"hits": 1}'

    run(loop, story())


def test_round_trips(loop: asyncio.AbstractEventLoop) -> None:
    """
    A change is one write; a request that changes nothing writes nothing; one without a cookie
    asks nothing.
    """
    clock = a_clock()
    store = SharedStore(clock)
    place = a_worker(store, clock)

    async def story() -> None:
        browser = Browser()
        await Browser().get(serving(place, look))
        assert not store.calls
        await browser.get(serving(place, count))
        assert store.calls == {"save": 1}
        await browser.get(serving(place, count))
        assert store.calls.get("save") == 2
        await browser.get(serving(place, look))
        assert store.calls.get("save") == 2

    run(loop, story())


def test_changes_after_the_response_has_begun(loop: asyncio.AbstractEventLoop) -> None:
    """
    What is changed while the body is sent is saved before its end, and what a background task
    changes when it ends; a new id comes too late.
    """
    place = alone()

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        session["sent"] = 1
        with pytest.raises(RuntimeError, match="begun"):
            session.regenerate()
        await send({"type": "http.response.body", "body": b"b"})
        session["after"] = 1

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))
        answer = await browser.get(with_sessions(streaming, place, app_cookie()))
        assert (answer.body, answer.complete) == (b"ab", True)
        assert json.loads((await browser.get(serving(place, look))).body) == {
            "hits": 1,
            "sent": 1,
            "after": 1,
        }

    run(loop, story())


def test_request_that_fails_changes_nothing(loop: asyncio.AbstractEventLoop) -> None:
    """
    Of a request that ends with an error, without a response, nothing is saved.
    """
    place = alone()

    async def fail(session: AsgiSession) -> None:
        session["hits"] = 99
        raise ZeroDivisionError

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))
        with pytest.raises(ZeroDivisionError):
            await browser.get(serving(place, fail))
        assert (await browser.get(serving(place, look))).body == b'{"hits": 1}'
        assert not place.registry.busy()

    run(loop, story())


def test_session_of_another_worker(loop: asyncio.AbstractEventLoop) -> None:
    """
    A request for a session that has been carried to another worker gets 503, and a WebSocket
    is closed: neither gets another session, which would replace it.
    """
    place = alone()

    async def story() -> None:
        browser = Browser(identity=b"key")
        await browser.get(serving(place, count))
        assert len(list(place.registry.export_batches())) == 1
        answer = await browser.get(serving(place, look))
        assert (answer.status, answer.values(b"retry-after")) == (503, [b"1"])
        talk = Talk(browser, serving(place, look))
        assert (await talk.heard())["type"] == "websocket.close"

    run(loop, story())


def test_is_held_until_the_response(loop: asyncio.AbstractEventLoop) -> None:
    """
    A session that a request uses is not carried away before it is saved, and knows its client.
    """
    place = alone()

    async def view(session: AsgiSession) -> str:
        (live,) = place.registry.busy()
        assert live.key == b"key"
        assert list(place.registry.export_batches()) == []
        session["late"] = 1
        return "ok"

    async def story() -> None:
        browser = Browser(identity=b"other")
        await browser.get(serving(place, count))
        browser.identity = b"key"
        assert (await browser.get(serving(place, view))).status == 200
        (chunk,) = place.registry.export_batches()
        assert b"late" in chunk

    run(loop, story())


def test_client_of_an_unused_session_is_noted(loop: asyncio.AbstractEventLoop) -> None:
    """
    A session knows where its client belongs by now, though the request does not use it.
    """
    place = alone()

    async def story() -> None:
        browser = Browser(identity=b"other")
        await browser.get(serving(place, count))
        browser.identity = b"key"
        assert (await browser.get(serving(place, ignore))).fields == []
        live = await place.ask(place.registry.load, browser.cookies[b"session"])
        assert (live.key, dict(live.data)) == (b"key", {"hits": 1})

    run(loop, story())


def test_changes_while_it_is_saved(loop: asyncio.AbstractEventLoop) -> None:
    """
    What another task of the request changes while the store writes is saved too, by the next
    save; nothing of it is taken back.
    """
    clock = a_clock()
    place = a_worker(SharedStore(clock), clock)

    async def view(session: AsgiSession) -> str:
        session["list"] = [1]
        session["a"] = 1
        saving = asyncio.ensure_future(session.save())
        await asyncio.sleep(0)
        session["list"].append(2)
        session["a"] = 2
        session["b"] = 1
        await saving
        assert dict(session) == {"list": [1, 2], "a": 2, "b": 1}
        return "ok"

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, view))
        answer = await browser.get(serving(place, look))
        assert json.loads(answer.body) == {"list": [1, 2], "a": 2, "b": 1}

    run(loop, story())

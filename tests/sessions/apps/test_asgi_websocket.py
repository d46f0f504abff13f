"""
Sessions of WebSockets.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.errors import (
    NoSuchSession,
)
from stickyd.sessions.apps import asgi_exchange
from stickyd.sessions.apps.asgi_middleware import with_sessions
from stickyd.sessions.apps.attributes import app_cookie
from tests.hosting import run
from tests.sessions.apps.asgi_client import Browser, Talk
from tests.sessions.apps.asgi_views import count, look, serving
from tests.sessions.apps.workers import alone

if TYPE_CHECKING:
    pass


def test_websocket(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A WebSocket saves when it is told to, now and then, and when it is closed; it sees what
    others have done when it saves or reloads; and its session may be carried away meanwhile.
    """
    place = alone()
    problems: list[BaseException] = []

    async def chat(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            match message["text"].split():
                case ["set", key]:
                    session[key] = "x"
                case ["save"]:
                    await session.save()
                case ["reload"]:
                    try:
                        await session.reload()
                    except (RuntimeError, NoSuchSession) as problem:
                        problems.append(problem)
            await send({"type": "websocket.send", "text": json.dumps(dict(session))})

    talking = with_sessions(chat, place, app_cookie())

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))

        async def stored() -> Any:
            return json.loads((await browser.get(serving(place, look))).body)

        talk = Talk(browser, talking)
        assert (await talk.heard())["type"] == "websocket.accept"
        assert not place.registry.busy()
        await talk.say("set a")
        assert json.loads((await talk.heard())["text"]) == {"hits": 1, "a": "x"}
        assert await stored() == {"hits": 1}
        await talk.say("reload")
        await talk.heard()
        assert isinstance(problems.pop(), RuntimeError)
        await talk.say("save")
        await talk.heard()
        assert await stored() == {"hits": 1, "a": "x"}
        await browser.get(serving(place, count))
        await talk.say("reload")
        assert json.loads((await talk.heard())["text"]) == {"hits": 2, "a": "x"}
        monkeypatch.setattr(asgi_exchange, "WEBSOCKET_SECONDS", 0.0)
        await talk.say("set b")
        await talk.heard()
        assert await stored() == {"hits": 2, "a": "x", "b": "x"}
        monkeypatch.setattr(asgi_exchange, "WEBSOCKET_SECONDS", 1e9)
        await talk.say("set c")
        await talk.heard()
        await talk.close()
        assert await stored() == {"hits": 2, "a": "x", "b": "x", "c": "x"}
        assert not place.registry.busy()

    run(loop, story())


def test_websocket_sets_the_cookie_when_it_is_accepted(loop: asyncio.AbstractEventLoop) -> None:
    """
    A session that begins before a WebSocket is accepted is its client's.
    """
    place = alone()

    async def greet(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["greeted"] = True
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"vary", b"accept, cookie")]})
        await receive()

    async def story() -> None:
        browser = Browser()
        talk = Talk(browser, with_sessions(greet, place, app_cookie()))
        accepted = await talk.heard()
        assert [name for name, _ in accepted["headers"]] == [b"vary", b"set-cookie"]
        await talk.close()
        assert (await browser.get(serving(place, look))).body == b'{"greeted": true}'

    run(loop, story())

"""
authlib's OAuth client, which keeps what it must not forget between two requests in the session.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from authlib.integrations.base_client.errors import MismatchingStateError
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from stickyd.sessions.apps.asgi_middleware import with_sessions
from stickyd.sessions.apps.attributes import app_cookie
from tests.hosting import run
from tests.sessions.apps.asgi_client import Browser
from tests.sessions.apps.workers import two_workers

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request


async def _token(request: Request) -> JSONResponse:
    form = parse_qs((await request.body()).decode())
    assert form["code"] == ["the code"]
    assert form["code_verifier"][0]
    return JSONResponse({"access_token": "the token", "token_type": "Bearer"})


provider = Starlette(routes=[Route("/token", _token, methods=["POST"])])


def a_client() -> Any:
    """
    Make a client of the provider.
    """
    oauth = OAuth()
    oauth.register(
        "provider",
        client_id="us",
        client_secret="a secret",
        authorize_url="https://provider.example/authorize",
        access_token_url="https://provider.example/token",
        client_kwargs={
            "transport": httpx2.ASGITransport(app=provider),
            "code_challenge_method": "S256",
        },
    )
    return oauth.provider


def an_application() -> Starlette:
    """
    Make an application whose users log in at the provider.
    """
    client = a_client()

    async def login(request: Request) -> Any:
        return await client.authorize_redirect(request, "https://us.example/callback")

    async def callback(request: Request) -> JSONResponse:
        token = await client.authorize_access_token(request)
        request.session["token"] = token["access_token"]
        return JSONResponse(sorted(request.session))

    return Starlette(routes=[Route("/login", login), Route("/callback", callback)])


def test_login_in_two_workers(loop: asyncio.AbstractEventLoop) -> None:
    """
    A login that begins in one worker ends in another one; one with a state that is nobody's
    fails.
    """
    first, second = (
        with_sessions(an_application(), place, app_cookie()) for place in two_workers()
    )

    async def story() -> None:
        browser = Browser()
        redirect = await browser.get(first, "/login")
        assert redirect.status == 302
        (location,) = redirect.values(b"location")
        asked = parse_qs(urlsplit(location.decode()).query)
        state = asked["state"][0]
        answer = await browser.get(second, "/callback", f"code=the+code&state={state}")
        assert answer.status == 200
        assert json.loads(answer.body) == ["token"]
        with pytest.raises(MismatchingStateError):
            await Browser().get(second, "/callback", f"code=the+code&state={state}")

    run(loop, story())

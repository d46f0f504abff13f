"""
Applications that keep who has logged in in a cookie named ``session``, as they do by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask
from flask import session as flask_session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from twisted.web.resource import Resource
from typing_extensions import override

from stickyd.interfaces import ISessionData

if TYPE_CHECKING:
    from starlette.requests import Request
    from twisted.web.server import Request as TwistedRequest

wsgi = Flask(__name__)
wsgi.secret_key = "the application's own secret"


@wsgi.get("/login")
def login() -> str:
    """
    Log in.
    """
    flask_session["user"] = "alice"
    return "hello"


@wsgi.get("/")
def home() -> str:
    """
    Tell who has logged in.
    """
    return str(flask_session.get("user", "nobody"))


async def _login(request: Request) -> PlainTextResponse:
    request.session["user"] = "alice"
    return PlainTextResponse("hello")


async def _home(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.session.get("user", "nobody"))


asgi = Starlette(
    routes=[Route("/login", _login), Route("/", _home)],
    middleware=[Middleware(SessionMiddleware, secret_key="the application's own secret")],
)


class _Site(Resource):
    """
    The same, in twisted.web's session.
    """

    isLeaf = True

    @override
    def render(self, request: TwistedRequest) -> bytes:
        data: Any = request.getSession(ISessionData)
        if request.path == b"/login":
            data["user"] = "alice"
            return b"hello"
        return str(data.get("user", "nobody")).encode()


resource = _Site()

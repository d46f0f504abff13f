"""
Applications with sessions, by stickyd and by what others use: ``/none`` has no session, ``/read``
reads it, ``/change`` counts up in it.

The variable ``SESSIONS`` says whose sessions: ``stickyd`` or ``peers``; ``REDIS`` is the URL of
the peers'.
"""

from __future__ import annotations

import os
from typing import Any

PEERS = os.environ.get("SESSIONS") == "peers"
REDIS = os.environ.get("REDIS", "")


def starlette_app() -> Any:
    """
    Make the application of Starlette; the peers' sessions are those of starsessions.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.session.get("n", 0)))

    async def change(request: Request) -> PlainTextResponse:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse(str(request.session["n"]))

    async def nothing(request: Request) -> PlainTextResponse:
        return PlainTextResponse("0")

    middleware: list[Any]
    if PEERS:
        from starsessions import (  # type: ignore[import-untyped, unused-ignore]
            SessionAutoloadMiddleware,
            SessionMiddleware,
        )
        from starsessions.stores.redis import (  # type: ignore[import-untyped, unused-ignore]
            RedisStore,
        )

        store = RedisStore(REDIS, prefix="star:")
        middleware = [
            Middleware(SessionMiddleware, store=store, cookie_https_only=False, lifetime=1800),
            Middleware(SessionAutoloadMiddleware),
        ]
    else:
        from stickyd.asgi import SessionMiddleware as Ours

        middleware = [Middleware(Ours)]
    routes = [Route("/read", read), Route("/change", change)]
    counting = Starlette(routes=routes, middleware=middleware)
    plain = Starlette(routes=[Route("/none", nothing)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await (plain if scope["path"] == "/none" else counting)(scope, receive, send)

    return app


def flask_app() -> Any:
    """
    Make the application of Flask; the peers' sessions are those of Flask-Session.
    """
    from flask import Flask, session

    app = Flask(__name__)
    if PEERS:
        from flask_session import (  # type: ignore[import-untyped, unused-ignore]
            Session,
        )
        from redis import Redis

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(REDIS))
        Session(app)
    else:
        from stickyd.flask import SessionInterface

        app.session_interface = SessionInterface()

    @app.get("/read")
    def read() -> str:
        return str(session.get("n", 0))

    @app.get("/change")
    def change() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    @app.get("/none")
    def nothing() -> str:
        return "0"

    return app

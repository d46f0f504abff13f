"""
Applications that count in a session of ours: ``/count`` changes it, ``/add`` by a transaction,
``/wait`` after a while, ``/look`` shows it, ``/logout`` ends it, ``/renew`` begins another one.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from stickyd.asgi import SessionMiddleware as AsgiMiddleware
from stickyd.flask import SessionInterface
from stickyd.wsgi import SessionMiddleware as WsgiMiddleware
from tests.system.frameworks.waiting import wait_at_gate

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.websockets import WebSocket


def add(data: Any) -> None:
    """
    Count.
    """
    data["n"] = data.get("n", 0) + 1


def told(session: Any) -> dict[str, Any]:
    """
    What is in a session, and who says so.
    """
    return {"pid": os.getpid(), **session}


def renew(session: Any) -> None:
    """
    End the session, and begin another one.
    """
    session.flush()
    add(session)


#: What only changes the session.
CHANGES = {"/count": add, "/logout": lambda session: session.flush(), "/renew": renew}


def do(path: str, session: Any) -> dict[str, Any]:
    """
    Do what a path says, in a thread.
    """
    if path == "/wait":
        session["waited"] = True
        wait_at_gate()
    elif path == "/add":
        session.transact(add)
    elif path in CHANGES:
        CHANGES[path](session)
    return told(session)


async def _answer(request: Request) -> JSONResponse:
    session = request.session
    match request.url.path:
        case "/wait":
            session["waited"] = True
            await asyncio.to_thread(wait_at_gate)
        case "/add":
            await session.transact(add)  # type: ignore[attr-defined]  # it is one of ours
        case path if path in CHANGES:
            CHANGES[path](session)
    return JSONResponse(told(session))


async def _talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        websocket.session["said"] = text
        await websocket.session.save()  # type: ignore[attr-defined]  # it is one of ours
        await websocket.send_text(f"{os.getpid()} {text}")


_ROUTES = [
    *(Route(path, _answer) for path in (*CHANGES, "/add", "/wait", "/look")),
    WebSocketRoute("/ws", _talk),
]

#: Given sessions by the host.
plain = Starlette(routes=_ROUTES)

starlette = Starlette(routes=_ROUTES, middleware=[Middleware(AsgiMiddleware)])

flask_app = flask.Flask(__name__)
flask_app.session_interface = SessionInterface()


@flask_app.get("/<name>")
def answer(name: str) -> dict[str, Any]:
    """
    Answer.
    """
    return do(f"/{name}", flask.session)


def _wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = json.dumps(do(environ["PATH_INFO"], environ["stickyd.session"])).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


wsgi = WsgiMiddleware(_wsgi)

"""
Applications that keep their clients' state in a dict, as programs do that no one here wrote: a
resource, an ASGI and a WSGI application that say the same.

A client begins without an id, gets one in ``X-Session``, and sends it with each request; its
requests are counted.  An id that is not known is answered 404: that is a session lost.
``/release`` says that the application is done with the client.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from twisted.web.resource import Resource
from typing_extensions import override

import stickyd
from stickyd.interfaces import ISessionData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.web.server import Request

#: What is kept: the requests of each client.
COUNTS: dict[str, int] = {}


def count(name: str | None) -> tuple[int, str, bytes]:
    """
    Count a request.

    :return: the status, the id, and what is answered.
    """
    if name is None:
        name = uuid.uuid4().hex
        COUNTS[name] = 0
    elif name not in COUNTS:
        return 404, name, b"no such session"
    COUNTS[name] += 1
    told = {"pid": os.getpid(), "count": COUNTS[name], "version": os.environ.get("VERSION", "")}
    return 200, name, json.dumps(told).encode()


class Counted(Resource):
    """
    The resource.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        if request.path == b"/release":
            stickyd.release_client(request)
            return b""
        name = request.getHeader("x-session")
        status, name, body = count(name)
        request.setResponseCode(status)
        request.setHeader("x-session", name)
        return body


site = Counted()


class Visited(Resource):
    """
    Counts in a session of ours: ``/logout`` ends it, ``/renew`` begins another one, ``/release``
    says that the application is done with the client, whose session goes on.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        if request.path == b"/release":
            stickyd.release_client(request)
        elif request.path != b"/count":
            request.getSession().expire()
        if request.path == b"/logout":
            return json.dumps({"pid": os.getpid()}).encode()
        data = request.getSession(ISessionData)
        data["n"] = data.get("n", 0) + 1
        return json.dumps({"pid": os.getpid(), "n": data["n"]}).encode()


session_site = Visited()


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """
    The ASGI application; a WebSocket says after each message who has it, and its client is released
    at its end.
    """
    if scope["type"] == "lifespan":
        raise RuntimeError("there is none")
    headers = dict(scope["headers"])
    name = headers[b"x-session"].decode() if b"x-session" in headers else None
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{os.getpid()}"})
        stickyd.release_client(dict(scope))
        return
    if scope["path"] == "/release":
        stickyd.release_client(scope)
        status, name, body = 200, None, b""
    else:
        status, name, body = count(name)
    fields = [(b"content-length", b"%d" % len(body))]
    if name is not None:
        fields.append((b"x-session", name.encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """
    The WSGI application.
    """
    name = environ.get("HTTP_X_SESSION")
    if environ["PATH_INFO"] == "/release":
        stickyd.release_client(environ)
        status, name, body = 200, None, b""
    else:
        status, name, body = count(name)
    fields = [("Content-Length", str(len(body)))] + [("X-Session", name or "")] * bool(name)
    start_response(f"{status} said", fields)
    return [body]

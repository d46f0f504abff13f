"""
Applications of each kind that tell, in JSON, who a client seems to be, and mint ids.

``/mint`` sets a new id in the header ``X-Id`` and the cookie ``id``; ``/claim`` claims one
that is told in the body alone; ``/minted`` tells one of :func:`stickyd.mint` there; ``/large``
answers at length.  ``/visits`` of the resource tells, as ``id``, how often the session has been
there.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import stickyd
from stickyd.interfaces import ISessionData
from tests.system.apps import own_slot

#: Characters more than a transport or a socket holds.
LARGE = 3_000_000

_numbers = itertools.count()


def new_id() -> str:
    """
    Make an id that no other worker makes.
    """
    return f"id-{os.getpid()}-{next(_numbers)}"


def told(host: object, secure: bool, identifier: str | int | None, path: str = "") -> bytes:
    """
    Say what the application sees.
    """
    seen = {"slot": own_slot(), "host": host, "secure": secure, "id": identifier}
    if path == "/large":
        seen["padding"] = "p" * LARGE
    return json.dumps(seen).encode()


class Teller(Resource):
    """
    The one of twisted.web.
    """

    isLeaf = True

    def render(self, request: Any) -> Any:
        """
        Answer any method.
        """
        if request.path == b"/claim":
            identifier = new_id()
            Deferred.fromCoroutine(self._claim(request, identifier))
            return NOT_DONE_YET
        seen = request.getHeader("X-Id")
        if request.path == b"/mint":
            seen = new_id()
            request.setHeader("X-Id", seen)
            request.addCookie("id", seen, path="/")
        elif request.path == b"/minted":
            seen = stickyd.mint("room-")
        elif request.path == b"/visits":
            data = request.getSession(ISessionData)
            seen = data["visits"] = data.get("visits", 0) + 1
        host = getattr(request.getClientAddress(), "host", None)
        return told(host, request.isSecure(), seen, request.path.decode())

    async def _claim(self, request: Any, identifier: str) -> None:
        await stickyd.claim(identifier)
        request.write(told(None, request.isSecure(), identifier))
        request.finish()


resource = Teller()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    The one of ASGI, which speaks WebSocket too.
    """
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    fields = dict(scope["headers"])
    seen = fields.get(b"x-id", b"").decode() or None
    secure = scope["scheme"] in ("https", "wss")
    host = scope["client"][0] if scope["client"] else None
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "headers": []})
        await send({"type": "websocket.send", "text": told(host, secure, seen).decode()})
        await receive()
        return
    headers = [(b"content-type", b"application/json")]
    if scope["path"] == "/mint":
        seen = new_id()
        headers.append((b"x-id", seen.encode()))
        headers.append((b"set-cookie", f"id={seen}; Path=/".encode()))
    elif scope["path"] == "/minted":
        seen = stickyd.mint("room-")
    elif scope["path"] == "/claim":
        seen = new_id()
        await stickyd.claim(seen)
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told(host, secure, seen, scope["path"])})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """
    The one of WSGI.
    """
    environ["wsgi.input"].read()
    seen = environ.get("HTTP_X_ID")
    headers = [("Content-Type", "application/json")]
    if environ["PATH_INFO"] == "/mint":
        seen = new_id()
        headers += [("X-Id", seen), ("Set-Cookie", f"id={seen}; Path=/")]
    elif environ["PATH_INFO"] == "/minted":
        seen = stickyd.mint("room-")
    elif environ["PATH_INFO"] == "/claim":
        seen = new_id()
        stickyd.claim(seen).wait()
    start_response("200 OK", headers)
    secure = environ["wsgi.url_scheme"] == "https"
    return [told(environ["REMOTE_ADDR"], secure, seen, environ["PATH_INFO"])]

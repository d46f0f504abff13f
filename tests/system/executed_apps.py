"""
Applications that note each request that they execute; ``/executed`` tells.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from twisted.web.resource import Resource
from typing_extensions import override

if TYPE_CHECKING:
    from twisted.web.server import Request

#: Method, path and length of the body of each, as this worker has executed them.
executed: list[tuple[str, str, int]] = []


def answer(method: str, path: str, body: bytes) -> bytes:
    """
    Note a request, unless it asks for those.
    """
    if path != "/executed":
        executed.append((method, path, len(body)))
    return json.dumps(executed).encode()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    Answer as an ASGI application.
    """
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    told = answer(scope["method"], scope["path"], body)
    fields = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": told})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """
    Answer as a WSGI application.
    """
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    told = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], body)
    start_response("200 OK", [("Content-Length", str(len(told)))])
    return [told]


class _Executed(Resource):
    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        path = request.path.decode()
        return answer(request.method.decode(), path, cast("Any", request.content).read())


def resource() -> Resource:
    """
    Make the resource.
    """
    return _Executed()

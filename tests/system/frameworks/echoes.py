"""
Applications of each kind that give back what a request brought, so that a mix-up shows.

The answer says in its head who answers (``X-Slot``), whom (``X-Host``, and ``X-Client`` and
``X-Nonce`` as the request had them) and what of the body has come (``X-Received``, a digest).
Its body is made of the nonce, ``?size=N`` bytes of it, in chunks for ``&chunked=1``.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.system.apps import own_slot

#: Bytes of a piece in which a body is read or written.
PIECE = 60_000


def content_of(nonce: str, size: int) -> bytes:
    """
    The bytes that belong to a nonce, and to no other.
    """
    return hashlib.shake_128(nonce.encode()).digest(size)


def pieces_of(content: bytes) -> list[bytes]:
    """
    The same in pieces.
    """
    return [content[start : start + PIECE] for start in range(0, len(content), PIECE)]


def wanted(query: str, nonce: str) -> tuple[bytes, bool]:
    """
    What a request asks for: the content, and whether in chunks.
    """
    fields = parse_qs(query)
    return content_of(nonce, int(fields["size"][0])), fields["chunked"][0] == "1"


def said(host: object, client: str, nonce: str, received: str) -> list[tuple[str, str]]:
    """
    The fields of an answer.
    """
    return [
        ("X-Slot", str(own_slot())),
        ("X-Host", str(host)),
        ("X-Client", client),
        ("X-Nonce", nonce),
        ("X-Received", received),
    ]


class Echo(Resource):
    """
    The one of twisted.web.
    """

    isLeaf = True

    def render(self, request: Any) -> Any:
        """
        Answer any method.
        """
        digest = hashlib.sha256()
        while piece := request.content.read(PIECE):
            digest.update(piece)
        client = request.getHeader("X-Client") or ""
        nonce = request.getHeader("X-Nonce") or ""
        host = getattr(request.getClientAddress(), "host", None)
        for name, value in said(host, client, nonce, digest.hexdigest()):
            request.setHeader(name, value)
        content, chunked = wanted(request.uri.decode().partition("?")[2], nonce)
        if not chunked:
            return content
        for piece in pieces_of(content):
            request.write(piece)
        request.finish()
        return NOT_DONE_YET


resource = Echo()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    The one of ASGI.
    """
    if scope["type"] == "lifespan":
        raise NotImplementedError
    digest = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    fields = {name: value.decode() for name, value in scope["headers"]}
    nonce = fields[b"x-nonce"]
    lines = said(scope["client"][0], fields[b"x-client"], nonce, digest.hexdigest())
    headers = [(name.lower().encode(), value.encode()) for name, value in lines]
    content, chunked = wanted(scope["query_string"].decode(), nonce)
    if not chunked:
        headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces_of(content):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """
    The one of WSGI.
    """
    digest = hashlib.sha256()
    while piece := environ["wsgi.input"].read(PIECE):
        digest.update(piece)
    client, nonce = environ["HTTP_X_CLIENT"], environ["HTTP_X_NONCE"]
    headers = said(environ["REMOTE_ADDR"], client, nonce, digest.hexdigest())
    content, chunked = wanted(environ["QUERY_STRING"], nonce)
    if not chunked:
        headers.append(("Content-Length", str(len(content))))
    write = start_response("200 OK", headers)
    if not chunked:
        return pieces_of(content)
    # What is returned and small is sent with its length; what is written leaves at once.
    for piece in pieces_of(content):
        write(piece)
    return []

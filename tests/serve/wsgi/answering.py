"""
One request to a WSGI application, and all that it answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


Environ = dict[str, Any]
StartResponse = Any
Application = Any


def answered(application: Application, request: str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> bytes:
    """
    What a client gets that shuts its side after its request, without the fields of ours.
    """
    with serving(application) as scene:

        async def go() -> bytes:
            import socket

            client = scene.visit()
            await client.send(request)
            client.socket.shutdown(socket.SHUT_WR)
            return await client.rest()

        answer: bytes = scene.run(go)
    head, end, body = answer.partition(b"\r\n\r\n")
    lines = [
        line
        for line in head.split(b"\r\n")
        if not (line.startswith(b"Server: Tw") or line.endswith(b" GMT"))
    ]
    return b"\r\n".join(lines) + end + body


def says(
    pieces: Iterable[bytes], status: str = "200 OK", *headers: tuple[str, str]
) -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    """
    An application.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, list(headers))
        return pieces

    return application


OK = b"HTTP/1.1 200 OK\r\n"

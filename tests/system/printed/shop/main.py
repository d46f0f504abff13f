"""
The shop for ASGI: tells scheme, host and client, and echoes over WebSockets.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def tell(request: Request) -> JSONResponse:
    """
    Tell how the request looks from here.
    """
    assert request.client is not None
    return JSONResponse(
        {
            "scheme": request.url.scheme,
            "host": request.headers["host"],
            "client": request.client.host,
        }
    )


async def echo(socket: WebSocket) -> None:
    """
    Say where the handshake came from, and then what the client says.
    """
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{socket.url.scheme} {text}")


app = Starlette(routes=[Route("/", tell), WebSocketRoute("/ws", echo)])

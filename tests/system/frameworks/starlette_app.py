"""
Starlette, with a lifespan and a WebSocket that echoes.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket


async def _home(request: Request) -> JSONResponse:
    assert request.client is not None
    return JSONResponse({"pid": request.state.pid, "host": request.client.host})


async def _boom(request: Request) -> JSONResponse:
    raise ValueError("boom")


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{os.getpid()} {text}")


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
    yield {"pid": os.getpid()}
    print("the lifespan ends")  # noqa: T201 - read from the server's log


@asynccontextmanager
async def _broken(app: Starlette) -> AsyncIterator[None]:
    if app is broken:
        raise RuntimeError("there is no database")
    yield


_ROUTES = [Route("/", _home), Route("/boom", _boom), WebSocketRoute("/ws", _echo)]

app = Starlette(routes=_ROUTES, lifespan=_lifespan)
broken = Starlette(lifespan=_broken)


def make_app() -> Starlette:
    """
    Make the application.
    """
    return Starlette(routes=_ROUTES, lifespan=_lifespan)

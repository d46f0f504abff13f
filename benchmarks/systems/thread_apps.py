"""
An application that uses threads, or answers in pieces: what :mod:`benchmarks.threads` asks.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

FOLDER = os.environ.get("FOLDER", ".")
PIECES = 4
PIECE = b"x" * 100


async def _plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def _function(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def _in_thread() -> Iterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


async def _in_turns() -> AsyncIterator[bytes]:
    for _ in range(PIECES):
        yield PIECE
        await asyncio.sleep(0)


async def _at_once() -> AsyncIterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


async def _generator(request: Request) -> StreamingResponse:
    return StreamingResponse(_in_thread())


async def _turns(request: Request) -> StreamingResponse:
    return StreamingResponse(_in_turns())


async def _stream(request: Request) -> StreamingResponse:
    return StreamingResponse(_at_once())


app = Starlette(
    routes=[
        Route("/plain", _plain),
        Route("/function", _function),
        Route("/generator", _generator),
        Route("/turns", _turns),
        Route("/stream", _stream),
        Mount("/files", StaticFiles(directory=FOLDER)),
    ]
)
"""
Starlette runs functions, the reading of files, and generators that are not asynchronous, in
threads of AnyIO.
"""

"""
Applications of FastAPI and Flask that keep their clients' state in a dict; they say what those of
:mod:`tests.system.keeping_apps` say, and FastAPI's has a stream of events that does not end.
"""

from __future__ import annotations

import asyncio
from itertools import count as numbers
from typing import TYPE_CHECKING

import fastapi
import flask
from fastapi.responses import StreamingResponse

import stickyd
from tests.system.keeping_apps import count

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

fastapi_app = fastapi.FastAPI()
flask_app = flask.Flask(__name__)


async def _events() -> AsyncIterator[str]:
    for number in numbers():
        yield f"data: {number}\n\n"
        await asyncio.sleep(0.1)


@fastapi_app.get("/events")
async def events() -> StreamingResponse:
    """
    Count, ten times a second.
    """
    return StreamingResponse(_events(), media_type="text/event-stream")


@fastapi_app.get("/release")
async def release(request: fastapi.Request) -> None:
    """
    Be done with the client.
    """
    stickyd.release_client(request)


@fastapi_app.get("/")
async def counted(request: fastapi.Request) -> fastapi.Response:
    """
    Count a request.
    """
    status, name, body = count(request.headers.get("x-session"))
    return fastapi.Response(body, status, {"X-Session": name})


@flask_app.get("/release")
def flask_release() -> str:
    """
    Be done with the client.
    """
    stickyd.release_client(flask.request)
    return ""


@flask_app.get("/")
def flask_counted() -> flask.Response:
    """
    Count a request.
    """
    status, name, body = count(flask.request.headers.get("X-Session"))
    return flask.Response(body, status, {"X-Session": name})

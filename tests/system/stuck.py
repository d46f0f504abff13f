"""
An ASGI application that gets stuck, each time at the gate: where it waits, in Python, and in C.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

from tests.system.gate import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """
    Answer ``/wait`` when the gate opens; at the other paths never come back, once it has.
    """
    assert scope["type"] == "http"
    await wait_at_gate()
    if scope["path"] == "/spin":
        spin()
    if scope["path"] == "/backtrack":
        backtrack()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def wait_at_gate() -> None:
    """
    Arrive, and return when the gate opens.
    """
    reader, writer = await asyncio.open_unix_connection(os.environ[VARIABLE])
    await reader.read()
    writer.close()


def spin() -> None:
    """
    Keep the event loop, but let other threads run.
    """
    while True:
        pass


def backtrack() -> None:
    """
    Keep the interpreter, as an extension in C may.
    """
    re.fullmatch(r"(a+)+b", "a" * 64)

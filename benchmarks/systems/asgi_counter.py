"""
The demonstration's answer as an ASGI application, for uvicorn and granian.

It accepts WebSockets too, and then waits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


class Counter:
    """
    Counts the requests of each client address.
    """

    def __init__(self) -> None:
        self._hits: dict[str, int] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, send)
        elif scope["type"] == "websocket":
            await self._hold(receive, send)
        else:
            await self._live(receive, send)

    async def _answer(self, scope: Message, send: Send) -> None:
        client = scope["client"][0]
        hits = self._hits[client] = self._hits.get(client, 0) + 1
        body = b"Worker %d session hits: %d\n" % (os.getpid(), hits)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _hold(self, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        while message["type"] != "websocket.disconnect":
            message = await receive()

    async def _live(self, receive: Receive, send: Send) -> None:
        message: Message = {"type": ""}
        while message["type"] != "lifespan.shutdown":
            message = await receive()
            await send({"type": message["type"] + ".complete"})


app = Counter()

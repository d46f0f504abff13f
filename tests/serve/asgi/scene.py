"""
An ASGI application in its host, and clients on real sockets.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.asgi.http import HttpProtocol
from tests.hosting import (
    Client,
    Visitors,
    end_abruptly,
    fired,
    run,
)

NO_LIFESPAN = AsgiOptions(lifespan="off")


class Application:
    """
    Answers as the path says, and writes down what it meets.

    :ivar gate: what ``/held`` waits for.
    """

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.events: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self.echo(receive, send)
            return
        await getattr(self, scope["path"].strip("/"), self.answer)(receive, send)

    async def echo(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.events.append(f"websocket {message['code']}")
                return
            await send({"type": "websocket.send", "text": message["text"]})

    async def answer(self, receive: Any, send: Any, body: bytes = b"hello") -> None:
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def held(self, receive: Any, send: Any) -> None:
        self.events.append("held")
        await self.gate.wait()
        await self.answer(receive, send)

    async def upload(self, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await self.answer(receive, send, b"%d" % size)

    async def poll(self, receive: Any, send: Any) -> None:
        await receive()
        self.events.append("polling")
        self.events.append((await receive())["type"])

    async def boom(self, receive: Any, send: Any) -> None:
        raise ValueError("boom")

    async def halfway(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("halfway")

    async def after(self, receive: Any, send: Any) -> None:
        await self.answer(receive, send)
        await self.gate.wait()
        self.events.append("done after")

    async def stubborn(self, receive: Any, send: Any) -> None:
        self.events.append("stubborn")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    async def flood(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            self.events.append("sent")
        await send({"type": "http.response.body", "body": b""})


class Scene:
    """
    An application in its host, started.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, visitors: Visitors, options: AsgiOptions
    ) -> None:
        self.loop = loop
        self.application = Application()
        self.host = AsgiHost(self.application, loop, "--asgi app", options)
        self.visitors = visitors
        run(loop, fired(self.host.start()))

    def visit(self, unread: bytes = b"", key: bytes = b"k") -> Client:
        return self.visitors.visit(self.host, unread, key)

    async def websocket(self) -> ClientConnection:
        """
        Open a WebSocket.
        """
        return await connect("ws://localhost/ws", sock=self.visit().socket)

    def protocol(self) -> HttpProtocol:
        """
        The one connection's.
        """
        connections: Any = self.host._state.connections
        (protocol,) = connections
        assert isinstance(protocol, HttpProtocol)
        return protocol

    def end(self) -> None:
        """
        Abort what is left, and stop.
        """
        run(self.loop, end_abruptly(self.host))


def options(**given: Any) -> pytest.MarkDecorator:
    """
    Give a scene options.
    """
    made = AsgiOptions(lifespan="off", **given)
    return pytest.mark.parametrize("scene", [made], indirect=True)

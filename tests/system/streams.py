"""
Applications with streams that go on until somebody ends them, and with answers that wait at a
gate.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from twisted.internet import protocol, task
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from tests.system.frameworks.waiting import wait_at_gate
from tests.system.gate import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.web.server import Request

EVENT = b"data: 1\n\n"

ANSWER = b"answer" * 500_000


class _Gate(protocol.Protocol):
    """
    Answers when the gate opens.
    """

    def __init__(self, request: Request) -> None:
        self._request = request

    @override
    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        self._request.write(ANSWER)
        self._request.finish()


class Streams(Resource):
    """
    ``/held`` waits at the gate; anything else is an event stream.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> int:
        from twisted.internet import reactor

        if request.path == b"/held":
            gate = UNIXClientEndpoint(reactor, os.environ[VARIABLE])
            connectProtocol(gate, _Gate(request))
            return NOT_DONE_YET
        request.setHeader(b"content-type", b"text/event-stream")
        ticks = task.LoopingCall(request.write, EVENT)
        request.notifyFinish().addErrback(lambda _: ticks.stop())
        ticks.start(0.05)
        return NOT_DONE_YET


resource = Streams()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    The same; of two kinds of event streams ``/deaf`` never asks whether its client is there.
    """
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/held":
        await receive()
        reader, writer = await asyncio.open_unix_connection(os.environ[VARIABLE])
        await reader.read()
        writer.close()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": ANSWER})
        return
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if scope["path"] == "/deaf":
        while True:
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
            await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """
    The same.
    """
    if environ["PATH_INFO"] == "/held":
        wait_at_gate()
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield ANSWER
        return
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    while True:
        yield EVENT
        threading.Event().wait(0.05)

"""
Applications whose clients are moved while they are connected.  These run in the workers.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.websocket import WebSocketResource
from typing_extensions import override

from stickyd.errors import SessionMoved
from stickyd.interfaces import ISessionData
from tests.system.apps import Held, Mirror, Spin, own_slot
from tests.system.gate import VARIABLE

if TYPE_CHECKING:
    from twisted.web.server import Request
    from twisted.web.websocket import WebSocketTransport

#: What ``/grow`` keeps, in bytes.
GROWTH = 120 * 2**20

#: Seconds that ``/busy`` takes, and of each of its steps.
BUSY_SECONDS = 2.0
STEP_SECONDS = 0.05


class Visits(Resource):
    """
    Counts in the session that a cookie names.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        data = request.getSession(ISessionData)
        data["hits"] = data.get("hits", 0) + 1
        return b"Worker %d session hits: %d\n" % (os.getpid(), data["hits"])


class _Counted(Protocol):
    """
    Counts once the gate opens.
    """

    def __init__(self, request: Request) -> None:
        self._request = request

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        try:
            self._request.write(Visits().render(self._request))
            self._request.finish()
        except SessionMoved:
            self._request.processingFailed(Failure())


class Hesitating(Resource):
    """
    Counts as :class:`Visits`, but asks for the session only when the gate opens.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> int:
        from twisted.internet import reactor

        endpoint = UNIXClientEndpoint(reactor, os.environ[VARIABLE])
        connectProtocol(endpoint, _Counted(request))
        return NOT_DONE_YET


class Grow(Resource):
    """
    Takes memory, and keeps it.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._kept = b""

    @override
    def render(self, request: Request) -> bytes:
        self._kept = os.urandom(1024) * (GROWTH // 1024)
        return b"Worker %d session hits: %d\n" % (os.getpid(), len(self._kept) // GROWTH)


class Busy(Resource):
    """
    Works for a while, and gives the reactor a turn now and then.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> int:
        from twisted.internet import reactor

        ends = time.monotonic() + BUSY_SECONDS

        def step() -> None:
            until = time.monotonic() + STEP_SECONDS
            while time.monotonic() < until:
                pass
            if until < ends:
                reactor.callLater(0, step)
            else:
                request.write(b"done")
                request.finish()

        step()
        return NOT_DONE_YET


class Echo:
    """
    A WebSocket that says each message again, with the pid of its worker.
    """

    transport: WebSocketTransport

    def negotiationStarted(self, transport: WebSocketTransport) -> None:  # noqa: N802 - Twisted's
        """
        Called at the beginning.
        """
        self.transport = transport

    def negotiationFinished(self) -> None:  # noqa: N802 - Twisted's
        """
        Called when messages may be sent.
        """

    def textMessageReceived(self, message: str) -> None:  # noqa: N802 - Twisted's
        """
        Called with a message.
        """
        self.transport.sendTextMessage(f"{os.getpid()} {message}")

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:  # noqa: N802 - Twisted's
        """
        Called with a message of bytes.
        """

    def pongReceived(self, payload: bytes) -> None:  # noqa: N802 - Twisted's
        """
        Called with the answer to a ping.
        """

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 - Twisted's
        """
        Called at the end.
        """


class Echoes:
    """
    Makes them.
    """

    def buildProtocol(self, request: Request) -> Echo:  # noqa: N802 - Twisted's
        """
        Called for each WebSocket.
        """
        return Echo()


def site() -> Resource:
    """
    All of them: ``/visits``, ``/hesitating``, ``/grow``, ``/busy``, ``/ws``, ``/held``, ``/spin``.
    """
    root = Resource()
    root.putChild(b"visits", Visits())
    root.putChild(b"hesitating", Hesitating())
    root.putChild(b"grow", Grow())
    root.putChild(b"busy", Busy())
    root.putChild(b"ws", WebSocketResource(Echoes()))
    root.putChild(b"held", Held())
    root.putChild(b"spin", Spin())
    return root


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """
    ``/ws`` echoes as above, anything else tells the pid.
    """
    assert scope["type"] in ("http", "websocket")
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"Worker %d session hits: 1\n" % os.getpid()
        await send({"type": "http.response.body", "body": body})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{os.getpid()} {message['text']}"})


def only_two() -> Resource:
    """
    Where the client is, in slots 0 and 1; any other worker ends.
    """
    if own_slot() > 1:
        os._exit(3)
    return Mirror()

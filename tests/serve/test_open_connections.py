"""
The connections that a host has open.
"""

from __future__ import annotations

from socket import socketpair
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyd.figures.page import CLOSED, OPENED, new_page
from stickyd.handoff.frame import Handoff
from stickyd.net.readiness import readiness_of
from stickyd.serve.asgi.served_websocket import ServedWebSocket
from stickyd.serve.http import HTTPChannel
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.site import HTTPSite
from stickyd.serve.http2.arrival import HTTP2Arrival
from stickyd.serve.http2.connection import HTTP2Connection
from stickyd.serve.open_connections import FAREWELL_SECONDS, SERVICE_RESTART, OpenConnections
from stickyd.serve.protocol import ServedTransport
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.tls.handshake import Handshake
from stickyd.serve.tls.loop_transport import TlsLoopProtocol
from stickyd.serve.tls.tunnel import Tunnel
from stickyd.serve.wsgi.websockets import LentConnection
from tests.http_wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable


def handoff(port: int = 1) -> Handoff:
    """
    A handoff.
    """
    return Handoff(-1, "192.0.2.1", port, b"k")


def kinds() -> dict[str, Callable[[], Any]]:
    """
    Makers of each kind of connection.
    """
    site = HTTPSite(Answer(lambda request: b""), HTTPContext(Clock()))
    nothing: Any = None
    return {
        "http/1": lambda: HTTPChannel(site.context),
        "http/2": lambda: HTTP2Connection(site, handoff()),
        "http/2, before its first request": lambda: HTTP2Arrival(site.context, handoff(), nothing),
        "handshake": lambda: Handshake(handoff(), nothing),
        "tunnel": lambda: Tunnel(nothing, nothing),
        "handshake of asyncio": lambda: TlsLoopProtocol(nothing, handoff()),
        "websocket": lambda: ServedWebSocket(None),
        "websocket in a thread": lambda: LentConnection(
            nothing, nothing, nothing, None, nothing, nothing
        ),
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_is_one(kind: str) -> None:
    """
    Whatever a host serves has what the bookkeeping asks.
    """
    connection = kinds()[kind]()
    assert verifyObject(IServedConnection, connection)
    page = new_page()
    opened = OpenConnections(Clock().callLater, page)
    assert opened.add(connection) is connection
    assert opened.descriptors == connection.descriptors
    assert (page[OPENED], page[CLOSED]) == (1, 0)
    for _ in range(2):
        opened.remove(connection)
        assert (len(opened), opened.descriptors) == (0, 0)
        assert (page[OPENED], page[CLOSED]) == (1, 1)


def test_transport_of_a_protocol_is_one() -> None:
    """
    So is a connection of which nothing is known.
    """
    ours, theirs = socketpair()
    peer: Any = None
    clock: Any = Clock()
    transport = ServedTransport(readiness_of(reactor), ours, peer, handoff(), None, clock)
    assert verifyObject(IServedConnection, transport)
    ours.close()
    theirs.close()


@implementer(IServedConnection)
class Served:
    """
    Writes down what is asked of it.
    """

    descriptors = 2
    unanswered = ()
    ended: Any = None

    def __init__(self, port: int, busy: bool = False, websocket: bool = False) -> None:
        self.handoff = handoff(port)
        self.busy = busy
        self.told: list[Any] = []
        self.goes: Any = None
        self.take: Any = None
        self._websocket = websocket

    def under_way(self) -> list[Any]:
        """
        Nobody asks.
        """
        return []

    def give_away(self, goes: Any, take: Any) -> None:
        """
        Keep both for later.
        """
        self.goes, self.take = goes, take

    def drain(self) -> None:
        """
        Write it down.
        """
        self.told.append("drain")

    def say_goodbye(self, code: int) -> bool:
        """
        Write it down, if this is a WebSocket, once.
        """
        if self._websocket:
            self.told.append(code)
        polite, self._websocket = self._websocket, False
        return polite

    def end_streams(self) -> None:
        """
        Write it down.
        """
        self.told.append("end streams")

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """
        Be over.
        """
        self.told.append("abort")
        self.ended(self)


class Scene:
    """
    Some connections.
    """

    def __init__(self, *connections: Served) -> None:
        self.clock = Clock()
        self.open = OpenConnections(self.clock.callLater)
        for connection in connections:
            connection.ended = self.open.remove
            self.open.add(connection)


def test_draining() -> None:
    """
    Each is told; whoever waits hears when none is left, or at once.
    """
    first, second = Served(1), Served(2)
    scene = Scene(first, second)
    assert (len(scene.open), scene.open.descriptors) == (2, 4)
    drained = [scene.open.drain(), scene.open.drain()]
    assert first.told == second.told == ["drain", "drain"]
    scene.open.remove(first)
    assert [waiting.called for waiting in drained] == [False, False]
    scene.open.remove(second)
    assert [waiting.called for waiting in drained] == [True, True]
    assert scene.open.drain().called


def test_giving_away() -> None:
    """
    Those that go are asked to, and whoever waits hears when none of them is busy any more:
    gone, over, or staying after all.
    """
    idle, busy, staying, other = Served(1), Served(2, True), Served(3, True), Served(4, True)
    scene = Scene(idle, busy, staying, other)
    going = {1, 2, 3}
    given: list[Any] = []
    quiet = scene.open.give_away(lambda h: h.port in going, lambda *what: given.append(what))
    assert other.take is None
    assert idle.goes(idle.handoff)
    idle.take("socket", b"unread")
    scene.open.remove(idle)
    assert given == [("socket", b"unread", idle.handoff)]
    heard: list[None] = []
    quiet.addCallback(heard.append)
    scene.open.remove(busy)
    assert heard == []
    going.remove(3)
    assert not staying.goes(staying.handoff)
    assert heard == [None]
    assert len(scene.open) == 2
    assert scene.open.give_away(lambda h: False, lambda *what: None).called


def test_aborting() -> None:
    """
    WebSockets are told why, and cut off a moment later; the others at once.
    """
    plain, websocket = Served(1), Served(2, websocket=True)
    scene = Scene(plain, websocket)
    scene.open.abort()
    assert (plain.told, websocket.told) == (["abort"], [SERVICE_RESTART])
    scene.clock.advance(FAREWELL_SECONDS)
    assert websocket.told == [SERVICE_RESTART, "abort"]
    assert len(scene.open) == 0


def test_ending_streams() -> None:
    """
    WebSockets are told once; the others look what they have, each time.
    """
    plain, websocket = Served(1), Served(2, websocket=True)
    scene = Scene(plain, websocket)
    scene.open.end_streams()
    scene.open.end_streams()
    assert plain.told == ["end streams", "end streams"]
    assert websocket.told == [SERVICE_RESTART, "end streams"]

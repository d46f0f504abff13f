"""
Any protocol: a factory's connections, from their adoption to their end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.protocol import Factory, Protocol, connectionDone
from typing_extensions import override
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyd.interfaces import IDetachable, IHost
from stickyd.net.readiness import readiness_of
from stickyd.serve.protocol import ProtocolHost
from tests.hosting import (
    LOOPS,
    Client,
    Visitors,
    a_reactor,
    end_abruptly,
    fired,
    logged,
    run,
    some_turns,
    until,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure


class Echo(Protocol):
    """
    Sends everything back, and writes down its end.
    """

    factory: Echoes

    @override
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if data == b"boom":
            raise ValueError("boom")
        self.transport.write(data)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost.append(reason.type)


@implementer(IDetachable)
class Quiet(Echo):
    """
    One that tells that it is idle.
    """

    idle = True

    def detach(self) -> tuple[socket.socket, bytes]:
        detached: tuple[socket.socket, bytes] = self.transport.detach()  # type: ignore[union-attr]
        return detached


class Echoes(Factory):
    """
    Writes down what becomes of it; makes what it is told to make.
    """

    noisy = False

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lost: list[Any] = []
        self.peers: list[IAddress | None] = []
        self.makes: Any = Echo

    @override
    def startFactory(self) -> None:
        self.events.append("start")

    @override
    def stopFactory(self) -> None:
        self.events.append("stop")

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.peers.append(addr)
        protocol = self.makes()
        if protocol is not None:
            protocol.factory = self
        return protocol


class Scene:
    """
    A factory in its host, started.
    """

    def __init__(self, reactor: Any, visitors: Visitors) -> None:
        self.loop = reactor._asyncioEventloop
        self.factory = Echoes()
        self.host = ProtocolHost(self.factory, readiness_of(reactor), reactor)
        self.visitors = visitors
        run(self.loop, fired(self.host.start()))

    def visit(self, unread: bytes = b"", key: bytes = b"k") -> Client:
        return self.visitors.visit(self.host, unread, key)

    def end(self) -> None:
        """
        Abort what is left, and stop.
        """
        run(self.loop, end_abruptly(self.host))


@pytest.fixture(params=LOOPS)
def scene(request: Any) -> Iterator[Scene]:
    """
    A factory in its host, on each kind of loop.
    """
    visitors = Visitors()
    with a_reactor(request.param) as reactor:
        scene = Scene(reactor, visitors)
        yield scene
        scene.end()
        visitors.close()


def test_is_a_host(scene: Scene) -> None:
    """
    It has all that a host must have.
    """
    assert verifyObject(IHost, scene.host)


def test_serves_from_start_to_stop(scene: Scene) -> None:
    """
    The factory is started, asked with the client's address, and stopped.
    """

    async def go() -> None:
        client = scene.visit(b"unread ")
        await client.send("and sent")
        assert await client.taken(15) == b"unread and sent"
        (peer,) = scene.factory.peers
        assert (peer.host, peer.port) == client.name  # type: ignore[union-attr]
        assert (scene.host.connections, scene.host.requests) == (1, 1)
        client.close()
        await until(lambda: scene.host.connections == 0)
        assert scene.factory.events == ["start"]

    run(scene.loop, go())
    scene.end()
    assert scene.factory.events == ["start", "stop"]
    scene.factory.doStart()  # for the fixture to stop


@pytest.mark.parametrize("fails", [False, True])
def test_refused_connections_are_closed(scene: Scene, fails: bool) -> None:
    """
    A client for whom the factory makes no protocol, or fails to, is closed; the next one
    is served.
    """

    def fail() -> None:
        raise ValueError("no protocol today")

    async def go() -> None:
        scene.factory.makes = fail if fails else lambda: None
        assert await scene.visit().rest() == b""
        assert scene.host.connections == 0
        scene.factory.makes = Echo
        assert await scene.visit(b"hello").taken(5) == b"hello"

    with logged() as events:
        run(scene.loop, go())
    failures = [event["log_failure"] for event in events if "log_failure" in event]
    assert [failure.getErrorMessage() for failure in failures] == ["no protocol today"] * fails


def test_failing_protocol_ends_its_own_connection(scene: Scene) -> None:
    """
    A protocol that raises is closed and logged; the others go on.
    """

    async def go() -> None:
        other = scene.visit()
        assert await scene.visit(b"boom").rest() == b""
        await other.send("hello")
        assert await other.taken(5) == b"hello"
        assert scene.host.connections == 1

    with logged() as events:
        run(scene.loop, go())
    assert [event["log_failure"].type for event in events] == [ValueError]


def test_drain_closes_the_idle_and_waits_for_the_others(scene: Scene) -> None:
    """
    Who says that it is idle is closed at once; the others end in their own time.
    """

    async def go() -> None:
        unknown = scene.visit()
        scene.factory.makes = Quiet
        idle, busy = scene.visit(), scene.visit()
        next(t for t in scene.host._open if t.handoff is busy.handoff).protocol.idle = False
        drained = scene.host.drain()
        assert await idle.rest() == b""
        await some_turns()
        assert scene.host.connections == 2
        for client in (unknown, busy):
            await client.send("hello")
            assert await client.taken(5) == b"hello"
            assert not drained.called
            client.close()
        await fired(drained)

    run(scene.loop, go())


def test_abort_ends_all(scene: Scene) -> None:
    """
    An abort resets what a drain waits for.
    """

    async def go() -> None:
        client = scene.visit()
        drained = scene.host.drain()
        scene.host.abort()
        assert await client.rest() == b"<reset>"
        await fired(drained)
        assert len(scene.factory.lost) == 1

    run(scene.loop, go())


def test_release_gives_the_idle_ones_that_go(scene: Scene) -> None:
    """
    Connections that tell that they are idle can be given away, and nothing is told their
    protocols; those that stay, and those that nobody knows, are served on.
    """

    async def go() -> None:
        unknown = scene.visit(key=b"goes")
        scene.factory.makes = Quiet
        goes, stays = scene.visit(key=b"goes"), scene.visit(key=b"stays")
        taken = []
        await fired(
            scene.host.give_away(
                lambda handoff: handoff.key == b"goes", lambda *given: taken.append(given)
            )
        )
        ((sock, unread, handoff),) = taken
        assert (unread, handoff) == (b"", goes.handoff)
        assert scene.factory.lost == []
        assert scene.host.connections == 2
        for client in (unknown, stays):
            await client.send("hello")
            assert await client.taken(5) == b"hello"
        sock.close()

    run(scene.loop, go())

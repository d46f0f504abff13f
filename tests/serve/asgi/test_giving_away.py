"""
Which connections an ASGI host gives away to another worker, and when.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import IPv4Address
from zope.interface.verify import verifyObject

from stickyd.interfaces import IDetachable
from stickyd.serve.asgi.host import AsgiHost
from tests.hosting import (
    fired,
    run,
    some_turns,
    until,
)
from tests.serve.asgi.scene import NO_LIFESPAN, Application, Scene

if TYPE_CHECKING:
    from stickyd.handoff.frame import Handoff


def test_idle_between_two_requests_only(scene: Scene) -> None:
    """
    However a request is cut, its connection is idle until its head is whole, and then not
    before it is answered.
    """

    async def go() -> None:
        client = scene.visit()
        protocol = scene.protocol()
        assert verifyObject(IDetachable, protocol)
        head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        request = head + b"ab"
        for _ in range(2):
            assert protocol.idle
            for number in range(1, len(request) + 1):
                protocol.data_received(request[number - 1 : number])
                assert protocol.idle == (number < len(head)), request[:number]
            assert (await client.response()).body == b"2"
            await until(lambda: protocol.idle)

    run(scene.loop, go())


def test_not_idle_while_a_body_is_owed(scene: Scene) -> None:
    """
    An early answer does not make a connection idle: the rest of the request still comes.
    """

    async def go() -> None:
        client = scene.visit()
        protocol = scene.protocol()
        await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert (await client.response()).status == 200
        await some_turns()
        assert not protocol.idle
        with pytest.raises(RuntimeError):
            protocol.detach()
        await client.send("b")
        await until(lambda: protocol.idle)

    run(scene.loop, go())


class Taken:
    """
    What was given away.
    """

    def __init__(self) -> None:
        self.connections: list[tuple[socket.socket, bytes, Handoff]] = []

    def __call__(self, sock: socket.socket, unread: bytes, handoff: Handoff) -> None:
        self.connections.append((sock, unread, handoff))


def test_release_gives_idle_connections_at_once(scene: Scene) -> None:
    """
    An idle connection of those that go is given, and can be served elsewhere; others stay.
    """

    async def go() -> None:
        goes, stays = scene.visit(key=b"goes"), scene.visit(key=b"stays")
        await goes.ask()
        taken = Taken()
        released = scene.host.give_away(lambda handoff: handoff.key == b"goes", taken)
        assert released.called
        ((sock, unread, handoff),) = taken.connections
        assert (unread, handoff) == (b"", goes.handoff)
        assert scene.host.connections == 1
        assert (await stays.ask()).status == 200
        other = AsgiHost(scene.application, scene.loop, options=NO_LIFESPAN)
        await fired(other.start())
        other.adopt(sock, IPv4Address("TCP", handoff.host, handoff.port), handoff)
        assert (await goes.ask()).status == 200
        assert (other.connections, other.requests) == (1, 1)
        await fired(other.drain())
        await fired(other.stop())

    run(scene.loop, go())


def test_release_waits_for_requests_under_way(scene: Scene) -> None:
    """
    A busy connection is given after its response, which does not close it; then the
    release is done, even if a drain began meanwhile.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        taken = Taken()
        released = scene.host.give_away(lambda handoff: True, taken)
        drained = scene.host.drain()
        assert not released.called
        assert not taken.connections
        scene.application.gate.set()
        assert "connection" not in (await client.response()).fields
        await fired(released)
        await fired(drained)
        ((sock, unread, handoff),) = taken.connections
        assert (unread, handoff) == (b"", client.handoff)
        sock.close()

    run(scene.loop, go())


def test_release_does_not_wait_for_answers_under_way(scene: Scene) -> None:
    """
    A client that is slow to take a long response holds nobody up; its connection is given
    afterwards.
    """

    async def go() -> None:
        client = scene.visit()
        body = bytes(16_000_000)

        async def long(receive: Any, send: Any) -> None:
            await Application.answer(scene.application, receive, send, body)

        scene.application.long = long  # type: ignore[attr-defined]
        await client.request("/long")
        await until(lambda: scene.application.scopes)
        taken = Taken()
        released = scene.host.give_away(lambda handoff: True, taken)
        await fired(released)
        assert not taken.connections
        assert (await client.response()).body == body
        await until(lambda: taken.connections)
        taken.connections[0][0].close()

    run(scene.loop, go())


def test_release_does_not_wait_for_those_who_leave(scene: Scene) -> None:
    """
    A client that goes away ends the waiting for it, and one that has sent a part of a head
    is given away with that.
    """

    async def go() -> None:
        leaves = scene.visit()
        await leaves.request("/poll")
        await until(lambda: scene.application.events)
        begins = scene.visit()
        await begins.send("GET /ws HTTP/1.1\r\n")
        await some_turns()
        taken = Taken()
        released = scene.host.give_away(lambda handoff: True, taken)
        ((sock, unread, handoff),) = taken.connections
        assert (unread, handoff) == (b"GET /ws HTTP/1.1\r\n", begins.handoff)
        sock.close()
        assert not released.called
        leaves.close()
        await fired(released)
        await until(lambda: scene.host.connections == 0)

    run(scene.loop, go())


def test_release_forgets_those_who_need_not_go_any_more(scene: Scene) -> None:
    """
    A connection that does not go after all, when its response is done, stays.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        going, taken = [True], Taken()
        released = scene.host.give_away(lambda handoff: going[0], taken)
        going[0] = False
        scene.application.gate.set()
        await client.response()
        await fired(released)
        assert not taken.connections
        assert (await client.ask()).status == 200

    run(scene.loop, go())


def test_release_and_drain_close_who_need_not_go_any_more(scene: Scene) -> None:
    """
    A connection that does not go after all is closed after its response by a drain.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        going = [True]
        scene.host.give_away(lambda handoff: going[0], Taken())
        drained = scene.host.drain()
        going[0] = False
        scene.application.gate.set()
        assert (await client.response()).status == 200
        assert await client.rest() == b""
        await fired(drained)

    run(scene.loop, go())

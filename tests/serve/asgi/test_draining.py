"""
How an ASGI host comes to its end: what it lets finish, and what it cuts.
"""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.hosting import (
    fired,
    run,
    some_turns,
    until,
)
from tests.serve.asgi.scene import Scene


def test_abort_tells_websockets_to_come_back(scene: Scene) -> None:
    """
    A drain leaves a WebSocket alone; abort closes it with 1012, *service restart*.
    """

    async def go() -> None:
        socket = await scene.websocket()
        drained = scene.host.drain()
        await socket.send("still here")
        assert await socket.recv() == "still here"
        assert not drained.called
        scene.host.abort()
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        await fired(drained)
        assert scene.application.events == ["websocket 1012"]

    run(scene.loop, go())


def test_abort_waits_for_no_client(scene: Scene) -> None:
    """
    A WebSocket whose client takes nothing any more is cut off.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request(
            "/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )  # fmt: skip
        await client.head()
        (protocol,) = scene.host._state.connections
        protocol.transport.write(bytes(16_000_000))
        drained = scene.host.drain()
        scene.host.abort()
        await fired(drained)

    run(scene.loop, go())


def test_drain_closes_idle_connections(scene: Scene) -> None:
    """
    Connections that never asked and those that have their answer are closed at once.
    """

    async def go() -> None:
        silent, kept = scene.visit(), scene.visit()
        await kept.ask()
        await fired(scene.host.drain())
        assert await silent.rest() == await kept.rest() == b""
        assert scene.host.connections == 0

    run(scene.loop, go())


def test_drain_lets_requests_finish(scene: Scene) -> None:
    """
    What is under way is answered with Connection: close, on a used connection too.
    """

    async def go() -> None:
        first, second = scene.visit(), scene.visit()
        await second.ask()
        for client in (first, second):
            await client.request("/held")
        await until(lambda: len(scene.application.events) == 2)
        drained = scene.host.drain()
        assert not drained.called
        scene.application.gate.set()
        for client in (first, second):
            response = await client.response()
            assert (response.status, response.fields["connection"]) == (200, "close")
            assert await client.rest() == b""
        await fired(drained)

    run(scene.loop, go())


def test_drain_answers_what_has_begun_to_arrive(scene: Scene) -> None:
    """
    A request of which only a part has come is still answered, and is the last one.
    """

    async def go() -> None:
        fresh, used = scene.visit(), scene.visit()
        await used.ask()
        for client in (fresh, used):
            await client.send("GET / HT")
        await some_turns()
        drained = scene.host.drain()
        for client in (fresh, used):
            await client.send("TP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.response()).fields["connection"] == "close"
        await fired(drained)

    run(scene.loop, go())


def test_latecomers_get_one_answer(scene: Scene) -> None:
    """
    A connection that was on its way when the drain began is served, for one request.
    """

    async def go() -> None:
        busy = scene.visit()
        await busy.request("/held")
        await until(lambda: scene.application.events)
        drained = scene.host.drain()
        for unread in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            late = scene.visit(unread)
            response = await late.response() if unread else await late.ask()
            assert response.fields["connection"] == "close"
        scene.application.gate.set()
        await fired(drained)

    run(scene.loop, go())


def test_drain_waits_for_background_tasks(scene: Scene) -> None:
    """
    What an application does after its response is finished before the drain is.
    """

    async def go() -> None:
        client = scene.visit()
        await client.ask("/after")
        drained = scene.host.drain()
        await until(lambda: scene.host.connections == 0)
        await some_turns()
        assert not drained.called
        scene.application.gate.set()
        await fired(drained)
        assert scene.application.events == ["done after"]

    run(scene.loop, go())


def test_abort_cancels_what_does_not_end(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """
    A request that would never end is cancelled, and the drain is over.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/stubborn")
        await until(lambda: scene.application.events)
        drained = scene.host.drain()
        scene.host.abort()
        assert await client.rest() == b""
        await fired(drained)
        await until(lambda: scene.application.events == ["stubborn", "cancelled"])

    run(scene.loop, go())
    assert "Exception in ASGI application" in caplog.text

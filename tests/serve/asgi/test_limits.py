"""
Bounds of an ASGI host: concurrency, time, the sizes of bodies and messages.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from stickyd.serve.http.limits import HTTPLimits
from tests.hosting import (
    run,
    some_turns,
    until,
)
from tests.serve.asgi.scene import Application, Scene, options


def test_slow_reader_slows_the_application(scene: Scene) -> None:
    """
    What a client does not take is not produced either.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/flood")
        await client.head()
        await until(lambda: scene.protocol().flow.write_paused)
        before = len(scene.application.events)
        await some_turns()
        assert 0 < before == len(scene.application.events) < 500
        client.close()

    run(scene.loop, go())


@options(limit_concurrency=2)
def test_limit_of_concurrency(scene: Scene) -> None:
    """
    With two connections allowed, a second one is told that the service is unavailable.
    """

    async def go() -> None:
        first, second = scene.visit(), scene.visit()
        assert (await second.ask()).status == 503
        await until(lambda: scene.host.connections == 1)
        assert (await first.ask()).status == 200

    run(scene.loop, go())


@options(limits=HTTPLimits(idle=0))
def test_silent_clients_are_closed(scene: Scene) -> None:
    """
    A client that never says anything does not keep its connection.
    """

    async def go() -> None:
        assert await scene.visit().rest() == b""
        await until(lambda: scene.host.connections == 0)

    run(scene.loop, go())


@options(limits=HTTPLimits(body_bytes=10))
@pytest.mark.parametrize("chunked", [False, True])
def test_fault_43_refused_client_gets_its_answer(scene: Scene, chunked: bool) -> None:
    """
    Fault 43: a client that sends all of its body before it reads gets the 413, not a reset.
    """

    async def go() -> None:
        client = scene.visit()
        framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 4000000"
        await client.send(f"POST /upload HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")
        for _ in range(40):
            await client.send(b"186a0\r\n" + bytes(100_000) + b"\r\n")
        assert (await client.response()).status == 413
        assert await client.rest() == b""
        # Which is what the server waits for, to close its side too.
        client.close()
        await some_turns()

    run(scene.loop, go())


@options(limits=HTTPLimits(stall=0.2))
def test_fault_40_client_that_takes_nothing_is_cut_off(scene: Scene) -> None:
    """
    Fault 40: a client that takes nothing of a long answer loses its connection, also when the
    application has long done.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/flood")
        await until(lambda: scene.host.connections == 0)
        body = bytes(16_000_000)

        async def long(receive: Any, send: Any) -> None:
            await Application.answer(scene.application, receive, send, body)

        scene.application.long = long  # type: ignore[attr-defined]
        client = scene.visit()
        await client.request("/long", "Connection: close")
        await until(lambda: scene.host.connections == 0)

    run(scene.loop, go())


@options(limits=HTTPLimits(stall=1.5))
def test_fault_40_client_that_takes_something_is_not(scene: Scene) -> None:
    """
    Fault 40: who takes a long answer slowly gets it whole.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/flood", "Connection: close")
        got = 0
        while data := await client.more():
            got += len(data)
            client._read.clear()
            if got < 3_000_000:
                await asyncio.sleep(0.005)
        assert got > 1000 * 65536

    run(scene.loop, go())


@options(ws_max_size=1000)
def test_websocket_messages_have_a_limit(scene: Scene) -> None:
    """
    A message that is longer than the limit ends its connection with code 1009.
    """

    async def go() -> None:
        socket = await scene.websocket()
        await socket.send("x" * 1001)
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009

    run(scene.loop, go())

"""
WebSockets of WSGI applications: ``environ["werkzeug.socket"]``, in threads.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
from simple_websocket import ConnectionClosed
from simple_websocket import Server as WebSocket
from twisted.logger import formatEvent

from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.serve.stickiness import Stickiness
from stickyd.serve.wsgi.websockets import MOST_LOOKS
from tests.hosting import LOOPS, Client, fired, logged, until
from tests.serve.wsgi.scene import Scene, serving
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """
    A client's frame, masked with zeros.
    """
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


class Echo:
    """
    Says what it hears, until the client or we close.

    :ivar left: how many have ended.
    """

    def __init__(self) -> None:
        self.left = 0
        self.environs: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.environs.append(environ)
        if environ["PATH_INFO"] == "/no":
            start_response("403 Forbidden", [])
            return [b"no"]
        if environ["PATH_INFO"] != "/ws":
            start_response("200 OK", [])
            return [b"page"]
        ws = WebSocket(environ)
        try:
            while True:
                message = ws.receive()
                if message == "bye":
                    ws.close(4000)
                    break
                if message == "boom":
                    raise ValueError("boom")
                ws.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.left += 1
        raise ConnectionError  # as Flask-Sock and Flask-SocketIO do


async def open_one(scene: Scene, more: bytes = b"") -> Client:
    """
    Open a WebSocket.

    :param more: what is sent with the handshake.
    """
    client = scene.visit()
    await client.send(HANDSHAKE.encode() + more)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return client


@pytest.mark.parametrize("loop", LOOPS)
def test_echoes(loop: str) -> None:
    """
    Messages go to and fro, also one that came with the handshake; a page is served meanwhile,
    though the only thread is the WebSocket's for good.
    """
    echo = Echo()
    with serving(echo, loop, threads=1) as scene, logged() as events:

        async def go() -> None:
            client = await open_one(scene, frame(b"early"))
            assert await client.taken(7) == b"\x81\x05early"
            for _ in range(3):
                await client.send(frame(b"hello"))
                assert await client.taken(7) == b"\x81\x05hello"
            assert (await scene.visit().ask("/page")).body == b"page"
            assert scene.host.connections == 2
            await client.send(frame(b"bye"))
            assert await client.taken(4) == b"\x88\x02" + struct.pack("!H", 4000)
            await client.send(frame(struct.pack("!H", 4000), 8))
            assert await client.rest() == b""
            await until(lambda: echo.left == 1 and scene.host.connections == 1)

        scene.run(go)
    assert not [event for event in events if "log_failure" in event]


@pytest.mark.parametrize("how", ["close", "reset", "shut"])
def test_clients_that_leave_end_their_threads(how: str) -> None:
    """
    In whatever way they leave.
    """
    import socket

    echo = Echo()
    with serving(echo) as scene:

        async def go() -> None:
            client = await open_one(scene)
            if how == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "shut":
                client.socket.shutdown(socket.SHUT_WR)
            else:
                client.close()
            await until(lambda: echo.left == 1 and scene.host.connections == 0)
            assert scene.host._backend.websockets.count == 0

        scene.run(go)


def test_an_application_that_does_not_take_it_answers() -> None:
    """
    The connection stays ours, and goes on.
    """
    echo = Echo()
    with serving(echo) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(HANDSHAKE.replace("/ws", "/no"))
            response = await client.response()
            assert (response.status, response.body) == (403, b"no")
            assert (await client.ask("/page")).body == b"page"
            await until(lambda: scene.host._backend.websockets.count == 0)

        scene.run(go)
    assert "werkzeug.socket" not in echo.environs[1]


@pytest.mark.parametrize(
    "change",
    [
        ("GET", "POST"),
        ("keep-alive, Upgrade", "keep-alive"),
        ("WebSocket", "h2c"),
        ("HTTP/1.1", "HTTP/1.0"),
    ],
)
def test_other_requests_do_not_get_it(change: tuple[str, str]) -> None:
    """
    Only what asks for a WebSocket may take the connection.
    """
    echo = Echo()
    with serving(echo) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(HANDSHAKE.replace("/ws", "/page").replace(change[0], change[1], 1))
            assert (await client.response()).body == b"page"

        scene.run(go)
    assert "werkzeug.socket" not in echo.environs[0]


def test_over_tls(tmp_path: Path) -> None:
    """
    The application speaks plain text; the TLS stays the loop's.
    """
    echo = Echo()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with serving(echo, tls=write_certificate(tmp_path, "a", "a.test")) as scene:

        async def go() -> None:
            reader, writer = await asyncio.open_connection(
                sock=scene.visit().socket.dup(), ssl=context, server_hostname="a.test"
            )
            writer.write(HANDSHAKE.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            for _ in range(3):
                writer.write(frame(b"hello"))
                assert await reader.readexactly(7) == b"\x81\x05hello"
            writer.write(frame(b"bye"))
            assert await reader.readexactly(4) == b"\x88\x02" + struct.pack("!H", 4000)
            writer.write(frame(struct.pack("!H", 4000), 8))
            assert await reader.read() == b""
            writer.close()
            await until(lambda: scene.host.connections == 0)

        scene.run(go)
    assert echo.environs[0]["wsgi.url_scheme"] == "https"


def test_the_handshake_sets_the_cookie() -> None:
    """
    The application writes the answer itself; what finds the client back is in it all the same.
    """
    stickiness = Stickiness(
        parse_affinity(("cookie:stickyd",)),
        Signer([b"a secret of sixteen"]),
        lambda: 0,
        lambda ids: None,
        Networks.parse(()),
    )
    echo = Echo()
    with serving(echo, stickiness=stickiness) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(HANDSHAKE)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nSet-Cookie: stickyd=" in head
            await client.send(frame(b"hello"))
            assert await client.taken(7) == b"\x81\x05hello"

        scene.run(go)


def test_they_are_bounded() -> None:
    """
    One too many gets 503, and finds room when another has ended.
    """
    echo = Echo()
    with serving(echo, websockets=2) as scene, logged() as events:

        async def go() -> None:
            first = await open_one(scene)
            await open_one(scene)
            late = scene.visit()
            await late.send(HANDSHAKE)
            assert (await late.response()).status == 503
            late = scene.visit()
            await late.send(HANDSHAKE)
            assert (await late.response()).status == 503
            first.close()
            await until(lambda: scene.host._backend.websockets.count == 1)
            await open_one(scene)

        scene.run(go)
    (line,) = [formatEvent(event) for event in events]
    assert line.startswith("The WSGI application has 2 WebSockets, and the next ones get 503.")


def test_one_that_raises_is_in_the_log() -> None:
    """
    With its traceback; and its client's connection ends.
    """
    echo = Echo()
    with serving(echo) as scene, logged() as events:

        async def go() -> None:
            client = await open_one(scene)
            await client.send(frame(b"boom"))
            assert await client.rest() == b""

        scene.run(go)
    failures = [event["log_failure"] for event in events if "log_failure" in event]
    assert [failure.getErrorMessage() for failure in failures] == ["boom"]


def test_a_stop_says_goodbye() -> None:
    """
    A drain waits for them; when the patience is over, they are told 1012 and cut off.
    """
    echo = Echo()
    with serving(echo) as scene:

        async def go() -> None:
            client = await open_one(scene)
            drained = scene.host.drain()
            assert not drained.called
            await client.send(frame(b"still"))
            assert await client.taken(7) == b"\x81\x05still"
            scene.host.abort()
            assert await client.taken(4) == b"\x88\x02" + struct.pack("!H", 1012)
            await client.rest()
            await fired(drained)
            await until(lambda: echo.left == 1)

        scene.run(go)


def test_one_whose_thread_waits_for_ever_is_cut_off_once_it_was_told() -> None:
    """
    A stop ends the streams again and again; an application that waits for something else than
    its client keeps it for a moment only.
    """
    never, begun = threading.Event(), threading.Event()

    def silent(environ: Any, start_response: Any) -> list[bytes]:
        WebSocket.accept(environ)
        begun.set()
        never.wait()
        return []

    with serving(silent) as scene:

        async def go() -> None:
            client = await open_one(scene)
            await until(begun.is_set)
            drained = fired(scene.host.drain())
            for _ in range(MOST_LOOKS):
                scene.host.end_streams()
                assert scene.host.connections == 1
            scene.host.end_streams()
            assert await client.taken(4) == b"\x88\x02" + struct.pack("!H", 1012)
            await until(lambda: scene.host.connections == 0)
            never.set()
            await drained

        scene.run(go)


def test_many_at_once_do_not_count_among_the_threads() -> None:
    """
    Each has a thread of its own; those of the others are as many as before.
    """
    echo = Echo()
    with serving(echo, threads=2) as scene:

        async def go() -> None:
            clients = [await open_one(scene) for _ in range(20)]
            for client in clients:
                await client.send(frame(b"hello"))
            for client in clients:
                assert await client.taken(7) == b"\x81\x05hello"
            assert scene.host._backend.threads.count <= 2
            assert (await scene.visit().ask("/page")).body == b"page"
            for client in clients:
                client.close()
            await until(lambda: scene.host.connections == 1)
            await until(lambda: len(scene.host._backend.threads.seats) <= 2)

        scene.run(go)


def test_of_several_threads_one_takes_the_connection() -> None:
    """
    simple-websocket reads in a thread of its own, with a selector if it sends pings.
    """
    received: list[object] = []
    done = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        ws = WebSocket(environ, ping_interval=0.05)
        try:
            received.append(ws.receive())
            received.append(ws.receive())
        except ConnectionClosed:
            done.set()
        raise ConnectionError

    with serving(application) as scene:

        async def go() -> None:
            client = await open_one(scene)
            await client.send(frame(b"hello"))
            # A ping, and then its absence is noticed.
            assert await client.taken(2) == b"\x89\x00"
            assert (await client.rest()).startswith(b"\x88")
            await until(done.is_set)

        scene.run(go)
    assert received == ["hello"]

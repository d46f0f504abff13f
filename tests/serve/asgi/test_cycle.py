"""
What uvicorn leaves open of a request and its response: HTTP/1.0, clients that ask no more,
clients that take nothing, event streams.
"""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.http.limits import HTTPLimits
from tests.hosting import LOOPS, Client, Visitors, a_loop, end_abruptly, fired, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

#: What answers late, or in pieces, and how often it is asked for at once.
LATE = (("/held", 1), ("/held", 2), ("/begun", 1), ("/told", 1), ("/chunks", 1))
STREAM = [(b"Content-Type", b"text/event-stream; charset=utf-8")]


class Scene:
    """
    An application in its host, started.

    :ivar events: what the application has met.
    :ivar gate: what it waits for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: HTTPLimits) -> None:
        self.loop = loop
        self.events: list[str] = []
        self.gate = asyncio.Event()
        self.visitors = Visitors()
        self.host = AsgiHost(self.application, loop, "--asgi app", AsgiOptions(
            lifespan="off", limits=limits))  # fmt: skip
        run(loop, fired(self.host.start()))

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            self.events.append((await receive())["type"])
            return
        await getattr(self, scope["path"].strip("/"))(receive, send)

    async def chunks(self, receive: Any, send: Any, fields: Any = ()) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        for piece in (b"first", b"", b"second"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def coded(self, receive: Any, send: Any) -> None:
        await self.chunks(receive, send, [(b"Transfer-Encoding", b"chunked")])

    async def long(self, receive: Any, send: Any) -> None:
        await self.chunks(receive, send, [(b"content-length", b"11")])

    async def nothing(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def held(self, receive: Any, send: Any) -> None:
        self.events.append("held")
        await self.gate.wait()
        await self.chunks(receive, send)

    async def begun(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        self.events.append("begun")
        await self.gate.wait()
        await send({"type": "http.response.body", "body": b"done"})

    async def told(self, receive: Any, send: Any) -> None:
        fields = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        self.events.append("told")
        await self.gate.wait()
        await send({"type": "http.response.body", "body": b"hello"})

    async def polls(self, receive: Any, send: Any) -> None:
        await receive()
        self.events.append("polls")
        self.events.append((await receive())["type"])

    async def listens_twice(self, receive: Any, send: Any) -> None:
        await receive()
        self.events.append("listens")
        self.events += [each["type"] for each in await asyncio.gather(receive(), receive())]

    async def reads_late(self, receive: Any, send: Any) -> None:
        self.events.append("reads late")
        await self.gate.wait()
        message = await receive()
        assert type(message["body"]) is bytes
        self.events.append(message["body"].decode())
        rest = await receive()
        self.events += [rest["body"].decode(), str(rest["more_body"])]
        await self.nothing(receive, send)

    async def flood(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not self.gate.is_set():
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body"})
        self.events.append("flood is over")

    async def much(self, receive: Any, send: Any) -> None:
        # More than the kernel takes, less than what has uvicorn wait.
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(8_000_000)})
        self.events.append("much is written")

    async def listens(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await receive()
        self.events.append("listens")
        self.events.append((await receive())["type"])

    async def deaf(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        self.events.append("deaf")
        try:
            while True:
                await send(
                    {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
                )
                await asyncio.sleep(0.01)
        finally:
            self.events.append("deaf has ended")

    async def export(self, receive: Any, send: Any) -> None:
        await self.begun(receive, send)


@contextmanager
def serving(loop: str = "uvloop", **limits: Any) -> Iterator[Callable[[Any], None]]:
    """
    Serve; what comes runs a coroutine function with the scene.
    """
    with a_loop(loop) as running:
        scene = Scene(running, HTTPLimits(**limits))

        def go(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
            run(running, test(scene))

        yield go
        scene.visitors.close()
        run(running, end_abruptly(scene.host))


def visit(scene: Scene) -> Client:
    """
    Have a client come.
    """
    return scene.visitors.visit(scene.host)


@pytest.mark.parametrize("path", ["/chunks", "/coded", "/long", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fault_38_http_1_0_has_no_transfer_codings(path: str, method: str) -> None:
    """
    Fault 38: to a client of HTTP/1.0 a body without length ends with the connection.
    """

    async def test(scene: Scene) -> None:
        client = visit(scene)
        await client.send(f"{method} {path} HTTP/1.0\r\nExpect: 100-continue\r\n\r\n")
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert (b"content-length: 11" in head) == (path == "/long")
        assert body == (b"" if method == "HEAD" or path == "/nothing" else b"firstsecond")
        client = visit(scene)
        await client.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        rest = await client.rest()
        assert (b"\r\n\r\n5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n" in rest) == (
            method == "GET" and path in ("/chunks", "/coded")
        )

    with serving() as go:
        go(test)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("loop", LOOPS)
def test_fault_37_client_that_asks_no_more_is_answered(version: str, loop: str) -> None:
    """
    Fault 37: an answer that comes later, one that has begun, several: they come whole.
    """

    async def test(scene: Scene) -> None:
        for path, times in LATE:
            outputs = []
            for shuts in (False, True):
                scene.events.clear()
                scene.gate.clear()
                client = visit(scene)
                await client.send(f"GET {path} HTTP/{version}\r\nHost: a\r\n\r\n" * (times - 1))
                await client.send(
                    f"GET {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
                if shuts:
                    client.socket.shutdown(socket.SHUT_WR)
                if path != "/chunks":
                    await until(lambda: scene.events)
                await asyncio.sleep(0)
                scene.gate.set()
                outputs.append(re.sub(rb"date: [^\r]*", b"", await client.rest()))
            plain, shut = outputs
            assert shut.count(b"HTTP/1.1 200 OK\r\n") == (times if version == "1.1" else 1)
            assert shut.replace(b"\r\n0", b"\r\n") == plain.replace(b"\r\n0", b"\r\n")
        await until(lambda: not scene.host.connections)

    with serving(loop) as go:
        go(test)


def test_fault_37_half_a_request_gets_nothing() -> None:
    """
    Fault 37: what can never be whole ends the connection.
    """

    async def test(scene: Scene) -> None:
        for half in (
            "",
            "GET /held HTTP/1.1\r\nHo",
            "POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc",
        ):
            client = visit(scene)
            await client.send(half)
            client.socket.shutdown(socket.SHUT_WR)
            assert await client.rest() == b""
        await until(lambda: not scene.host.connections)

    with serving() as go:
        go(test)


@pytest.mark.parametrize("path", ["/polls", "/begun"])
def test_fault_37_client_that_has_left_is_noticed(path: str) -> None:
    """
    Fault 37: one that has closed all of its connection is told from one that waits.
    """

    async def test(scene: Scene) -> None:
        client = visit(scene)
        await client.request(path)
        await until(lambda: scene.events)
        if path == "/begun":
            await client.head()
            await client.taken(10)
        client.socket.shutdown(socket.SHUT_WR)
        await until(lambda: scene.host._state.connections)
        client.close()
        await until(lambda: not scene.host.connections)
        if path == "/polls":
            await until(lambda: scene.events[-1] == "http.disconnect")

    with serving() as go:
        go(test)


@pytest.mark.parametrize("path", ["/flood", "/much"])
@pytest.mark.parametrize("ends", [False, True])
def test_fault_40_client_that_takes_nothing_is_cut_off(path: str, ends: bool) -> None:
    """
    Fault 40: in the middle of a response or at the end of it, also when the connection is
    being closed already.
    """

    async def test(scene: Scene) -> None:
        client = visit(scene)
        await client.request(path, *(["Connection: close"] if ends else []))
        await client.head()
        await until(lambda: not scene.host.connections)
        scene.gate.set()
        await until(lambda: scene.events)

    with serving(stall=0.3, idle=0.1) as go:
        go(test)


def test_fault_40_client_that_takes_little_is_served() -> None:
    """
    Fault 40: the time begins anew with everything that is taken.
    """

    async def test(scene: Scene) -> None:
        client = visit(scene)
        await client.request("/much", "Connection: close")
        taken = 0
        while taken < 8_000_000:
            await asyncio.sleep(0.01)
            taken += len(await client.more())

    with serving(stall=1.0) as go:
        go(test)


@pytest.mark.parametrize("path", ["/listens", "/deaf"])
def test_fault_44_event_streams_end_at_a_stop(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Fault 44: the client gets a whole end, the application http.disconnect, or its call is
    cancelled, without a word in the log; the drain is over.
    """

    async def test(scene: Scene) -> None:
        client = visit(scene)
        await client.request(path)
        await until(lambda: scene.events)
        drained = scene.host.drain()
        scene.host.end_streams()
        scene.host.end_streams()
        assert (await client.rest()).endswith(b"\r\n0\r\n\r\n")
        await fired(drained)
        assert scene.events[-1] == ("http.disconnect" if path == "/listens" else "deaf has ended")

    with serving() as go:
        go(test)
    assert not caplog.records


def test_fault_44_websockets_end_at_a_stop() -> None:
    """
    Fault 44: WebSockets are told 1012, service restart.
    """

    async def test(scene: Scene) -> None:
        websocket = await connect("ws://localhost/ws", sock=visit(scene).socket)
        drained = scene.host.drain()
        scene.host.end_streams()
        scene.host.end_streams()
        await websocket.wait_closed()
        assert websocket.close_code == 1012
        await fired(drained)
        assert scene.events == ["websocket.disconnect"]

    with serving() as go:
        go(test)


def test_fault_44_other_responses_have_their_time() -> None:
    """
    Fault 44: what ends by itself is let to.
    """

    async def test(scene: Scene) -> None:
        client = visit(scene)
        await client.request("/export")
        await until(lambda: scene.events)
        drained = scene.host.drain()
        scene.host.end_streams()
        await asyncio.sleep(0)
        assert not drained.called
        scene.gate.set()
        assert (await client.rest()).endswith(b"\r\ndone\r\n0\r\n\r\n")
        await fired(drained)

    with serving() as go:
        go(test)


def test_who_receives_twice_hears_it_twice() -> None:
    """
    Two calls of ``receive`` that wait at once both hear that the client has left.
    """
    with serving() as go:

        @go
        async def _(scene: Scene) -> None:
            client = visit(scene)
            await client.request("/listens_twice")
            await until(lambda: scene.events)
            client.close()
            await until(lambda: len(scene.events) == 3)
            assert scene.events == ["listens", "http.disconnect", "http.disconnect"]


def test_a_body_in_pieces_that_is_read_late_comes_together() -> None:
    """
    What has come by the time that the application receives comes in one piece, and the rest when
    it is there.
    """
    with serving() as go:

        @go
        async def _(scene: Scene) -> None:
            client = visit(scene)
            await client.send("POST /reads_late HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            await until(lambda: scene.events)
            (protocol,) = scene.host.served()
            await client.send("abc")
            await until(lambda: len(protocol.cycle.body) == 3)
            await client.send("def")
            await until(lambda: len(protocol.cycle.body) == 6)
            scene.gate.set()
            await until(lambda: len(scene.events) == 2)
            await client.send("ghi")
            assert b"204" in await client.head()
            assert scene.events == ["reads late", "abcdef", "ghi", "False"]

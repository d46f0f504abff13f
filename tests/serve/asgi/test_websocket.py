"""
WebSockets of ASGI applications, frame by frame.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.release_desk import client_of
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.stickiness import GenerationMarks, Stickiness
from tests.hosting import Visitors, a_loop, run, some_turns, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosting import Client

TEXT, CLOSE, PING, PONG, CONTINUATION = 1, 8, 9, 10, 0

HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """
    A loop of the test's own.
    """
    with a_loop() as loop:
        yield loop


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    """
    Clients that are closed in the end.
    """
    visitors = Visitors()
    yield visitors
    visitors.close()


class Echo:
    """
    Accepts, or not, and gives back what it is sent.
    """

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.ends: list[Any] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await receive()
        if scope["path"] == "/no":
            await send({"type": "websocket.close"})
            return
        if self.gate is not None:
            await self.gate.wait()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.ends.append(message["code"])
                return
            await send({"type": "websocket.send", "text": message["text"]})


def frame(opcode: int, payload: bytes = b"", final: bool = True) -> bytes:
    """
    Make a client's frame (RFC 6455, 5.2).
    """
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([opcode | (128 if final else 0), 128 | len(payload)]) + mask + masked


def close(code: int, reason: bytes = b"") -> bytes:
    """
    Make a close frame.
    """
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


async def taken(client: Client) -> tuple[int, bytes]:
    """
    Read a server's short frame.
    """
    opcode, length = await client.taken(2)
    return opcode & 15, await client.taken(length)


def served(loop: asyncio.AbstractEventLoop, echo: Echo) -> AsgiHost:
    """
    Make a host.
    """
    return AsgiHost(echo, loop, options=AsgiOptions(lifespan="off"))


async def opened(host: AsgiHost, visitors: Visitors) -> Client:
    """
    Open a WebSocket.
    """
    client = visitors.visit(host)
    await client.request("/ws", *HANDSHAKE)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        # Autobahn's 7.1.5: between the fragments of a message (RFC 6455, 5.4).
        ([frame(TEXT, b"a", final=False), close(1000, b"bye"), frame(CONTINUATION, b"b")], 1000),
        # Its 7.5.1: a reason that is not UTF-8 (8.1).
        ([close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")], 1007),
        ([close(1000, b"\xff")], 1007),
        # Its 7.1.1 to 7.1.4.
        ([close(1001), close(1001)], 1001),
        ([close(1000), frame(PING, b"a")], 1000),
        ([close(1000), frame(TEXT, b"a")], 1000),
        # Its 7.3.1 to 7.3.6.
        ([frame(CLOSE, b"a")], 1002),
        ([close(3000, b"r" * 123)], 3000),
        # Its 7.9: codes that nobody may send (7.4).
        ([close(999)], 1002),
        ([close(1005)], 1002),
        ([close(1006)], 1002),
        ([close(1016)], 1002),
        # Text that is not UTF-8.
        ([frame(TEXT, b"\xff")], 1007),
    ],
)
@pytest.mark.parametrize("pieces", [False, True])
def test_fault_13_close_frames(
    sent: list[bytes],
    code: int,
    pieces: bool,
    loop: asyncio.AbstractEventLoop,
    visitors: Visitors,
) -> None:
    """
    Fault 13: whatever stands in a close frame, the client is told with a close frame of the
    right code (RFC 6455, 7.4.1), wherever the bytes are cut, and then the connection ends.
    """
    echo = Echo()

    async def go() -> None:
        client = await opened(served(loop, echo), visitors)
        stream = b"".join(sent)
        for piece in [stream[at : at + 1] for at in range(len(stream))] if pieces else [stream]:
            try:
                await client.send(piece)
            except OSError:
                break  # It has ended already.
            await some_turns()
        opcode, payload = await taken(client)
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        assert (await client.rest()).replace(b"<reset>", b"") == b""
        await until(lambda: echo.ends == [code])

    run(loop, go())


def test_empty_close_frame_is_answered(loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
    """
    A close frame without a code gets one without a code.
    """

    async def go() -> None:
        client = await opened(served(loop, Echo()), visitors)
        await client.send(frame(CLOSE))
        assert await taken(client) == (CLOSE, b"")

    run(loop, go())


@pytest.mark.parametrize("size", [9_000, 20_000])
@pytest.mark.parametrize("where", ["field", "target", "many"])
def test_long_handshakes_are_answered(
    where: str, size: int, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    What the limits of heads allow opens a WebSocket, although the library's are narrower.
    """
    echo = Echo()

    async def go() -> None:
        client = visitors.visit(served(loop, echo))
        path = "/" + "p" * 8_190 if where == "target" else "/"
        more = {
            "field": ["X-Long: " + "x" * size],
            "many": [f"X-{number}: y" for number in range(120)],
        }
        await client.request(path, *HANDSHAKE, *more.get(where, []))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert echo.scopes[0]["raw_path"] == path.encode()

    run(loop, go())


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", HANDSHAKE[3]], b"426"),
        ([*HANDSHAKE[:2], HANDSHAKE[3]], b"426"),
        (HANDSHAKE[:3], b"400"),
        ([*HANDSHAKE[:3], "Sec-WebSocket-Key: short"], b"400"),
    ],
)
def test_bad_handshakes_have_one_answer(
    fields: list[str], status: bytes, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Fault 1: a handshake that is refused is the last request of its connection, so what comes
    behind it is never taken for one.
    """
    echo = Echo()

    async def go() -> None:
        client = visitors.visit(served(loop, echo))
        head = "\r\n".join(["GET /ws HTTP/1.1", "Host: h", *fields, "", ""])
        await client.send(head + "GET /admin HTTP/1.1\r\nHost: h\r\n\r\n")
        answered = await client.rest()
        assert answered.startswith(b"HTTP/1.1 " + status)
        assert answered.count(b"HTTP/1.1 ") == 1
        assert echo.scopes == []

    run(loop, go())


@pytest.mark.parametrize("apart", [False, True])
def test_refused_by_the_application(
    apart: bool, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Fault 1: what comes behind a handshake that the application refuses is not executed.
    """
    echo = Echo()

    async def go() -> None:
        client = visitors.visit(served(loop, echo))
        head = "\r\n".join(["GET /no HTTP/1.1", "Host: h", *HANDSHAKE, "", ""])
        inner = "GET /admin HTTP/1.1\r\nHost: h\r\n\r\n"
        await client.send(head if apart else head + inner)
        if apart:
            await client.head()
            await client.send(inner)
        await client.rest()
        assert [scope["path"] for scope in echo.scopes] == ["/no"]

    run(loop, go())


@pytest.mark.parametrize("apart", [False, True])
def test_frames_that_come_early(
    apart: bool, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Frames of a client that does not wait for the answer to its handshake are not lost, in the
    segment of the handshake or behind it.
    """
    echo = Echo()

    async def go() -> None:
        echo.gate = asyncio.Event()
        client = visitors.visit(served(loop, echo))
        head = "\r\n".join(["GET /ws HTTP/1.1", "Host: h", *HANDSHAKE, "", ""]).encode()
        early = frame(TEXT, b"early")
        if apart:
            await client.send(head)
            await some_turns()
            await client.send(early)
        else:
            await client.send(head + early)
        await some_turns()
        echo.gate.set()
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await taken(client) == (TEXT, b"early")

    run(loop, go())


@pytest.mark.parametrize("path", ["/ws", "/"])
def test_a_newcomers_connection_is_its_clients(
    path: str, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Where workers keep the clients that they know, one whose first request has just been answered
    with a token has an open connection, and the application can say that it is done with it.
    """
    marks = GenerationMarks(lambda: 1, lambda client: b"t" + client)
    stickiness = Stickiness(
        *(parse_affinity("cookie:stickyd"), Signer([b"x" * 16]), lambda: 0, lambda ids: None),
        Networks(),
        marks=marks,
    )

    def route(head: Any, handoff: Any) -> None:
        handoff.newcomer = ""

    echo = Echo()
    host = AsgiHost(
        *(echo, loop, "app", AsgiOptions(lifespan="off")), route=route, stickiness=stickiness
    )

    async def go() -> None:
        client = visitors.visit(host)
        await client.request(path, *(HANDSHAKE if path == "/ws" else ()))
        head = await client.head()
        (token,) = re.findall(rb"(?i)set-cookie: stickyd=[^.]*\.([^.]*)\.", head)
        assert host.clients() == [b"t" + token]
        copied = dict(echo.scopes[0])
        assert client_of(copied) == b"t" + token

    run(loop, go())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70000])
@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_lengths(loop: asyncio.AbstractEventLoop, visitors: Visitors, kind: str, size: int) -> None:
    """
    Messages of every length leave in one frame each (RFC 6455, 5.2), in order.
    """
    content = "x" * size if kind == "text" else memoryview(bytearray(b"y" * size))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", kind: content})
        await send({"type": "websocket.send", "text": "behind"})
        await receive()

    async def scene() -> None:
        host = AsgiHost(app, loop, options=AsgiOptions(lifespan="off"))
        client = await opened(host, visitors)
        first, second = await client.taken(2)
        assert first == 0x80 | (TEXT if kind == "text" else 2)
        wide = {126: 2, 127: 8}.get(second, 0)
        assert wide == (0 if size < 126 else 2 if size < 65536 else 8)
        length = int.from_bytes(await client.taken(wide), "big") if wide else second
        assert length == size
        assert await client.taken(length) == (b"x" if kind == "text" else b"y") * size
        assert await taken(client) == (TEXT, b"behind")
        await client.send(close(1000))
        assert await taken(client) == (CLOSE, (1000).to_bytes(2, "big"))

    run(loop, scene())

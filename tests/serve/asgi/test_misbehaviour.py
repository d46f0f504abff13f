"""
ASGI applications that say what cannot be sent, or no more: what their clients get.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from tests.hosting import Client, Visitors, a_loop, end_abruptly, fired, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = (b"content-length", b"5")
HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def start(*headers: Any, status: Any = 200) -> dict[str, Any]:
    """
    Make the message that begins a response.
    """
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: Any = b"hello", more: bool = False) -> dict[str, Any]:
    """
    Make the message that goes on with it.
    """
    return {"type": "http.response.body", "body": data, "more_body": more}


class Scene:
    """
    An application that sends messages, one after the other.

    :ivar messages: what it sends; a callable is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
        self.messages: list[Any] = []
        self.loop = loop
        self.visitors = visitors
        self.heard: list[Any] = []
        self.host = AsgiHost(self.application, loop, options=AsgiOptions(lifespan="off"))
        run(loop, fired(self.host.start()))

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await send(start(LENGTH))
            await send(body())
            return
        for message in self.messages:
            if callable(message):
                await message(receive)
            else:
                await send(message)

    def ask(self, test: Callable[[Client], Any]) -> Any:
        """
        Run a test with a client.
        """
        return run(self.loop, test(self.visitors.visit(self.host)))

    def answer(self, *messages: Any, request: str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n") -> bytes:
        """
        Have the application send messages, and give all that the client gets for a request
        and one that is pipelined behind it.
        """
        self.messages = list(messages)

        async def go(client: Client) -> bytes:
            follower = "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            await client.send(request + follower)
            return await client.rest()

        got: bytes = self.ask(go)
        return got


@pytest.fixture
def scene() -> Iterator[Scene]:
    """
    A host, and visitors.
    """
    visitors = Visitors()
    with a_loop() as loop:
        scene = Scene(loop, visitors)
        yield scene
        visitors.close()
        run(loop, end_abruptly(scene.host))


@pytest.mark.parametrize(
    "message",
    [
        start((b"x", b"a\r\nb: c")),
        start((b"x\r\ny", b"a")),
        start((b"", b"a")),
        start((b"\xff", b"a")),
        start((b"a b", b"a")),
        start(("x", "y")),
        start((b"x", 5)),
        start(None),
        start((b"x", b"y", b"z")),
        start((b"content-length", b"-5")),
        start((b"content-length", b"1_0")),
        start(LENGTH, (b"content-length", b"7")),
        start(status=100),
        start(status=101),
        start(status=1000),
        start(status="200"),
        start(status=None),
        start(status=True),
        {"type": "http.response.start"},
        {"type": "nonsense"},
        {},
        None,
    ],
    ids=repr,
)
def test_head_that_cannot_be_sent_is_a_500(
    scene: Scene, message: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Its client gets a whole answer, and the log says why; with uvicorn's own writing some are
    an empty reply, some a head of two responses.
    """
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        got = scene.answer(message, body())
    assert got.startswith(b"HTTP/1.1 500 ")
    assert got.endswith(b"\r\n\r\nInternal Server Error")
    assert got.count(b"HTTP/1.1") == 1
    assert "Exception in ASGI application" in caplog.text


@pytest.mark.parametrize(
    ("messages", "method"),
    [
        ([start(status=204), body()], "GET"),
        ([start(LENGTH, status=204), body()], "GET"),
        ([start((b"transfer-encoding", b"chunked"), status=204), body()], "GET"),
        ([start(LENGTH, status=304), body()], "GET"),
        ([start(LENGTH), body(b"more than that")], "HEAD"),
        ([start(), body()], "HEAD"),
    ],
)
def test_body_of_what_has_none_is_not_sent(scene: Scene, messages: Any, method: str) -> None:
    """
    It would be taken for the beginning of the next response (RFC 9112, 6.3).
    """
    request = f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n"
    got = scene.answer(*messages, request=request)
    head, _, rest = got.partition(b"\r\n\r\n")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in head
    assert (b"content-length" in head) == (
        LENGTH in messages[0]["headers"] and b" 204 " not in head
    )


@pytest.mark.parametrize(
    "fields",
    [
        [LENGTH, LENGTH],
        [LENGTH, (b"Transfer-Encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [],
    ],
)
def test_response_is_framed_once(scene: Scene, fields: list[Any]) -> None:
    """
    By a length or by chunks, never by both, and by neither twice (RFC 9112, 6.2).
    """
    got = scene.answer(start(*fields), body())
    head, _, rest = got.partition(b"\r\n\r\n")
    assert head.count(b"content-length") + head.count(b"transfer-encoding") == 1
    whole = b"hello" if b"content-length" in head else b"5\r\nhello\r\n0\r\n\r\n"
    assert rest.startswith(whole + b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("data", ["hello", None, 5, [b"hello"]])
def test_body_that_is_no_bytes_cuts_the_response(scene: Scene, data: Any) -> None:
    """
    Visibly.
    """
    got = scene.answer(start(), body(b"he", more=True), body(data))
    assert got.endswith(b"2\r\nhe\r\n")


def test_failure_after_the_response_ends_nothing_else(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What fails behind a response, as background tasks do, does not cut off the next one on
    the connection, which is under way already.
    """

    async def fail(receive: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("in the background")

    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        got = scene.answer(start(LENGTH), body(), fail)
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert got.endswith(b"hello")
    assert "in the background" in caplog.text


def test_cut_off_response_to_http_1_0_does_not_look_whole(scene: Scene) -> None:
    """
    Where the end of the connection is that of the body, it is reset.
    """

    async def fail(receive: Any) -> None:
        raise ValueError("midway")

    got = scene.answer(start(), body(b"half", more=True), fail, request="GET / HTTP/1.0\r\n\r\n")
    assert got.endswith(b"<reset>")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]},
        {"type": "websocket.accept", "subprotocol": "a\r\nb: c"},
        {"type": "websocket.accept", "subprotocol": 5},
        {"type": "websocket.http.response.start", "status": 101, "headers": []},
        {"type": "websocket.http.response.start", "status": 403, "headers": [(b"", b"")]},
        {"type": "websocket.http.response.start", "status": 403, "headers": []},
        {"type": "websocket.send", "text": "too early"},
    ],
    ids=repr,
)
def test_handshake_that_cannot_be_answered_so_is_a_500(scene: Scene, message: Any) -> None:
    """
    Also one whose refusal was announced and did not come.
    """
    scene.messages = [message]

    async def go(client: Client) -> bytes:
        await client.send(HANDSHAKE)
        return await client.rest()

    got = scene.ask(go)
    assert got.startswith(b"HTTP/1.1 500 ")
    assert got.count(b"HTTP/1.1") == 1


def test_refusal_of_a_handshake_is_framed_by_us(scene: Scene) -> None:
    """
    Whatever length the application tells.
    """
    wrong = [(b"content-length", b"1"), (b"transfer-encoding", b"chunked"), (b"x", b"y")]
    scene.messages = [
        {"type": "websocket.http.response.start", "status": 403, "headers": wrong},
        {"type": "websocket.http.response.body", "body": b"no", "more_body": True},
        {"type": "websocket.http.response.body"},
    ]

    async def go(client: Client) -> Any:
        await client.send(HANDSHAKE)
        response = await client.response()
        return response, await client.rest()

    response, rest = scene.ask(go)
    assert (response.status, response.body, rest) == (403, b"no", b"")
    assert "transfer-encoding" not in response.fields
    assert response.fields["x"] == "y"


@pytest.mark.parametrize("frame", [b"\x89\x80\0\0\0\0", b"\x81\x02hi", b"\x88\x80\0\0\0\0"])
def test_nothing_stands_before_the_answer_to_a_handshake(scene: Scene, frame: bytes) -> None:
    """
    A client that sends frames at once gets their answers behind it; uvicorn puts a pong
    before the status line.
    """
    opened = asyncio.Event()

    async def wait(receive: Any) -> None:
        await opened.wait()

    scene.messages = [wait, {"type": "websocket.accept"}]

    async def go(client: Client) -> bytes:
        await client.send(HANDSHAKE.encode() + frame)
        for _ in range(20):
            await asyncio.sleep(0)
        opened.set()
        return await client.rest()

    got = scene.ask(go)
    assert got.startswith(b"HTTP/1.1 101 ")
    rest = got.partition(b"\r\n\r\n")[2]
    assert rest[:1] in (b"\x8a", b"\x88")


def test_websocket_that_is_over_says_so_each_time(scene: Scene) -> None:
    """
    An application that asks on does not wait for ever.
    """

    async def listen(receive: Any) -> None:
        for _ in range(5):
            scene.heard.append((await receive())["type"])

    scene.messages = [{"type": "websocket.accept"}, listen]

    async def go(client: Client) -> None:
        await client.send(HANDSHAKE)
        await client.head()
        client.close()
        await until(lambda: len(scene.heard) == 5)

    scene.ask(go)
    assert scene.heard[1:] == ["websocket.disconnect"] * 4

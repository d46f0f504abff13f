"""
When the head of an ASGI application's response leaves.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stickyd.handoff.frame import Handoff
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from tests.hosting import a_loop, some_turns
from tests.http_wire import GET
from tests.serve.asgi.test_strict import POST, MemoryTransport

LENGTH = (b"content-length", b"5")
EVENTS = (b"content-type", b"text/event-stream")
MORE = {"type": "http.response.body", "body": b"he", "more_body": True}
LAST = {"type": "http.response.body", "body": b"llo"}


class Scene:
    """
    An application that sends messages, and waits behind the first.

    :ivar go_on: ends that.
    :ivar protocol: a connection to it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *messages: Any) -> None:
        self.messages = messages
        self.go_on = asyncio.Event()
        host = AsgiHost(self.application, loop, options=AsgiOptions(lifespan="off"))
        self.protocol = host._make_protocol(Handoff(-1, "1.2.3.4", 5, b"k"))
        self.transport = MemoryTransport()
        self.protocol.connection_made(self.transport)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        first, *others = self.messages
        await send(first)
        await self.go_on.wait()
        for message in others:
            await send(message)

    async def feed(self, data: bytes) -> bytes:
        """
        Have the client send something.

        :return: what it has got by now.
        """
        self.protocol.data_received(data)
        await some_turns()
        return self.transport.output

    async def rest(self) -> bytes:
        """
        Let the application send the rest.

        :return: what the client has got by now.
        """
        self.go_on.set()
        await some_turns()
        return self.transport.output


def start(*fields: Any) -> dict[str, Any]:
    """
    Make the message that begins a response.
    """
    return {"type": "http.response.start", "status": 200, "headers": fields}


def test_head_waits_for_a_body_of_known_length() -> None:
    """
    It leaves with the first piece, and that of HEAD when there is none.
    """

    async def test(loop: Any) -> None:
        for request, body in ((GET, b"hello"), (b"HEAD" + GET[3:], b"")):
            scene = Scene(loop, start(LENGTH), MORE, LAST)
            assert await scene.feed(request) == b""
            got = await scene.rest()
            assert got.startswith(b"HTTP/1.1 200 OK\r\n")
            assert got.endswith(b"\r\n\r\n" + body)

    with a_loop() as loop:
        loop.run_until_complete(test(loop))


@pytest.mark.parametrize("size", [5, 16384, 16385])
def test_body_of_any_size_comes_behind_its_head(size: int) -> None:
    """
    Whether it is copied or not.
    """

    async def test(loop: Any) -> None:
        body = b"x" * size
        fields = start((b"content-length", b"%d" % size))
        scene = Scene(loop, fields, {"type": "http.response.body", "body": body})
        assert await scene.feed(GET) == b""
        head, _, rest = (await scene.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest == body

    with a_loop() as loop:
        loop.run_until_complete(test(loop))


def test_head_of_a_stream_leaves_at_once() -> None:
    """
    Without a length the response may go on for ever, and its client sees that it has begun.
    """

    async def test(loop: Any) -> None:
        scene = Scene(loop, start(), MORE, LAST)
        assert (await scene.feed(GET)).endswith(b"transfer-encoding: chunked\r\n\r\n")
        assert (await scene.rest()).endswith(b"\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")

    with a_loop() as loop:
        loop.run_until_complete(test(loop))


@pytest.mark.parametrize(
    "messages", [(), ({"type": "nonsense"},), ({**LAST, "body": b"too long"},)], ids=repr
)
def test_response_that_is_not_completed_is_cut(messages: Any) -> None:
    """
    The client gets the head that waited, and no body.
    """

    async def test(loop: Any) -> None:
        scene = Scene(loop, start(LENGTH), *messages)
        assert await scene.feed(GET) == b""
        got = await scene.rest()
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert got.endswith(b"\r\n\r\n")
        assert scene.transport.closed

    with a_loop() as loop:
        loop.run_until_complete(test(loop))


def test_broken_request_is_refused_while_the_head_waits() -> None:
    """
    Nothing was said of another answer.
    """

    async def test(loop: Any) -> None:
        scene = Scene(loop, start(LENGTH), MORE, LAST)
        assert await scene.feed(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n") == b""
        assert (await scene.feed(b"nonsense\r\n")).startswith(b"HTTP/1.1 400 ")
        assert (await scene.rest()).count(b"HTTP/1.1") == 1

    with a_loop() as loop:
        loop.run_until_complete(test(loop))


def test_event_stream_that_tells_a_length_is_ended() -> None:
    """
    At a stop, behind its head.
    """

    async def test(loop: Any) -> None:
        scene = Scene(loop, start(LENGTH, EVENTS), MORE)
        await scene.feed(GET)
        scene.protocol.end_streams()
        assert scene.transport.output.endswith(b"text/event-stream\r\n\r\n")
        assert scene.transport.closed
        assert (await scene.rest()).endswith(b"\r\n\r\n")

    with a_loop() as loop:
        loop.run_until_complete(test(loop))

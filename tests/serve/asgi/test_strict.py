"""
What the ASGI host refuses (RFC 9112), and how: exactly as the resource host does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.handoff.frame import Handoff
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.asgi.http import HttpProtocol
from stickyd.serve.http.limits import HTTPLimits
from tests.hosting import a_loop, some_turns, until
from tests.http_wire import GET, bodies
from tests.serve.http.test_strict import ACCEPTED, REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

LIMITS = HTTPLimits(head_bytes=600, head_fields=20, target_bytes=200, body_bytes=1000)
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


class MemoryTransport(asyncio.Transport):
    """
    Keeps what is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.output = b""
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.output += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Wire:
    """
    A connection to an application that reads the body and answers ``yes``.

    :ivar seen: the scopes of the requests that it has read to their end.
    :ivar gone: how many requests it was told to have lost their client.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, **limits: Any) -> None:
        self.seen: list[Any] = []
        self.gone = 0
        self.wait: asyncio.Event | None = None
        bounds = HTTPLimits(**limits) if limits else LIMITS
        host = AsgiHost(self.answer, loop, options=AsgiOptions(lifespan="off", limits=bounds))
        self.protocol: HttpProtocol = host._make_protocol(Handoff(-1, "1.2.3.4", 5, b"k"))
        self.transport = MemoryTransport()
        self.protocol.connection_made(self.transport)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            more = message["more_body"]
        if self.wait is not None:
            await self.wait.wait()
        self.seen.append(scope)
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"yes"})

    async def feed(self, data: bytes, pieces: bool = False) -> None:
        """
        Send something, whole or byte by byte, and let the application work.
        """
        for piece in [data[i : i + 1] for i in range(len(data))] if pieces else [data]:
            self.protocol.data_received(piece)
            await asyncio.sleep(0)
        await some_turns()

    def statuses(self) -> list[int]:
        return [status for status, _ in bodies(self.transport.output)]


@pytest.fixture
def go() -> Iterator[Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]]:
    """
    Runs a test in a loop, which it is given.
    """
    with a_loop("asyncio") as loop:

        def run(test: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
            loop.run_until_complete(asyncio.wait_for(test(loop), 10))

        yield run


@pytest.mark.parametrize(("status", "request_bytes"), REFUSED)
@pytest.mark.parametrize("pieces", [False, True])
def test_refused(go: Any, status: int, request_bytes: bytes, pieces: bool) -> None:
    """
    A malformed request is answered with the status that says why, and the connection
    closes; the application does not see it whole, nor anything that follows.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        await wire.feed(request_bytes, pieces)
        assert wire.statuses() == [status]
        assert b"\r\nconnection: close\r\n" in wire.transport.output
        assert wire.transport.closed
        await wire.feed(GET)
        assert wire.seen == []

    go(check)


@pytest.mark.parametrize("request_bytes", ACCEPTED)
@pytest.mark.parametrize("pieces", [False, True])
def test_accepted(go: Any, request_bytes: bytes, pieces: bool) -> None:
    """
    What RFC 9112 allows, or asks to tolerate, reaches the application.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        await wire.feed(request_bytes, pieces)
        assert (wire.statuses(), len(wire.seen)) == ([200], 1)
        assert wire.transport.closed == (b"HTTP/1.0" in request_bytes)

    go(check)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, b"Host: a.test\r\n"),
        (400, b"Host: b.test\r\n"),
        (400, b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        (413, b"Content-Length: 2000\r\n"),
        (431, b"".join(b"X%d: y\r\n" % number for number in range(20))),
    ],
)
def test_later_requests_are_checked_too(go: Any, status: int, fields: bytes) -> None:
    """
    That the host was good before does not make the rest of a head good.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        head = b"POST / HTTP/1.1\r\nHost: a.test\r\n"
        await wire.feed(head + b"\r\n" + head + fields + b"\r\n")
        assert wire.statuses() == [200, status]
        again = Wire(loop)
        for data in (head + b"\r\n", head + fields + b"\r\n"):
            await again.feed(data)
        assert again.statuses() == [200, status]
        assert len(again.seen) == 1

    go(check)


def test_authority_of_the_target_counts_more(go: Any) -> None:
    """
    The host of an absolute target takes the place of ``Host`` (RFC 9112, 3.2.2).
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        await wire.feed(b"GET http://a.test/p?q HTTP/1.1\r\nX: y\r\nHost: b.test\r\n\r\n")
        [scope] = wire.seen
        assert (scope["path"], scope["query_string"]) == ("/p", b"q")
        assert scope["headers"] == [(b"host", b"a.test"), (b"x", b"y")]

    go(check)


def test_requests_before_a_malformed_one_are_answered(go: Any) -> None:
    """
    Of pipelined requests those before the malformed one are answered, and nothing is
    written into their answers; then the connection closes.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        wire.wait = asyncio.Event()
        await wire.feed(GET + GET + b"GET / HTTP/1.1\r\nX : y\r\n\r\n")
        assert wire.transport.output == b""
        wire.wait.set()
        await some_turns()
        assert wire.statuses() == [200, 200, 400]
        assert wire.transport.closed

    go(check)


def test_broken_body_ends_its_request(go: Any) -> None:
    """
    The application hears that a request with a broken body has no client any more.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        await wire.feed(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await wire.feed(b"nonsense\r\n")
        assert (wire.statuses(), wire.gone) == ([400], 1)
        assert wire.transport.closed

    go(check)


def test_an_offer_that_nobody_takes_swallows_nothing(go: Any) -> None:
    """
    A request that offers an upgrade is served like any other, and so is the one behind it.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        await wire.feed(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET)
        assert wire.statuses() == [200, 200]

    go(check)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (b"GET / HTTP/1.1\r\nHo", {"head": 0.02}),
        (POST + b"Content-Length: 3\r\n\r\na", {"body": 0.02}),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", {"body": 0.02}),
    ],
)
def test_slow_clients_get_408(go: Any, sent: bytes, limit: dict[str, float]) -> None:
    """
    A head or a body that does not come in time is answered with 408.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop, **limit)
        await wire.feed(sent)
        await until(lambda: wire.transport.closed)
        assert (wire.statuses(), wire.seen) == ([408], [])

    go(check)


def test_time_is_counted_anew_with_each_piece_of_a_body(go: Any) -> None:
    """
    A body that keeps coming is not cut off, however long it takes as a whole.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop, body=1.0)
        await wire.feed(POST + b"Content-Length: 4\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.3)
            await wire.feed(b"a")
        assert wire.statuses() == [200]

    go(check)


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET])
def test_idle_connections_are_closed(go: Any, sent: bytes) -> None:
    """
    Without a request for too long the connection is closed, empty lines or not.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop, idle=0.05)
        await wire.feed(sent)
        await until(lambda: wire.transport.closed)
        assert wire.statuses() == ([200] if sent == GET else [])

    go(check)


def test_head_behind_another_request_is_bounded(go: Any) -> None:
    """
    A head that begins in the same piece as another request ends is bounded too, and what
    came before it does not count.
    """

    async def check(loop: Any) -> None:
        wire = Wire(loop)
        await wire.feed(
            POST + b"Content-Length: 900\r\n\r\n" + b"a" * 900 + b"GET / HTTP/1.1\r\nX:"
        )
        assert (wire.statuses(), wire.transport.closed) == ([200], False)
        await wire.feed(b"y" * 700)
        assert wire.statuses() == [200, 431]

    go(check)

"""
Every host counts each request once, by how it has ended.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from stickyd.figures.request_counts import RequestCounts, in_flight
from stickyd.figures.slot_figures import by_class, durations
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.settings import Settings
from stickyd.worker.build_host import build_host
from tests.hosting import Visitors, a_reactor, end_abruptly, fired, run, until
from tests.serve.http2.wire import POST, begun, later

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stickyd.interfaces import IHost


class Root(Resource):
    """
    Answers, fails, or waits.
    """

    isLeaf = True

    def render(self, request: Any) -> Any:
        """
        Do what the path says.
        """
        if request.path == b"/fail":
            raise ValueError("on purpose")
        if request.path == b"/wait":
            return NOT_DONE_YET
        if request.path == b"/half":
            request.write(b"half")
            return NOT_DONE_YET
        request.setResponseCode(404 if request.path == b"/missing" else 200)
        return b"body"


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    The same; a WebSocket is accepted at ``/ws``.
    """
    path = scope["path"]
    if scope["type"] == "lifespan":
        raise ValueError("there is none")
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept" if path == "/ws" else "websocket.close"})
        return
    if path == "/fail":
        raise ValueError("on purpose")
    if path == "/wait":
        await asyncio.Event().wait()
    status = 404 if path == "/missing" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": path == "/half"})
    if path == "/half":
        await asyncio.Event().wait()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """
    The same; who waits does so until its client has gone.
    """
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise ValueError("on purpose")
    start_response("404 Not Found" if path == "/missing" else "200 OK", [("X", "y")])
    return _halves() if path in ("/half", "/wait") else [b"body"]


def _halves() -> Iterator[bytes]:
    yield b"half"
    for _ in range(1000):
        time.sleep(0.01)
        yield b"more"


KINDS = {
    "resource": {"resource": "tests.serve.test_counting:Root"},
    "asgi": {"asgi": "tests.serve.test_counting:asgi"},
    "wsgi": {"wsgi": "tests.serve.test_counting:wsgi"},
}


def counted(counts: RequestCounts) -> dict[str, int]:
    """
    The classes in which something was counted.
    """
    return {name: count for name, count in by_class(counts.page).items() if count}


@pytest.mark.parametrize("kind", KINDS)
def test_each_request_counts_by_its_end(kind: str) -> None:
    """
    Whole answers with their class and duration, what is no request with its refusal, and those
    whose client has left with what their response had begun with, or as aborted.
    """
    counts = RequestCounts()
    with a_reactor() as reactor, closing(Visitors()) as visitors:
        sessions = SessionRegistry(MemorySessionStore(reactor), reactor)
        host = build_host(Settings.read(KINDS[kind]), reactor, sessions, counts=counts)
        run(reactor._asyncioEventloop, visit(host, visitors, counts, kind))
    assert in_flight(counts.page) == 0


async def visit(host: IHost, visitors: Visitors, counts: RequestCounts, kind: str) -> None:
    """
    Have everything happen once.
    """
    await fired(host.start())
    for path in ("/", "/missing"):
        client = visitors.visit(host)
        await client.request(path)
        await client.head()
        await until(lambda: in_flight(counts.page) == 0)
    assert counted(counts) == {"2xx": 1, "4xx": 1}
    client = visitors.visit(host)
    await client.request("/fail")
    await client.head()
    await until(lambda: counted(counts).get("5xx") == 1)
    client = visitors.visit(host, b"no request\r\n\r\n")
    assert b" 400 " in await client.head()
    await until(lambda: counted(counts).get("4xx") == 2)
    assert sum(durations(counts.page)) == 3
    client = visitors.visit(host)
    await client.request("/half")
    await client.head()
    assert in_flight(counts.page) == 1
    client.close()
    await until(lambda: counted(counts).get("2xx") == 2)
    if kind != "wsgi":
        client = visitors.visit(host)
        await client.request("/wait")
        await until(lambda: in_flight(counts.page) == 1)
        client.close()
        await until(lambda: counted(counts).get("aborted") == 1)
    if kind == "asgi":
        await shake_hands(host, visitors, counts)
    assert sum(durations(counts.page)) == 3 + 2 * (kind == "asgi")
    await end_abruptly(host)


async def shake_hands(host: IHost, visitors: Visitors, counts: RequestCounts) -> None:
    """
    Have a WebSocket accepted, and one refused.
    """
    fields = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    for path, name, status in (("/ws", "1xx", b"101"), ("/no", "4xx", b"403")):
        before = counted(counts).get(name, 0)
        client = visitors.visit(host)
        await client.request(path, *fields)
        assert status in await client.head()
        await until(lambda name=name, before=before: counted(counts)[name] == before + 1)  # type: ignore[misc]


def test_streams_of_http2_count_too() -> None:
    """
    Answered, refused, reset by the client, and lost with the connection.
    """
    wire = begun(later)
    counts: RequestCounts = wire.channel.context.counts
    first, second, third = wire.ask(), wire.ask(), wire.ask()
    assert in_flight(counts.page) == 3
    wire.requests[0].setResponseCode(204)
    wire.requests[0].finish()
    assert counted(counts) == {"2xx": 1}
    wire.client.reset_stream(second)
    wire.feed(wire.client.data_to_send())
    assert counted(counts) == {"2xx": 1, "aborted": 1}
    wire.requests[2].write(b"begun")
    wire.channel.connectionLost(Failure(ConnectionLost()))
    assert first < second < third
    assert counted(counts) == {"2xx": 2, "aborted": 1}
    assert sum(durations(counts.page)) == 1
    assert in_flight(counts.page) == 0


def test_request_of_http2_that_is_none_counts_once() -> None:
    """
    One that is answered without the application is begun and ended at once.
    """
    wire = begun(body_bytes=10)
    counts: RequestCounts = wire.channel.context.counts
    wire.ask([*POST, ("content-length", "20")], b"x" * 20)
    assert sum(counted(counts).values()) == 1
    assert in_flight(counts.page) == 0

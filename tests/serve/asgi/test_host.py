"""
ASGI applications, on real sockets and loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from zope.interface.verify import verifyObject

from stickyd.interfaces import IHost
from stickyd.serve.asgi.host import AsgiHost
from tests.hosting import (
    Client,
    Visitors,
    run,
    until,
)
from tests.serve.asgi.scene import NO_LIFESPAN, Application, Scene, options

# requests


def test_is_a_host(scene: Scene) -> None:
    """
    It has all that a host must have.
    """
    assert verifyObject(IHost, scene.host)


def test_answers_a_connection(scene: Scene) -> None:
    """
    A request is answered, with the Date and the Server of uvicorn, and both are counted.
    """

    async def go() -> None:
        client = scene.visit()
        response = await client.ask()
        assert (response.status, response.body) == (200, b"hello")
        assert response.fields["date"].endswith(" GMT")
        assert response.fields["server"] == "uvicorn"
        assert (scene.host.connections, scene.host.requests) == (1, 1)
        client.close()
        await until(lambda: scene.host.connections == 0)

    run(scene.loop, go())


@options(root_path="/shop")
def test_scope_tells_the_client_and_the_root_path(scene: Scene) -> None:
    """
    The application sees the adopted peer, its own prefix before the path, and the query.
    """

    async def go() -> None:
        client = scene.visit()
        # Whom to believe is not uvicorn's to decide.
        await client.ask("/a%20b?c=d", "X-Forwarded-For: 9.9.9.9", "X-Forwarded-Proto: https")
        (scope,) = scene.application.scopes
        assert scope["client"] == client.name
        assert scope["server"] == client.socket.getpeername()
        assert (scope["root_path"], scope["path"]) == ("/shop", "/shop/a b")
        assert scope["query_string"] == b"c=d"
        assert scope["scheme"] == "http"

    run(scene.loop, go())


def test_client_is_the_adopted_peer(scene: Scene) -> None:
    """
    The peer that is given counts, not the socket's own; a UNIX socket's client is nobody.
    """

    async def go() -> None:
        for peer, seen in (
            (IPv4Address("TCP", "203.0.113.9", 77), ("203.0.113.9", 77)),
            (UNIXAddress(None), None),
        ):
            handoff = scene.visit().handoff
            handoff.unread = b""
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            ours.setblocking(False)
            scene.host.adopt(theirs, peer, handoff)
            assert (await Client(ours, handoff).ask()).status == 200
            assert scene.application.scopes[-1]["client"] == seen
            ours.close()

    run(scene.loop, go())


def test_unread_bytes_come_first(scene: Scene) -> None:
    """
    A request whose beginning was read before the adoption is answered.
    """

    async def go() -> None:
        client = scene.visit(b"GET /upload HTTP/1.1\r\nHost: x\r\nContent-Len")
        await client.send("gth: 3\r\n\r\nabc")
        assert (await client.response()).body == b"3"

    run(scene.loop, go())


def test_pipelined_requests_are_answered_in_order(scene: Scene) -> None:
    """
    Three requests in one segment get three answers in their order.
    """

    async def go() -> None:
        client = scene.visit()
        head = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(head.format("/held") + head.format("/") + head.format("/boom"))
        await until(lambda: scene.application.events)
        assert len(scene.application.scopes) == 1
        scene.application.gate.set()
        statuses = [(await client.response()).status for _ in range(3)]
        assert statuses == [200, 200, 500]

    run(scene.loop, go())


def test_uploads(scene: Scene) -> None:
    """
    A body much longer than every buffer arrives whole, on a first and a second request.
    """

    async def go() -> None:
        client = scene.visit()
        for size in (3_000_000, 5):
            await client.send(f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n")
            await client.send(bytes(size))
            assert (await client.response()).body == b"%d" % size

    run(scene.loop, go())


def test_invites_the_body(scene: Scene) -> None:
    """
    A client that expects 100-continue gets it once the application asks for the body.
    """

    async def go() -> None:
        client = scene.visit()
        await client.send(
            "POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.head()).startswith(b"HTTP/1.1 100 ")
        await client.send("ab")
        assert (await client.response()).body == b"2"

    run(scene.loop, go())


def test_application_learns_that_its_client_left(scene: Scene) -> None:
    """
    An application that waits for more gets http.disconnect, on the first request too.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/poll")
        await until(lambda: scene.application.events == ["polling"])
        client.close()
        await until(lambda: scene.application.events == ["polling", "http.disconnect"])

    run(scene.loop, go())


def test_client_who_left_is_gone(scene: Scene) -> None:
    """
    A client who leaves while the application does something else is counted no more.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        client.close()
        await until(lambda: scene.host.connections == 0)

    run(scene.loop, go())


def test_date_is_renewed(
    loop: asyncio.AbstractEventLoop, visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The Date of responses follows the clock.
    """
    # So near to its end that the next second is looked for at once.
    now = [86_400.999]
    monkeypatch.setattr("stickyd.serve.asgi.host.time.time", lambda: now[0])
    scene = Scene(loop, visitors, NO_LIFESPAN)

    async def go() -> None:
        client = scene.visit()
        assert (await client.ask()).fields["date"] == "Fri, 02 Jan 1970 00:00:00 GMT"
        now[0] += 1
        date = ""
        while date != "Fri, 02 Jan 1970 00:00:01 GMT":
            date = (await client.ask()).fields["date"]

    run(loop, go())
    scene.end()


# failures


def test_exception_is_a_500_and_a_log_line(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """
    An application that raises gives 500 and its traceback in the log; others are served.
    """

    async def go() -> None:
        assert (await scene.visit().ask("/boom")).status == 500
        assert (await scene.visit().ask()).status == 200

    with caplog.at_level(logging.ERROR):
        run(scene.loop, go())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "boom"


def test_exception_in_the_middle_cuts_the_response(scene: Scene) -> None:
    """
    A response that breaks off does not look whole: its last chunk is missing.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/halfway")
        rest = await client.rest()
        assert rest.endswith(b"4\r\nhalf\r\n")

    run(scene.loop, go())


def test_nonsense_is_a_400(scene: Scene) -> None:
    """
    What is no HTTP is answered with 400 and closed.
    """

    async def go() -> None:
        client = scene.visit(b"hello, are you there?\r\n\r\n")
        assert (await client.response()).status == 400
        assert await client.rest() == b""

    run(scene.loop, go())


def test_context_variables_are_a_requests_own(scene: Scene) -> None:
    """
    What a request sets is not seen by the next one of its connection, pipelined or not.
    """
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    async def marks(receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("somebody's")
        await receive()
        await Application.answer(scene.application, receive, send)

    scene.application.marks = marks  # type: ignore[attr-defined]

    async def go() -> None:
        client = scene.visit()
        await client.ask("/marks")
        await client.send("GET /marks HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        for _ in range(2):
            await client.response()
        await client.ask("/marks")
        assert seen == ["none"] * 4

    run(scene.loop, go())


# WebSockets


def test_websocket_echo(scene: Scene) -> None:
    """
    Messages come back, short ones and one far longer than every buffer.
    """

    async def go() -> None:
        async with await scene.websocket() as socket:
            for text in ("hello", "x" * 1_000_000, ""):
                await socket.send(text)
                assert await socket.recv() == text
            assert scene.host.connections == 1
        await until(lambda: scene.host.connections == 0)
        assert scene.application.events == ["websocket 1000"]

    run(scene.loop, go())


# uvicorn


def test_environment_is_not_asked(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    How many workers uvicorn would have is nobody's business here.
    """
    monkeypatch.setenv("WEB_CONCURRENCY", "as many as you like")
    AsgiHost(Application(), loop)


def test_leaves_the_configuration_of_logging_alone(scene: Scene) -> None:
    """
    Neither the root logger nor a level that somebody chose is touched.
    """
    logger = logging.getLogger("uvicorn.error")
    handlers, level = logging.root.handlers[:], logger.level
    assert level == logging.WARNING
    logger.setLevel(logging.DEBUG)
    try:
        AsgiHost(scene.application, scene.loop)
        assert logger.level == logging.DEBUG
        assert logger.handlers == []
        assert logging.root.handlers == handlers
    finally:
        logger.setLevel(level)


def test_application_is_not_called_to_see_what_it_is(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """
    An application that could be called without arguments is not taken for a factory.
    """
    called = []

    async def application(*arguments: Any) -> None:
        called.append(arguments)

    AsgiHost(application, loop)
    assert not called
    assert not caplog.records

"""
ASGI applications, on real sockets and loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from zope.interface.verify import verifyObject

from stickyd.interfaces import IDetachable, IHost
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.asgi.http import HttpProtocol
from stickyd.serve.http.limits import HTTPLimits
from tests.hosting import (
    LOOPS,
    Client,
    Visitors,
    a_loop,
    end_abruptly,
    fired,
    run,
    some_turns,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.handoff.frame import Handoff

NO_LIFESPAN = AsgiOptions(lifespan="off")


@pytest.fixture(params=LOOPS)
def loop(request: Any) -> Iterator[asyncio.AbstractEventLoop]:
    """
    Run the test on each kind of loop.
    """
    with a_loop(request.param) as loop:
        yield loop


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    """
    Clients that are closed in the end.
    """
    visitors = Visitors()
    yield visitors
    visitors.close()


class Application:
    """
    Answers as the path says, and writes down what it meets.

    :ivar gate: what ``/held`` waits for.
    """

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.events: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self.echo(receive, send)
            return
        await getattr(self, scope["path"].strip("/"), self.answer)(receive, send)

    async def echo(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.events.append(f"websocket {message['code']}")
                return
            await send({"type": "websocket.send", "text": message["text"]})

    async def answer(self, receive: Any, send: Any, body: bytes = b"hello") -> None:
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def held(self, receive: Any, send: Any) -> None:
        self.events.append("held")
        await self.gate.wait()
        await self.answer(receive, send)

    async def upload(self, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await self.answer(receive, send, b"%d" % size)

    async def poll(self, receive: Any, send: Any) -> None:
        await receive()
        self.events.append("polling")
        self.events.append((await receive())["type"])

    async def boom(self, receive: Any, send: Any) -> None:
        raise ValueError("boom")

    async def halfway(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("halfway")

    async def after(self, receive: Any, send: Any) -> None:
        await self.answer(receive, send)
        await self.gate.wait()
        self.events.append("done after")

    async def stubborn(self, receive: Any, send: Any) -> None:
        self.events.append("stubborn")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    async def flood(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            self.events.append("sent")
        await send({"type": "http.response.body", "body": b""})


class Scene:
    """
    An application in its host, started.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, visitors: Visitors, options: AsgiOptions
    ) -> None:
        self.loop = loop
        self.application = Application()
        self.host = AsgiHost(self.application, loop, "--asgi app", options)
        self.visitors = visitors
        run(loop, fired(self.host.start()))

    def visit(self, unread: bytes = b"", key: bytes = b"k") -> Client:
        return self.visitors.visit(self.host, unread, key)

    async def websocket(self) -> ClientConnection:
        """
        Open a WebSocket.
        """
        return await connect("ws://localhost/ws", sock=self.visit().socket)

    def protocol(self) -> HttpProtocol:
        """
        The one connection's.
        """
        connections: Any = self.host._state.connections
        (protocol,) = connections
        assert isinstance(protocol, HttpProtocol)
        return protocol

    def end(self) -> None:
        """
        Abort what is left, and stop.
        """
        run(self.loop, end_abruptly(self.host))


@pytest.fixture
def scene(loop: asyncio.AbstractEventLoop, visitors: Visitors, request: Any) -> Iterator[Scene]:
    """
    The application in its host; ``indirect`` gives it options.
    """
    scene = Scene(loop, visitors, getattr(request, "param", NO_LIFESPAN))
    yield scene
    scene.end()


def options(**given: Any) -> pytest.MarkDecorator:
    """
    Give a scene options.
    """
    made = AsgiOptions(lifespan="off", **given)
    return pytest.mark.parametrize("scene", [made], indirect=True)


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
            client._read = b""
            if got < 3_000_000:
                await asyncio.sleep(0.005)
        assert got > 1000 * 65536

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


# draining


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


# giving connections away


def test_idle_between_two_requests_only(scene: Scene) -> None:
    """
    However a request is cut, its connection is idle until its head is whole, and then not
    before it is answered.
    """

    async def go() -> None:
        client = scene.visit()
        protocol = scene.protocol()
        assert verifyObject(IDetachable, protocol)
        head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        request = head + b"ab"
        for _ in range(2):
            assert protocol.idle
            for number in range(1, len(request) + 1):
                protocol.data_received(request[number - 1 : number])
                assert protocol.idle == (number < len(head)), request[:number]
            assert (await client.response()).body == b"2"
            await until(lambda: protocol.idle)

    run(scene.loop, go())


def test_not_idle_while_a_body_is_owed(scene: Scene) -> None:
    """
    An early answer does not make a connection idle: the rest of the request still comes.
    """

    async def go() -> None:
        client = scene.visit()
        protocol = scene.protocol()
        await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert (await client.response()).status == 200
        await some_turns()
        assert not protocol.idle
        with pytest.raises(RuntimeError):
            protocol.detach()
        await client.send("b")
        await until(lambda: protocol.idle)

    run(scene.loop, go())


class Taken:
    """
    What was given away.
    """

    def __init__(self) -> None:
        self.connections: list[tuple[socket.socket, bytes, Handoff]] = []

    def __call__(self, sock: socket.socket, unread: bytes, handoff: Handoff) -> None:
        self.connections.append((sock, unread, handoff))


def test_release_gives_idle_connections_at_once(scene: Scene) -> None:
    """
    An idle connection of those that go is given, and can be served elsewhere; others stay.
    """

    async def go() -> None:
        goes, stays = scene.visit(key=b"goes"), scene.visit(key=b"stays")
        await goes.ask()
        taken = Taken()
        released = scene.host.give_away(lambda handoff: handoff.key == b"goes", taken)
        assert released.called
        ((sock, unread, handoff),) = taken.connections
        assert (unread, handoff) == (b"", goes.handoff)
        assert scene.host.connections == 1
        assert (await stays.ask()).status == 200
        other = AsgiHost(scene.application, scene.loop, options=NO_LIFESPAN)
        await fired(other.start())
        other.adopt(sock, IPv4Address("TCP", handoff.host, handoff.port), handoff)
        assert (await goes.ask()).status == 200
        assert (other.connections, other.requests) == (1, 1)
        await fired(other.drain())
        await fired(other.stop())

    run(scene.loop, go())


def test_release_waits_for_requests_under_way(scene: Scene) -> None:
    """
    A busy connection is given after its response, which does not close it; then the
    release is done, even if a drain began meanwhile.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        taken = Taken()
        released = scene.host.give_away(lambda handoff: True, taken)
        drained = scene.host.drain()
        assert not released.called
        assert not taken.connections
        scene.application.gate.set()
        assert "connection" not in (await client.response()).fields
        await fired(released)
        await fired(drained)
        ((sock, unread, handoff),) = taken.connections
        assert (unread, handoff) == (b"", client.handoff)
        sock.close()

    run(scene.loop, go())


def test_release_does_not_wait_for_answers_under_way(scene: Scene) -> None:
    """
    A client that is slow to take a long response holds nobody up; his connection is given
    afterwards.
    """

    async def go() -> None:
        client = scene.visit()
        body = bytes(16_000_000)

        async def long(receive: Any, send: Any) -> None:
            await Application.answer(scene.application, receive, send, body)

        scene.application.long = long  # type: ignore[attr-defined]
        await client.request("/long")
        await until(lambda: scene.application.scopes)
        taken = Taken()
        released = scene.host.give_away(lambda handoff: True, taken)
        await fired(released)
        assert not taken.connections
        assert (await client.response()).body == body
        await until(lambda: taken.connections)
        taken.connections[0][0].close()

    run(scene.loop, go())


def test_release_does_not_wait_for_those_who_leave(scene: Scene) -> None:
    """
    A client that goes away ends the waiting for it, and one that has sent a part of a head
    is given away with that.
    """

    async def go() -> None:
        leaves = scene.visit()
        await leaves.request("/poll")
        await until(lambda: scene.application.events)
        begins = scene.visit()
        await begins.send("GET /ws HTTP/1.1\r\n")
        await some_turns()
        taken = Taken()
        released = scene.host.give_away(lambda handoff: True, taken)
        ((sock, unread, handoff),) = taken.connections
        assert (unread, handoff) == (b"GET /ws HTTP/1.1\r\n", begins.handoff)
        sock.close()
        assert not released.called
        leaves.close()
        await fired(released)
        await until(lambda: scene.host.connections == 0)

    run(scene.loop, go())


def test_release_forgets_those_who_need_not_go_any_more(scene: Scene) -> None:
    """
    A connection that does not go after all, when its response is done, stays.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        going, taken = [True], Taken()
        released = scene.host.give_away(lambda handoff: going[0], taken)
        going[0] = False
        scene.application.gate.set()
        await client.response()
        await fired(released)
        assert not taken.connections
        assert (await client.ask()).status == 200

    run(scene.loop, go())


def test_release_and_drain_close_who_need_not_go_any_more(scene: Scene) -> None:
    """
    A connection that does not go after all is closed after its response by a drain.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.events)
        going = [True]
        scene.host.give_away(lambda handoff: going[0], Taken())
        drained = scene.host.drain()
        going[0] = False
        scene.application.gate.set()
        assert (await client.response()).status == 200
        assert await client.rest() == b""
        await fired(drained)

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

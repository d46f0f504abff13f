"""
Rehoming of connections that ASGI applications have, and what is done to their requests, on
real sockets.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred
from websockets.asyncio.client import connect

import stickyd
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.claim_desk import desk
from stickyd.handoff.frame import MAX_UNREAD_BYTES
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.stickiness import Stickiness
from tests.hosting import Visitors, a_loop, fired, run, some_turns, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.affinity.peek.http1 import Head
    from stickyd.handoff.frame import Handoff

SIGNER = Signer([b"a secret of some length"])


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


class Router:
    """
    Takes connections whose requests ask for ``/away``.
    """

    def __init__(self) -> None:
        self.targets: list[bytes] = []
        self.taken: list[bytes] = []

    def __call__(self, head: Head, handoff: Handoff) -> Any:
        self.targets.append(head.target)
        return self.take if head.target.startswith(b"/away") else None

    def take(self, sock: socket.socket, unread: bytes) -> None:
        """
        Note what was read, and end the connection behind what was written.
        """
        self.taken.append(unread)
        sock.shutdown(socket.SHUT_WR)
        sock.close()


class Application:
    """
    Tells the path and the length of the body; ``/held`` waits, ``/large`` is long.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["path"]})
            await receive()
            return
        self.paths.append(scope["path"])
        size = 0
        while scope["path"] != "/early":
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        if scope["path"] == "/held":
            await self.gate.wait()
        body = b"x" * 3_000_000 if scope["path"] == "/large" else f"{scope['path']} {size}".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def routed(
    application: Any, loop: asyncio.AbstractEventLoop, router: Any, **limits: Any
) -> AsgiHost:
    """
    Make a host whose requests are routed.
    """
    options = AsgiOptions(lifespan="off", limits=HTTPLimits(**limits))
    return AsgiHost(application, loop, options=options, route=router)


def get(path: str, *fields: str, body: str = "") -> str:
    """
    Write a request.
    """
    lines = [f"GET {path} HTTP/1.1", "Host: h", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body])


def test_connection_goes_with_what_was_read(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    The head that is not ours goes with all that came behind it; the application never
    sees it.
    """
    application, router = Application(), Router()

    async def go() -> None:
        host = routed(application, loop, router)
        client = visitors.visit(host)
        away = get("/away", body="body") + get("/c")
        await client.send(get("/a", body="12345") + away)
        assert (await client.response()).body == b"/a 5"
        assert await client.rest() == b""
        assert router.taken == [away.encode()]
        assert application.paths == ["/a"]
        assert host.connections == 0

    run(loop, go())


def test_connection_waits_for_the_answers_before(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Requests before it are answered first, however long it takes, and however much it is;
    what comes meanwhile goes along.
    """
    application, router = Application(), Router()

    async def go() -> None:
        host = routed(application, loop, router)
        client = visitors.visit(host)
        await client.send(get("/held") + get("/large") + get("/away") + "more")
        await some_turns()
        await client.send(" and more")
        await some_turns()
        assert router.taken == []
        application.gate.set()
        assert (await client.response()).body == b"/held 0"
        assert len((await client.response()).body) == 3_000_000
        assert await client.rest() == b""
        assert router.taken == [get("/away").encode() + b"more and more"]

    run(loop, go())


def test_connection_that_waits_is_read_no_further_than_it_can_be_given(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    What is read while the answers before are awaited fits into a handoff.
    """
    application, router = Application(), Router()

    async def go() -> None:
        client = visitors.visit(routed(application, loop, router))
        await client.send(get("/held") + get("/away", body="b" * 300_000)[:100])
        await some_turns()
        sending = asyncio.ensure_future(client.send("b" * 300_000))
        await asyncio.sleep(0.05)
        application.gate.set()
        assert (await client.response()).body == b"/held 0"
        await until(lambda: router.taken)
        assert len(router.taken[0]) < MAX_UNREAD_BYTES
        await asyncio.wait([sending])

    run(loop, go())


@pytest.mark.parametrize("in_pieces", [False, True])
def test_fault_3_much_behind_a_request_for_another_slot(
    in_pieces: bool, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Fault 3: however much a client has pipelined behind a request for another slot, all that
    was read fits into a handoff, and what was not read is still in the socket.
    """
    application = Application()
    passed: list[bytes] = []

    def take(sock: socket.socket, unread: bytes) -> None:
        # As its new owner would.
        assert len(unread) <= MAX_UNREAD_BYTES
        passed.append(unread)
        sock.setblocking(True)
        with sock:
            while data := sock.recv(65536):
                passed.append(data)

    def route(head: Head, handoff: Handoff) -> Any:
        return take if head.target == b"/away" else None

    async def go() -> None:
        client = visitors.visit(routed(application, loop, route))
        rest = (get("/away", body="b" * 90_000) + get("/c") * 3000).encode()
        stream = get("/held", body="a" * 40_000).encode() + rest
        size = 30_000 if in_pieces else len(stream)

        async def send() -> None:
            for at in range(0, len(stream), size):
                await client.send(stream[at : at + size])
                await some_turns()
            client.socket.shutdown(socket.SHUT_WR)

        sending = asyncio.ensure_future(send())
        # The application asks again and again whether its client is still there.
        await until(lambda: application.paths)
        for _ in range(5):
            await some_turns()
        application.gate.set()
        assert (await client.response()).body == b"/held 40000"
        await until(lambda: passed)
        await sending
        assert b"".join(passed) == rest

    run(loop, go())


def test_bytes_one_by_one(loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
    """
    Heads are looked at when they are whole, once, and bodies are not taken for heads.
    """
    application, router = Application(), Router()

    async def go() -> None:
        client = visitors.visit(routed(application, loop, router))
        body = get("/away").replace("GET", "GET")
        for byte in (get("/a", body=body) + get("/b")).encode():
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.response()).body == b"/a %d" % len(body)
        assert (await client.response()).body == b"/b 0"
        assert router.targets == [b"/a", b"/b"]

    run(loop, go())


def test_part_of_a_head_goes_along_with_a_release(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    A connection that is given away in the middle of a head takes the part with it.
    """
    router = Router()

    async def go() -> None:
        host = routed(Application(), loop, router)
        client = visitors.visit(host)
        await client.ask("/a")
        await client.send("GET /b HT")
        await some_turns()
        given: list[bytes] = []

        def give(sock: socket.socket, unread: bytes, handoff: Handoff) -> None:
            sock.close()
            given.append(unread)

        await fired(host.give_away(lambda _: True, give))
        assert given == [b"GET /b HT"]

    run(loop, go())


def test_slow_head_is_refused(loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
    """
    A head that does not get whole in time is answered with 408, as without routing.
    """

    async def go() -> None:
        client = visitors.visit(routed(Application(), loop, Router(), head=0.05))
        await client.ask("/a")
        await client.send("GET /b HT")
        assert (await client.head()).startswith(b"HTTP/1.1 408 ")

    run(loop, go())


def test_what_is_no_http_is_refused(loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
    """
    Garbage is answered as without routing.
    """

    async def go() -> None:
        client = visitors.visit(routed(Application(), loop, Router()))
        await client.send("GARBAGE\r\n\r\n" + get("/away"))
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")

    run(loop, go())


def test_answer_before_the_body_is_whole(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    The rest of a body that nobody waits for any more still ends where it ends.
    """
    router = Router()

    async def go() -> None:
        client = visitors.visit(routed(Application(), loop, router))
        whole = get("/early", body="b" * 1000)
        await client.send(whole[:-500])
        assert (await client.response()).body == b"/early 0"
        await client.send(whole[-500:] + get("/away"))
        assert await client.rest() == b""
        assert router.taken == [get("/away").encode()]

    run(loop, go())


def test_websocket_is_placed_by_its_request(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Its handshake is looked at; what follows is not.
    """
    router = Router()

    async def go() -> None:
        host = routed(Application(), loop, router)
        client = visitors.visit(host)
        async with connect("ws://h/here", sock=client.socket) as websocket:
            assert await websocket.recv() == "/here"
            await websocket.send("GET /away HTTP/1.1\r\nHost: h\r\n\r\n")
        client = visitors.visit(host)
        await client.request(
            "/away", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
        )
        assert await client.rest() == b""
        assert router.targets == [b"/here", b"/away"]

    run(loop, go())


@pytest.mark.parametrize(
    "before",
    [
        "GET /first HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
        "\r\nGET /first HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n\r\nGET /first HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET  /first HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
        "BREW /first HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT /first HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        (
            "GET /first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            "Content-Length: 3\r\n\r\nabc"
        ),
    ],
)
def test_fault_2_nothing_switches_routing_off(
    before: str, loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Fault 2: whatever a client sends first, each later request that is executed here was
    looked at before, and one that belongs elsewhere is never executed here.
    """
    application, router = Application(), Router()

    async def go() -> None:
        client = visitors.visit(routed(application, loop, router))
        await client.send(before + get("/away") + get("/b"))
        await client.rest()
        assert application.paths in ([], ["/first"])
        served = b"/first" in router.targets and application.paths == ["/first"]
        assert router.taken == ([(get("/away") + get("/b")).encode()] if served else [])
        assert served == before.startswith(("GET /f", "POST", "BREW", "\r\nG"))

    run(loop, go())


def test_drain_lets_a_head_get_whole(loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
    """
    A drain in the middle of a head lets that request be answered, as the last.
    """

    async def go() -> None:
        host = routed(Application(), loop, Router())
        client = visitors.visit(host)
        await client.ask("/a")
        await client.send("GET /b HTTP/1.1\r\nHo")
        await some_turns()
        drained = fired(host.drain())
        await client.send("st: h\r\n\r\n")
        response = await client.response()
        assert (response.body, response.fields["connection"]) == (b"/b 0", "close")
        assert await client.rest() == b""
        await drained

    run(loop, go())


# stickiness


def received(
    application: Any, loop: asyncio.AbstractEventLoop, entries: str, claims: Any = None
) -> AsgiHost:
    """
    Make a host whose requests are received, in slot 1.
    """
    stickiness = Stickiness(
        parse_affinity(entries),
        SIGNER,
        lambda: 1,
        claims or (lambda _: None),
        Networks.parse("127.0.0.1"),
    )
    return AsgiHost(application, loop, options=AsgiOptions(lifespan="off"), stickiness=stickiness)


async def mirror(scope: Any, receive: Any, send: Any) -> None:
    """
    Tell what of the scope is told, and mint an id.
    """
    seen = {
        "client": scope["client"],
        "scheme": scope["scheme"],
        "id": dict(scope["headers"]).get(b"x-id", b"").decode(),
    }
    if scope["path"] == "/claim":
        stickyd.claim("claimed")
    body = json.dumps(seen)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body})
        await receive()
        return
    headers = [(b"content-length", b"%d" % len(body)), (b"x-id", b"minted")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


def test_application_sees_the_client_and_its_own_ids(
    loop: asyncio.AbstractEventLoop, visitors: Visitors
) -> None:
    """
    Behind a trusted peer the client is who that says; a stamp comes off and goes on; the
    cookie is set once.
    """

    async def go() -> None:
        host = received(mirror, loop, "cookie:stickyd,stamp:X-Id")
        client = visitors.visit(host)
        response = await client.ask("/")
        told = json.loads(response.body)
        assert told == {"client": list(client.name), "scheme": "http", "id": ""}
        assert SIGNER.unstamp(response.fields["x-id"].encode()) == (b"minted", 1)
        cookie = response.fields["set-cookie"].partition(";")[0]
        assert SIGNER.slot_of(cookie.removeprefix("stickyd=").encode()) == 1
        response = await client.ask(
            "/",
            f"Cookie: {cookie}",
            f"X-Id: {SIGNER.stamp(b'abc', 0).decode()}",
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-Proto: https",
        )
        told = json.loads(response.body)
        assert told == {"client": ["192.0.2.1", 0], "scheme": "https", "id": "abc"}
        assert "set-cookie" not in response.fields

    run(loop, go())


def test_websocket_is_received_too(loop: asyncio.AbstractEventLoop, visitors: Visitors) -> None:
    """
    The response to its handshake sets the cookie, and its scope tells the client.
    """

    async def go() -> None:
        client = visitors.visit(received(mirror, loop, "cookie:stickyd"))
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        async with connect("ws://h/", sock=client.socket, additional_headers=headers) as websocket:
            told = json.loads(await websocket.recv())
            assert websocket.response is not None
            assert websocket.response.headers["set-cookie"].startswith("stickyd=1.")
        assert told == {"client": ["192.0.2.1", 0], "scheme": "wss", "id": ""}

    run(loop, go())


@pytest.mark.parametrize("path", ["/", "/claim"])
def test_response_waits_until_the_primary_knows(
    path: str, loop: asyncio.AbstractEventLoop, visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An id in the head, and one that the application claims, are told when they are known.
    """
    answers: list[Deferred[None]] = []

    def claim(_: object) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    monkeypatch.setattr(desk, "_claiming", claim)
    monkeypatch.setattr(desk, "_in_reactor", loop.call_soon_threadsafe)
    entries = "learn:header:X-Id" if path == "/" else "learn:query:sid"

    async def go() -> None:
        client = visitors.visit(received(mirror, loop, entries, claim))
        await client.request(path)
        await until(lambda: answers)
        asking = asyncio.ensure_future(client.response())
        await some_turns()
        assert not asking.done()
        answers[0].callback(None)
        assert (await asking).status == 200

    run(loop, go())

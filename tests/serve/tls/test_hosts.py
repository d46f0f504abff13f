"""
Every kind of host over TLS, as the settings build it.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override
from zope.interface import implementer

from stickyd.handoff.frame import Flag, Handoff
from stickyd.interfaces import IDetachable
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.tls.handshake import Handshake
from stickyd.serve.tls.loop_transport import TlsLoopProtocol
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.settings import Settings
from stickyd.worker.build_host import build_host
from tests.hosting import Visitors, a_reactor, fired, run, some_turns, until
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path
    from socket import socket

    from twisted.web.server import Request

    from stickyd.interfaces import IHost

#: What waits for the test, and is told to go on.
waiting: list[Any] = []


class Told(Resource):
    """
    Tells whether the connection is secure; ``/wait`` is answered when the test says.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> Any:
        if request.path == b"/wait":
            waiting.append(request)
            return NOT_DONE_YET
        return b"secure" if request.isSecure() else b"plain"


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """
    Tells whether the connection is secure.
    """
    start_response("200 OK", [])
    return [b"secure" if environ["wsgi.url_scheme"] == "https" else b"plain"]


class Waiting:
    """
    What an ASGI application waits for.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def write(self, data: bytes) -> None:
        pass

    def finish(self) -> None:
        self._event.set()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """
    Tells whether the connection is secure; ``/wait`` is answered when the test says.
    """
    assert scope["type"] == "http"
    if scope["path"] == "/wait":
        waiting.append(Waiting())
        await waiting[-1].wait()
    body = b"secure" if scope["scheme"] == "https" else b"plain"
    start = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@implementer(IDetachable)
class Sayer(Protocol):
    """
    Answers a request by a fixed response; idle from then on.
    """

    idle = False

    @override
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure")  # type: ignore[union-attr]
        self.idle = True

    def detach(self) -> Any:
        raise AssertionError("the TLS cannot be detached")


sayers = Factory.forProtocol(Sayer)

HTTP = ["resource", "wsgi", "static", "asgi"]
KINDS = [*HTTP, "protocol"]
SLOW = ["resource", "asgi"]


class Client:
    """
    A TLS client.
    """

    def __init__(self, sock: Any, alpn: list[str]) -> None:
        self._socket = sock
        self._context = client_context()
        self._context.set_alpn_protocols(alpn)
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def shake_hands(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            sock=self._socket, ssl=self._context, server_hostname="a.test"
        )

    @property
    def agreed(self) -> Any:
        return self.writer.get_extra_info("ssl_object").selected_alpn_protocol()

    def ask(self, path: str = "/") -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())

    async def answer(self) -> tuple[bytes, bytes]:
        """
        Read a response.

        :return: its head in lower case, and its body.
        """
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b"chunked" in head:
            size = int(await self.reader.readline(), 16)
            body = await self.reader.readexactly(size)
            await self.reader.readuntil(b"0\r\n\r\n")
            return head, body
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await self.reader.readexactly(length)

    async def at_end(self) -> bool:
        """
        Whether the server ends the connection in good order, without a word.
        """
        return await self.reader.read(1) == b""

    def close(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()


class Scene:
    """
    A host on a loop, and its clients.
    """

    def __init__(self, kind: str, reactor: Any, folder: Path, given: dict[str, Any]) -> None:
        self.loop = reactor._asyncioEventloop
        self.visitors = Visitors()
        self.clients: list[Client] = []
        name = {
            "resource": "tests.serve.tls.test_hosts:Told",
            "wsgi": "tests.serve.tls.test_hosts:wsgi",
            "asgi": "tests.serve.tls.test_hosts:asgi",
            "protocol": "tests.serve.tls.test_hosts:sayers",
            "static": str(folder / "files"),
        }[kind]
        (folder / "files").mkdir()
        (folder / "files" / "index.html").write_text("secure")
        settings = Settings.read(
            {kind: name, "tls": write_certificate(folder, "a", "a.test"), **given}
        )
        sessions = SessionRegistry(MemorySessionStore(reactor), reactor)
        with warnings.catch_warnings():
            # twisted.web.static warns of itself when it is imported.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.host: IHost = build_host(settings, reactor, sessions)
        run(self.loop, fired(self.host.start()))

    def visit(self, *alpn: str) -> Client:
        client = Client(self.visitors.visit(self.host).socket, list(alpn) or ["http/1.1"])
        self.clients.append(client)
        return client

    @property
    def shaking(self) -> int:
        """
        How many handshakes are under way.
        """
        host: Any = self.host
        return sum(isinstance(each, (Handshake, TlsLoopProtocol)) for each in host._open)

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run(self.loop, test())

    def end(self) -> None:
        """
        Abort what is left, and stop.
        """

        async def finish() -> None:
            drained = self.host.drain()
            self.host.abort()
            for client in self.clients:
                client.close()
            await fired(drained)
            await fired(self.host.stop())
            await some_turns()

        run(self.loop, finish())
        self.visitors.close()


@pytest.fixture
def given() -> dict[str, Any]:
    """
    Settings besides the certificate; tests override it by a parameter.
    """
    return {}


@pytest.fixture
def scene(request: Any, tmp_path: Path, given: dict[str, Any]) -> Iterator[Scene]:
    """
    A host of the kind that the test asks for.
    """
    waiting.clear()
    with a_reactor() as reactor:
        made = Scene(request.param, reactor, tmp_path, given)
        yield made
        made.end()


def of_kinds(*kinds: str) -> pytest.MarkDecorator:
    """
    Run a test with these kinds of hosts.
    """
    return pytest.mark.parametrize("scene", kinds, indirect=True)


@of_kinds(*KINDS)
def test_served(scene: Scene) -> None:
    """
    Every kind of host serves over TLS, knows that it does, and counts the connection from
    the handshake to its end.
    """

    async def check() -> None:
        client = scene.visit()
        assert scene.host.connections == 1
        await client.shake_hands()
        for _ in range(2):
            client.ask()
            assert (await client.answer())[1] == b"secure"
        assert scene.host.connections == 1
        client.close()
        await until(lambda: scene.host.connections == 0)

    scene.run(check)


@of_kinds("resource", "static", "wsgi", "asgi")
def test_protocol_is_agreed_on(scene: Scene) -> None:
    """
    Who prefers HTTP/2 gets it, but not from an ASGI application; who knows none of ours is
    spoken to in HTTP/1.1.
    """

    async def check() -> None:
        asgi = not hasattr(scene.host, "site")
        for offered, agreed in (
            (("h2", "http/1.1"), "http/1.1" if asgi else "h2"),
            (("http/1.1",), "http/1.1"),
        ):
            client = scene.visit(*offered)
            await client.shake_hands()
            assert client.agreed == agreed
            if agreed == "h2":
                # Its SETTINGS, the first that an HTTP/2 server says.
                assert (await client.reader.readexactly(9))[3:5] == b"\x04\x00"

    scene.run(check)


@of_kinds("resource")
@pytest.mark.parametrize("given", [{"http2": "off"}])
def test_http2_can_be_off(scene: Scene) -> None:
    """
    With ``--http2 off`` nobody is offered it.
    """

    async def check() -> None:
        client = scene.visit("h2", "http/1.1")
        await client.shake_hands()
        assert client.agreed == "http/1.1"

    scene.run(check)


def never(*arguments: Any) -> None:
    """
    Take a connection that was given away: which idle TLS connections never are.
    """
    raise AssertionError("a TLS connection was given away")


@of_kinds(*KINDS)
def test_idle_connections_are_closed_at_a_release(scene: Scene) -> None:
    """
    A connection between two requests is closed, not given away: its TLS lives here.
    """

    async def check() -> None:
        going, staying = scene.visit(), scene.visit()
        for client in (going, staying):
            await client.shake_hands()
            client.ask()
            await client.answer()
        leaves = going._socket.getsockname()[1]
        await fired(scene.host.give_away(lambda handoff: handoff.port == leaves, never))
        assert await going.at_end()
        staying.ask()
        assert (await staying.answer())[1] == b"secure"

    scene.run(check)


@of_kinds(*SLOW)
def test_request_under_way_is_finished(scene: Scene) -> None:
    """
    At a release the request under way is answered, the answer says that it is the last, and
    the connection ends in good order.
    """

    async def check() -> None:
        client = scene.visit()
        await client.shake_hands()
        client.ask("/wait")
        await until(lambda: waiting)
        scene.host.give_away(lambda handoff: True, never)
        drained = scene.host.drain()
        await some_turns()
        assert not drained.called
        waiting[0].write(b"")
        waiting[0].finish()
        head = (await client.reader.readuntil(b"\r\n\r\n")).lower()
        assert b"\r\nconnection: close\r\n" in head
        await client.reader.read()
        await fired(drained)

    scene.run(check)


@of_kinds(*HTTP)
@pytest.mark.parametrize("shaken", [False, True])
def test_first_request_is_served_while_draining(scene: Scene, shaken: bool) -> None:
    """
    Who has just shaken hands when a drain begins, or is about to, gets one answer.
    """

    async def check() -> None:
        client = scene.visit()
        if shaken:
            await client.shake_hands()
            # The server has to read the end of the handshake yet.
            await until(lambda: not scene.shaking)
        drained = scene.host.drain()
        if not shaken:
            await client.shake_hands()
        client.ask()
        head, body = await client.answer()
        assert body == b"secure"
        assert b"\r\nconnection: close\r\n" in head
        assert await client.at_end()
        await fired(drained)

    scene.run(check)


@of_kinds("resource", "wsgi", "static")
@pytest.mark.parametrize("shaken", [False, True])
def test_last_request_goes_where_the_session_went(scene: Scene, shaken: bool) -> None:
    """
    At a release the next request is given away with the plain text of its connection, and
    whoever takes it answers that it was the last.
    """
    given: list[Handoff] = []

    def give(sock: socket, unread: bytes, handoff: Handoff) -> None:
        given.append(handoff)
        taken = Handoff(-1, handoff.host, handoff.port, b"", unread, flags=handoff.flags)
        taken.local = handoff.local
        scene.host.adopt(sock, IPv4Address("TCP", handoff.host, handoff.port), taken)

    async def check() -> None:
        client = scene.visit()
        if shaken:
            await client.shake_hands()
            client.ask()
            await client.answer()
        await fired(scene.host.give_away(lambda handoff: True, give))
        if not shaken:
            await client.shake_hands()
        assert not given
        client.ask()
        head, body = await client.answer()
        assert given[0].flags == Flag.SECURE | Flag.LAST
        assert body == b"secure"
        assert b"\r\nconnection: close\r\n" in head
        assert await client.at_end()

    scene.run(check)


@of_kinds(*HTTP)
def test_silent_client_does_not_hold_up_a_drain(scene: Scene) -> None:
    """
    Who has shaken hands and asks for nothing is let go soon.
    """
    limits = HTTPLimits(first=0.05)
    host: Any = scene.host
    context = host.site.context if hasattr(host, "site") else host._context
    context.limits = limits

    async def check() -> None:
        client = scene.visit()
        await client.shake_hands()
        drained = scene.host.drain()
        assert await client.at_end()
        await fired(drained)

    scene.run(check)


@of_kinds(*KINDS)
@pytest.mark.parametrize("shaken", [False, True])
def test_abort(scene: Scene, shaken: bool) -> None:
    """
    An abort ends every connection at once, in the middle of a handshake too.
    """

    async def check() -> None:
        client = scene.visit()
        if shaken:
            await client.shake_hands()
        drained = scene.host.drain()
        scene.host.abort()
        await fired(drained)
        assert scene.host.connections == 0
        if not shaken:
            with pytest.raises(ConnectionResetError):
                await scene.loop.sock_recv(client._socket, 1)

    scene.run(check)


@of_kinds(*KINDS)
def test_client_that_gives_up_its_handshake_holds_up_nothing(scene: Scene) -> None:
    """
    A drain ends with a handshake that the client breaks off.
    """

    async def check() -> None:
        client = scene.visitors.visit(scene.host)
        drained = scene.host.drain()
        await some_turns()
        assert not drained.called
        client.close()
        await fired(drained)
        assert scene.host.connections == 0

    scene.run(check)


@of_kinds(*HTTP)
@pytest.mark.parametrize("given", [{"body_bytes": 10}])
def test_fault_43_refused_client_gets_its_answer(scene: Scene) -> None:
    """
    Fault 43: a client that sends all of its body before it reads gets the 413, over TLS too.
    """

    async def check() -> None:
        client = scene.visit()
        await client.shake_hands()
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4000000\r\n\r\n")
        for _ in range(40):
            client.writer.write(bytes(100_000))
            await client.writer.drain()
        head, _ = await client.answer()
        assert head.startswith(b"http/1.1 413 ")

    scene.run(check)


@of_kinds(*HTTP)
def test_plain_http_is_refused(scene: Scene) -> None:
    """
    A client that does not speak TLS is not served, and does not stay.
    """

    async def check() -> None:
        client = scene.visitors.visit(scene.host)
        await client.request()
        assert b"200" not in await client.rest()
        await until(lambda: scene.host.connections == 0)

    scene.run(check)

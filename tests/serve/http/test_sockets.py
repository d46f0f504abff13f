"""
Tests of the channel over real connections, with clients that are not ours.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import warnings
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # it has no annotations
import twisted.test
import websockets.sync.client
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.websocket import WebSocketResource

from stickyd.serve.http import HTTPContext, HTTPLimits, HTTPSite
from tests.http_wire import Answer, echo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_PEM = Path(twisted.test.__file__).parent / "server.pem"
_loop: Any = reactor


with warnings.catch_warnings():
    # It uses, at import, what Twisted itself has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from twisted.web.static import File


def in_reactor(test: Callable[..., Any]) -> Callable[..., None]:
    """
    Run a coroutine as a test.
    """
    wrapped: Callable[..., None] = pytest_twisted.ensureDeferred(test)
    return wrapped


@asynccontextmanager
async def _serving(root: Any, tls: bool = False, **limits: Any) -> AsyncIterator[int]:
    """
    Serve a resource, and give the port.
    """
    site = HTTPSite(root, HTTPContext(_loop, HTTPLimits(**limits)))
    if tls:
        options = PrivateCertificate.loadPEM(_PEM.read_bytes()).options()
        port = _loop.listenSSL(0, site, options, interface="127.0.0.1")
    else:
        port = _loop.listenTCP(0, site, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        site.context.deadlines.stop()


def _talk(port: int, data: bytes, tls: bool = False) -> bytes:
    """
    Send something, then read to the end; a reset is an error.
    """
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        sock: socket.socket = plain
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = context.wrap_socket(plain)
        with sock:
            sock.sendall(data)
            received = b""
            while more := sock.recv(65536):
                received += more
            return received


async def _ask(client: Callable[..., Any], *arguments: Any) -> Any:
    return await deferToThread(client, *arguments)


@in_reactor
async def test_refusal_can_be_read() -> None:
    """
    A client that is still sending when it is refused reads the whole answer and an
    orderly end, not a reset.
    """
    async with _serving(Answer(echo), body_bytes=10) as port:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
        output = await _ask(_talk, port, head + b"x" * 300000)
        assert output.startswith(b"HTTP/1.1 413 ")
        assert output.endswith(b"\r\n\r\n413 Request Entity Too Large\n")
        output = await _ask(_talk, port, b"bad\r\n\r\n" + b"x" * 100000)
        assert output.endswith(b"\r\n\r\n400 Bad Request\n")


# Twisted 26.10 passes pyOpenSSL what that has deprecated.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@in_reactor
async def test_tls() -> None:
    """
    Over TLS requests are known to be secure, and refusals can be read.
    """
    root = Answer(lambda request: b"%d" % request.isSecure())
    async with _serving(root, tls=True) as port:
        close = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert (await _ask(_talk, port, close, True)).endswith(b"\r\n\r\n1")
        output = await _ask(_talk, port, b"bad\r\n\r\n", True)
        assert output.endswith(b"\r\n\r\n400 Bad Request\n")


class _Endless:
    """
    A pull producer of a gigabyte.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        self.produced = 0
        request.setHeader(b"content-length", b"%d" % (1 << 30))
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Produce a little of it.
        """
        self.produced += 65536
        self.request.write(b"x" * 65536)

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        The connection is lost.
        """


@in_reactor
async def test_memory_is_bounded_for_a_client_that_does_not_read() -> None:
    """
    Of a gigabyte for a client that does not read, no more is produced than the kernel
    takes and one buffer; and the application learns when the client gives up.
    """
    producers: list[_Endless] = []
    lost: Deferred[Any] = Deferred()

    def answer(request: Any) -> int:
        producers.append(_Endless(request))
        request.notifyFinish().addErrback(lambda failure: lost.callback(None))
        return NOT_DONE_YET

    async with _serving(Answer(answer)) as port:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await _ask(client.connect, ("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        # Until nothing more is produced although the loop has turned often.
        before, turns = -1, 0
        while turns < 50:
            produced = producers[0].produced if producers else 0
            turns = turns + 1 if produced == before and produced else 0
            before = produced
            await deferLater(_loop, 0.002)
        assert 0 < before < 32 << 20
        assert producers[0].request.channel._output.full
        client.close()
        await lost


@in_reactor
async def test_static_files(tmp_path: Path) -> None:
    """
    twisted.web.static serves files, parts of files, and nothing that has not changed.
    """
    content = bytes(range(256)) * 1200
    (tmp_path / "f.bin").write_bytes(content)

    def client(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

        def get(method: str = "GET", **fields: str) -> tuple[int, Any, bytes]:
            connection.request(method, "/f.bin", headers=fields)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

        status, headers, body = get()
        assert (status, body) == (200, content)
        assert headers["Content-Length"] == str(len(content))
        assert get(Range="bytes=10-19")[::2] == (206, content[10:20])
        assert get(Range="bytes=-5")[::2] == (206, content[-5:])
        assert get(Range="bytes=999999-")[0] == 416
        status, parts, body = get(Range="bytes=0-1,5-6")
        assert status == 206
        assert parts["Content-Type"].startswith("multipart/byteranges")
        assert content[5:7] in body
        assert get("HEAD")[::2] == (200, b"")
        assert get(**{"If-Modified-Since": headers["Last-Modified"]})[::2] == (304, b"")
        assert get()[2] == content
        connection.close()

    async with _serving(File(str(tmp_path))) as port:
        await _ask(client, port)


@in_reactor
async def test_klein() -> None:
    """
    A Klein application is served: routes, forms, coroutines, errors and branches.
    """
    app: Any = Klein()

    def hello(request: Any, name: str) -> str:
        request.setHeader("X-Client", request.getClientAddress().host)
        return f"hello {name}"

    async def late(request: Any) -> bytes:
        await deferLater(_loop, 0)
        found: bytes = request.args[b"a"][0]
        return found

    def boom(request: Any) -> bytes:
        raise KeyError

    def handle(request: Any, failure: Any) -> bytes:
        request.setResponseCode(418)
        return b"caught"

    def files(request: Any) -> Any:
        root = Resource()
        root.putChild(b"x", Answer(echo))
        return root

    app.route("/hello/<name>")(hello)
    app.route("/late", methods=["POST"])(late)
    app.route("/boom")(boom)
    app.handle_errors(KeyError)(handle)
    app.route("/files/", branch=True)(files)

    def client(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

        def ask(method: str, path: str, body: str | None = None) -> tuple[int, Any, bytes]:
            fields = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return response.status, response.headers["X-Client"], response.read()

        assert ask("GET", "/hello/you") == (200, "127.0.0.1", b"hello you")
        assert ask("POST", "/late", "a=1") == (200, None, b"1")
        assert ask("GET", "/boom") == (418, None, b"caught")
        assert ask("GET", "/files/x") == (200, None, b"GET /files/x ")
        assert ask("GET", "/none")[0] == 404
        connection.close()

    async with _serving(app.resource()) as port:
        await _ask(client, port)


class _Shout:
    """
    A WebSocket protocol that shouts back.
    """

    def buildProtocol(self, request: Any) -> _Shout:  # noqa: N802 - Twisted's name
        """
        Serve the connection.
        """
        return self

    def negotiationStarted(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Remember the transport.
        """
        self._transport = transport

    def negotiationFinished(self) -> None:  # noqa: N802 - Twisted's name
        """
        Greet.
        """
        self._transport.sendTextMessage("hi")

    def textMessageReceived(self, message: str) -> None:  # noqa: N802 - Twisted's name
        """
        Shout.
        """
        self._transport.sendTextMessage(message.upper())

    def connectionLost(self, reason: object) -> None:  # noqa: N802 - Twisted's name
        """
        Over.
        """


@in_reactor
async def test_websocket() -> None:
    """
    twisted.web.websocket takes the connection over, after requests on the same site.
    """

    def client(port: int) -> list[Any]:
        address = f"ws://127.0.0.1:{port}/"
        with websockets.sync.client.connect(address, compression=None, proxy=None) as connection:
            heard = [connection.recv(20)]
            for size in (3, 100000):
                connection.send("a" * size)
                answer = ""
                # Twisted before 26.4 gives a long message to its protocol in pieces.
                while len(answer) < size:
                    answer += str(connection.recv(20))
                heard.append(answer)
            return heard

    factory: Any = _Shout()
    async with _serving(_Root(WebSocketResource(factory))) as port:
        assert await _ask(client, port) == ["hi", "AAA", "A" * 100000]


class _Root(Resource):
    def __init__(self, child: Any) -> None:
        super().__init__()
        self.putChild(b"", child)

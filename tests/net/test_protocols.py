# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Much of Twisted's web and AMP is not annotated.)
"""
Real protocols of Twisted and uvicorn on the transport.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
import wsproto
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from uvicorn.server import ServerState
from wsproto.events import AcceptConnection, Request, TextMessage

from stickyd.net.asyncio_transport import LoopTransport
from stickyd.net.twisted_transport import SocketTransport
from tests.transport_harness import (
    EVERYTHING,
    Drive,
    LoopDrive,
    make_drive,
    receive,
    socket_pair,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket

pytest_plugins = ("tests.transport_fixtures",)

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class Hello(Resource):
    """
    Says hello.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"hello"


class Streaming(Resource):
    """
    Sends blocks until it is paused, and goes on when it is resumed.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        self.request = request
        self.left = 100
        self.pauses = 0
        request.registerProducer(self, True)
        self.resumeProducing()
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        pauses = self.pauses
        while self.left and self.pauses == pauses:
            self.left -= 1
            self.request.write(bytes(100_000))
        if not self.left and self.pauses == pauses:
            self.request.unregisterProducer()
            self.request.finish()

    def pauseProducing(self) -> None:
        self.pauses += 1

    def stopProducing(self) -> None:
        self.left = 0


def serve_site(drive: Drive, resource: Any) -> socket:
    """
    Serve a connection with the stock twisted.web.
    """
    site = Site(resource, reactor=Clock())
    server, client, peer = socket_pair()
    SocketTransport(drive.readiness, server, peer).start(site.buildProtocol(peer))
    return client


def test_stock_site_keeps_alive(drive: Drive) -> None:
    """
    twisted.web answers one request after the other, and several sent in one go.
    """
    client = serve_site(drive, Hello())
    client.sendall(GET)
    length = 0
    while not length:
        drive.turn()
        client.setblocking(False)
        try:
            length = len(client.recv(10_000))
        except BlockingIOError:
            continue
    client.sendall(GET + GET + GET_AND_CLOSE)
    answers = receive(drive, client, EVERYTHING)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.endswith(b"\r\n\r\nhello")
    client.close()


def test_stock_site_streams(drive: Drive) -> None:
    """
    A streamed response of twisted.web arrives whole, through its producer.
    """
    streaming = Streaming()
    client = serve_site(drive, streaming)
    client.sendall(GET_AND_CLOSE)
    assert receive(drive, client, EVERYTHING).count(b"\x00") == 10_000_000
    assert streaming.pauses > 1
    client.close()


class Add(amp.Command):
    """
    Adds two numbers.
    """

    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]  # noqa: RUF012 - AMP's type
    response = [(b"sum", amp.Integer())]  # noqa: RUF012 - AMP's type


class Adding(amp.AMP):
    """
    Adds what it is asked to add.
    """

    @Add.responder
    def add(self, a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}


def test_amp_on_both_sides(drive: Drive, family: str) -> None:
    """
    Two of our transports carry AMP between them.
    """
    server, client, peer = socket_pair(family)
    client.setblocking(False)
    caller = amp.AMP()
    ours = SocketTransport(drive.readiness, client, peer)
    SocketTransport(drive.readiness, server, peer).start(Adding())
    ours.start(caller)
    answers: list[Any] = []
    for number in range(50):
        caller.callRemote(Add, a=number, b=1).addCallback(answers.append)
    drive.until(lambda: len(answers) == 50)
    assert [answer["sum"] for answer in answers] == list(range(1, 51))
    ours.loseConnection()
    drive.until(lambda: ours.disconnected)
    drive.turns()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """
    Tell the scope; echo WebSocket messages in capitals.
    """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"].upper()})
        await send({"type": "websocket.close"})
        return
    text = f"{scope['scheme']} {scope['client']} {scope['server'][0]}".encode()
    length = (b"content-length", b"%d" % len(text))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": text})


class Uvicorn:
    """
    uvicorn's protocols in a loop of the test's own.
    """

    def __init__(self, drive: LoopDrive, websockets: Any) -> None:
        self.drive = drive
        self._config = uvicorn.Config(
            application, http="httptools", ws=websockets, lifespan="off", log_config=None
        )
        self._config.load()
        self._state = ServerState()

    def make_protocol(self) -> Any:
        factory: Any = self._config.http_protocol_class
        return factory(
            config=self._config, server_state=self._state, app_state={}, _loop=self.drive.loop
        )

    def serve(self) -> tuple[socket, Any, LoopTransport]:
        """
        Connect a client; the server starts in the loop, as it does in a worker.
        """
        server, client, peer = socket_pair()
        transport = LoopTransport(self.drive.readiness, server, peer)
        self.drive.loop.call_soon(lambda: transport.start(self.make_protocol()))
        return client, server, transport


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_drive(request: Any) -> Iterator[LoopDrive]:
    """
    Run the test on each kind of asyncio loop.
    """
    drive = make_drive(request.param)
    assert isinstance(drive, LoopDrive)
    asyncio.set_event_loop(drive.loop)
    yield drive
    asyncio.set_event_loop(None)
    drive.close()


def test_uvicorn_answers(loop_drive: LoopDrive) -> None:
    """
    Uvicorn answers with the transport's addresses, in one send for each response.
    """
    client, server, transport = Uvicorn(loop_drive, "none").serve()
    host, port = client.getsockname()
    client.sendall(GET)
    loop_drive.until(lambda: "sendmsg" in server.calls)
    client.sendall(GET_AND_CLOSE)
    answers = receive(loop_drive, client, EVERYTHING)
    assert answers.count(f"http ('{host}', {port}) 127.0.0.1".encode()) == 2
    assert server.calls.count("sendmsg") == 2
    assert "send" not in server.calls
    loop_drive.until(lambda: transport.disconnected)
    client.close()


@pytest.mark.parametrize("kind", ["wsproto", "websockets-sansio"])
def test_uvicorn_websocket(loop_drive: LoopDrive, kind: str) -> None:
    """
    A WebSocket upgrade moves the connection to another protocol, which works.
    """
    client, _server, transport = Uvicorn(loop_drive, kind).serve()
    talker = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    client.sendall(talker.send(Request(host="here", target="/")))
    client.setblocking(False)
    events: list[Any] = []

    def heard(kind: type) -> bool:
        try:
            talker.receive_data(client.recv(10_000) or None)
            events.extend(talker.events())
        except BlockingIOError:
            pass
        return any(isinstance(event, kind) for event in events)

    loop_drive.until(lambda: heard(AcceptConnection))
    client.sendall(talker.send(TextMessage(data="hello")))
    loop_drive.until(lambda: heard(TextMessage))
    texts = [event.data for event in events if isinstance(event, TextMessage)]
    assert "".join(texts) == "HELLO"
    client.close()
    loop_drive.until(lambda: transport.disconnected)
    loop_drive.turns()

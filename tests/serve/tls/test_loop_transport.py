from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from uvicorn.server import ServerState

from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.tls.loop_transport import TlsLoopProtocol
from stickyd.serve.tls.server import ServerTls
from tests.tls_harness import TlsClient, client_context, write_certificate
from tests.transport_harness import EVERYTHING, LoopDrive, make_drive, socket_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class LoopServer:
    """
    asyncio protocols over TLS, on a loop of the test's own.
    """

    def __init__(self, drive: LoopDrive, tls: ServerTls) -> None:
        self.drive = drive
        self.tls = tls

    def connect(self, make_protocol: Callable[[], asyncio.Protocol]) -> TlsClient:
        """
        Serve a protocol to a new client, which has shaken hands.
        """
        server, client, peer = socket_pair()
        transport = SocketTransport(self.drive.readiness, server, peer)
        accepted = self.tls.accept(lambda tls: TlsLoopProtocol(make_protocol))
        self.drive.loop.call_soon(transport.start, accepted)
        talker = TlsClient(self.drive, client, client_context())
        talker.shake_hands()
        return talker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopServer]:
    """
    Serve with a certificate on uvloop, as workers do.
    """
    drive = make_drive("uvloop")
    assert isinstance(drive, LoopDrive)
    asyncio.set_event_loop(drive.loop)
    reactor: Any = AsyncioSelectorReactor(drive.loop)
    yield LoopServer(drive, ServerTls(reactor, [write_certificate(tmp_path, "a", "a.test")]))
    reactor.removeReader(reactor.waker)
    reactor.waker.connectionLost(None)
    asyncio.set_event_loop(None)
    drive.close()


class Recorder(asyncio.Protocol):
    """
    Writes down what its transport tells it, and sends everything back.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.errors: list[Exception | None] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


async def application(scope: Any, receive: Any, send: Any) -> None:
    """
    Tell the scope.
    """
    text = f"{scope['scheme']} {scope['client'][0]} {scope['server'][0]}".encode()
    length = (b"content-length", b"%d" % len(text))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": text})


def test_uvicorn_over_tls(server: LoopServer) -> None:
    """
    An ASGI application is served over TLS and told that its scheme is https.
    """
    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", log_config=None
    )
    config.load()
    state = ServerState()
    factory: Any = config.http_protocol_class

    def make_protocol() -> asyncio.Protocol:
        protocol: asyncio.Protocol = factory(
            config=config, server_state=state, app_state={}, _loop=server.drive.loop
        )
        return protocol

    client = server.connect(make_protocol)
    client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
    answers = client.read(EVERYTHING)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.endswith(b"https 127.0.0.1 127.0.0.1")
    server.drive.until(lambda: not state.connections)
    client.close()


def test_nothing_waits_for_the_garbage_collector(server: LoopServer) -> None:
    """
    What a connection was made of is freed when it is over.
    """
    made: list[weakref.ref[Any]] = []
    lost: list[bool] = []

    class Ending(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(True)

    def make_protocol() -> asyncio.Protocol:
        protocol = Ending()
        made.append(weakref.ref(protocol))
        return protocol

    client = server.connect(make_protocol)
    client.send(b"x")
    assert client.read(1) == b"x"
    gc.disable()
    try:
        made += [weakref.ref(made[0]().transport), weakref.ref(made[0]().transport._tls)]  # type: ignore[union-attr]
        made[0]().transport.close()  # type: ignore[union-attr]
        server.drive.until(lambda: lost)
        server.drive.turns()
        assert [reference() for reference in made] == [None] * 3
    finally:
        gc.enable()
        client.close()


def test_protocol_meets_a_finished_handshake(server: LoopServer) -> None:
    """
    When the protocol is connected, everything about the connection can be asked.
    """
    told: dict[str, Any] = {}

    class Asking(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            for name in ("peername", "sockname", "sslcontext", "ssl_object", "cipher"):
                told[name] = transport.get_extra_info(name)
            told["socket"] = transport.get_extra_info("socket").getpeername()

    protocol = Asking()
    client = server.connect(lambda: protocol)
    server.drive.until(lambda: told)
    assert told["peername"][0] == told["sockname"][0] == "127.0.0.1"
    assert told["socket"] == told["peername"]
    assert told["ssl_object"].get_cipher_name()
    assert told["sslcontext"] is told["ssl_object"].get_context()
    assert told["cipher"] is None
    client.send(b"hello")
    assert client.read(5) == b"hello"
    client.close()
    server.drive.until(lambda: "lost" in protocol.events)
    assert protocol.events == ["made", "lost"]
    assert protocol.errors[0] is not None
    assert protocol.transport.get_extra_info("ssl_object", "gone") == "gone"


def test_flow_control_and_close(server: LoopServer) -> None:
    """
    A slow reader pauses the protocol; close() still sends everything.
    """
    protocol = Recorder()
    client = server.connect(lambda: protocol)
    server.drive.until(lambda: protocol.events)
    transport = protocol.transport
    written = 0
    while "pause" not in protocol.events:
        transport.writelines([bytes(100_000), bytearray(100_000)])
        written += 200_000
        server.drive.turn()
    assert transport.get_write_buffer_size() > 0
    assert client.read(written) == bytes(written)
    server.drive.until(lambda: "resume" in protocol.events)
    transport.write(b"the end")
    transport.close()
    transport.close()
    assert transport.is_closing()
    transport.write(b"dropped")
    assert client.read(EVERYTHING) == b"the end"
    server.drive.until(lambda: "lost" in protocol.events)
    assert protocol.events == ["made", "pause", "resume", "lost"]
    assert protocol.errors == [None]
    client.close()


def test_abort_and_replaced_protocol(server: LoopServer) -> None:
    """
    The protocol can be replaced; abort() ends the connection at once.
    """
    first, second = Recorder(), Recorder()
    client = server.connect(lambda: first)
    server.drive.until(lambda: first.events)
    transport = first.transport
    second.transport = transport
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.pause_reading()
    assert not transport.is_reading()
    client.send(b"hello")
    server.drive.turns()
    assert second.data == b""
    transport.resume_reading()
    assert transport.is_reading()
    assert client.read(5) == b"hello"
    assert not transport.can_write_eof()
    transport.abort()
    server.drive.until(lambda: "lost" in second.events)
    assert first.events == ["made"]
    assert isinstance(second.errors[0], Exception)
    client.close()


def test_failed_handshake(server: LoopServer) -> None:
    """
    No protocol is made for a client that does not speak TLS.
    """
    made: list[Recorder] = []

    def make_protocol() -> Recorder:
        made.append(Recorder())
        return made[-1]

    plain, client, peer = socket_pair()
    accepted = server.tls.accept(lambda tls: TlsLoopProtocol(make_protocol))
    transport = SocketTransport(server.drive.readiness, plain, peer)
    transport.start(accepted)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    server.drive.until(lambda: transport.disconnected)
    assert made == []
    client.close()

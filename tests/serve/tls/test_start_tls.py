"""
TLS on a connection that has begun without.
"""

# mypy: allow-untyped-calls
# (Twisted's TLS is not annotated throughout.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport, ITLSTransport
from zope.interface.verify import verifyObject

from stickyd.handoff.frame import Handoff
from stickyd.serve.protocol import ServedTransport
from stickyd.serve.tls.server import ServerTls
from tests.channels import open_sockets
from tests.tls_harness import TlsClient, client_context, write_certificate
from tests.transport_harness import (
    LoopDrive,
    Push,
    Recorder,
    make_drive,
    receive,
    socket_pair,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport_harness import Drive

STARTTLS = b"STARTTLS\r\n"


class Scene:
    """
    A protocol that starts TLS at its client's word, and sends back everything else.
    """

    def __init__(self, drive: Drive, reactor: Any, certificate: str) -> None:
        self.drive = drive
        self._context = ServerTls(reactor, [certificate], ())
        self.ended: list[ServedTransport] = []
        self.protocol = Recorder(self._hear)
        sock, self.client, peer = socket_pair()
        handoff = Handoff(-1, "192.0.2.1", 1, b"k")
        self.transport = ServedTransport(
            drive.readiness, sock, peer, handoff, self.protocol, reactor, ended=self.ended.append
        )
        self.transport.start(self.protocol)

    def _hear(self, protocol: Recorder, data: bytes) -> None:
        if data == STARTTLS:
            self.transport.write(b"220\r\n")
            self.transport.startTLS(self._context)
            self.transport.write(b"ready")
        else:
            self.transport.write(data)

    def begin(self) -> TlsClient:
        """
        Ask for TLS, and shake hands.
        """
        self.client.send(STARTTLS)
        assert receive(self.drive, self.client, 5) == b"220\r\n"
        client = TlsClient(self.drive, self.client, client_context())
        client.shake_hands()
        assert client.read(5) == b"ready"
        return client


@pytest.fixture(params=["uvloop", "epoll"])
def scene(request: Any, tmp_path: Path) -> Iterator[Scene]:
    """
    On each kind of loop; nothing is left open.
    """
    drive = make_drive(request.param)
    reactor: Any = (
        AsyncioSelectorReactor(drive.loop) if isinstance(drive, LoopDrive) else drive.reactor  # type: ignore[attr-defined]  # the other one has it
    )
    before = open_sockets()
    scene = Scene(drive, reactor, write_certificate(tmp_path, "server", "localhost"))
    yield scene
    scene.client.close()
    drive.until(lambda: scene.ended)
    assert open_sockets() == before
    if isinstance(drive, LoopDrive):
        reactor.removeReader(reactor.waker)
        reactor.waker.connectionLost(None)
    drive.close()


def test_fault_42_start_tls(scene: Scene) -> None:
    """
    Fault 42: what is said after STARTTLS is encrypted, in both directions and however much it
    is; the protocol keeps its transport, and is connected once.
    """
    assert verifyObject(ITLSTransport, scene.transport)
    assert not ISSLTransport.providedBy(scene.transport)
    assert not scene.transport.TLS
    client = scene.begin()
    transport: Any = scene.transport
    assert ISSLTransport.providedBy(transport)
    assert transport.getPeerCertificate() is None
    client.send(b"x" * 300_000)
    assert client.read(300_000) == b"x" * 300_000
    assert scene.protocol.events == ["made"]
    scene.transport.loseConnection()
    assert client.read(1) == b""
    scene.drive.until(lambda: scene.ended)
    assert scene.protocol.reason is ConnectionDone


def test_producer_goes_on(scene: Scene) -> None:
    """
    One that was registered before TLS is paced by it; the connection ends when it is done.
    """
    producer = Push()
    scene.transport.registerProducer(producer, True)
    client = scene.begin()
    scene.transport.write(b"y" * 4_000_000)
    scene.transport.loseConnection()
    assert "pause" in producer.orders
    assert client.read(4_000_000) == b"y" * 4_000_000
    scene.drive.turns()
    assert not scene.ended
    scene.transport.unregisterProducer()
    assert client.read(1) == b""


def test_client_that_cannot(scene: Scene) -> None:
    """
    A client that speaks something else is thrown out, and the protocol is told.
    """
    client: socket.socket = scene.client
    client.send(STARTTLS)
    assert receive(scene.drive, client, 5) == b"220\r\n"
    client.send(b"hello in plain text\r\n")
    scene.drive.until(lambda: scene.ended)
    assert scene.protocol.lost


def test_abort(scene: Scene) -> None:
    """
    A connection on TLS can be cut off.
    """
    scene.begin()
    scene.transport.abortConnection()
    scene.drive.until(lambda: scene.ended)
    assert scene.protocol.lost

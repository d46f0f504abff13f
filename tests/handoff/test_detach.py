"""
Taking connections out of Twisted's transports.
"""

from __future__ import annotations

import gc
import os
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.tcp import Port, Server
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from typing_extensions import override

from stickyd.errors import ListenError
from stickyd.handoff.detach import detach
from tests.reactors import private_reactor, turn_until


class Watching(Protocol):
    """
    Keeps what its transport tells.
    """

    def __init__(self) -> None:
        self.told: list[object] = []

    @override
    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)

    @override
    def connectionLost(self, reason: Failure = Failure(RuntimeError())) -> None:  # noqa: B008
        self.told.append("lost")


class Accepting(Factory):
    """
    Keeps the protocols that it makes.
    """

    noisy = False

    def __init__(self) -> None:
        self.protocols: list[Watching] = []

    @override
    def buildProtocol(self, addr: object) -> Watching:
        self.protocols.append(Watching())
        return self.protocols[-1]


@pytest.fixture
def reactor() -> Iterator[EPollReactor]:
    """
    A reactor of the test's own.
    """
    with private_reactor() as reactor:
        yield reactor


class Accepted:
    """
    A transport fresh from a port, from which nothing was read; and its client.
    """

    def __init__(self, port: Port, factory: Accepting, client: socket.socket) -> None:
        client.settimeout(5)
        client.connect(port.socket.getsockname())
        client.sendall(b"request")
        port.doRead()
        self.transport: Server = cast("Server", factory.protocols[-1].transport)
        self.told = factory.protocols[-1].told
        self.client = client


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def accepted(
    request: pytest.FixtureRequest, reactor: EPollReactor, tmp_path: Path
) -> Iterator[Accepted]:
    """
    A transport of each kind of plain port.
    """
    factory = Accepting()
    if request.param == "unix":
        port = reactor.listenUNIX(str(tmp_path / "socket"), factory)
        client = socket.socket(socket.AF_UNIX)
    elif request.param == "tcp6":
        port = reactor.listenTCP(0, factory, interface="::1")
        client = socket.socket(socket.AF_INET6)
    else:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        client = socket.socket()
    accepted = Accepted(port, factory, client)
    factory.protocols.clear()
    yield accepted
    client.close()
    port.stopListening()


def turn(reactor: EPollReactor) -> None:
    """
    Turn until every event that was due has been told.
    """
    turns: list[int] = []
    for number in range(3):
        reactor.callLater(0, turns.append, number)
        turn_until(reactor, lambda: number in turns)  # noqa: B023 - called at once


def test_nothing_was_read(accepted: Accepted) -> None:
    """
    All that the client has sent is still in the connection.
    """
    descriptor = detach(accepted.transport)
    assert os.read(descriptor, 100) == b"request"
    os.close(descriptor)


def test_reactor_forgets_the_transport(accepted: Accepted, reactor: EPollReactor) -> None:
    """
    The reactor watches the descriptor no more, and its protocol is told nothing, though
    there is something to be read and then the end.
    """
    descriptor = detach(accepted.transport)
    assert accepted.transport not in reactor.getReaders()
    assert accepted.transport not in reactor.getWriters()
    accepted.client.shutdown(socket.SHUT_WR)
    turn(reactor)
    assert accepted.told == []
    os.close(descriptor)


def test_connection_outlives_its_transport(accepted: Accepted) -> None:
    """
    Collecting the transport closes nothing: the connection carries both ways.
    """
    descriptor = detach(accepted.transport)
    gone = weakref.ref(accepted.transport)
    del accepted.transport
    gc.collect()
    assert gone() is None
    client = accepted.client
    client.sendall(b" and more")
    assert os.read(descriptor, 100) == b"request and more"
    os.write(descriptor, b"answer")
    assert client.recv(100) == b"answer"
    os.close(descriptor)
    assert client.recv(100) == b""


def test_transport_is_dead(accepted: Accepted, reactor: EPollReactor) -> None:
    """
    What is still called on a detached transport does nothing to the connection.
    """
    transport = accepted.transport
    descriptor = detach(transport)
    transport.write(b"never sent")
    transport.loseConnection()
    transport.abortConnection()
    turn(reactor)
    os.write(descriptor, b"answer")
    assert accepted.client.recv(100) == b"answer"
    assert accepted.told == []
    os.close(descriptor)


def test_tls_is_refused(accepted: Accepted) -> None:
    """
    A connection that has begun TLS consists of more than its descriptor.
    """
    accepted.transport.startTLS(CertificateOptions(), False)
    with pytest.raises(ListenError, match="connections of Server cannot be handed over"):
        detach(accepted.transport)
    assert accepted.transport.socket.fileno() >= 0
    accepted.transport.abortConnection()


def test_what_is_no_socket_is_refused() -> None:
    """
    A transport without a descriptor of its own is named in the error, with what to do.
    """
    with pytest.raises(ListenError, match=r"StringTransport .* plain stream endpoint \(tcp:"):
        detach(StringTransport())

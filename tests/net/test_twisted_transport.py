# ruff: noqa: N802 - the camelCase names are Twisted's
from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyd.net.twisted_transport import SocketTransport
from tests.transport_harness import (
    EVERYTHING,
    Drive,
    HalfRecorder,
    Push,
    Recorder,
    receive,
    reset,
    socket_pair,
)

pytest_plugins = ("tests.transport_fixtures",)


def test_interfaces(drive: Drive) -> None:
    """
    The transport has every method that its interfaces promise.
    """
    server, client, peer = socket_pair()
    transport = SocketTransport(drive.readiness, server, peer)
    for interface in (ITCPTransport, IConsumer, IPushProducer):
        verifyObject(interface, transport)
    transport.detach()[0].close()
    client.close()


class Pull:
    """
    A pull producer of numbered blocks.
    """

    def __init__(self, transport: SocketTransport, blocks: int) -> None:
        self.transport = transport
        self.left = blocks
        self.most = 0
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.left -= 1
        self.transport.write(bytes([self.left % 256]) * 50000)
        self.most = max(self.most, self.transport.get_write_buffer_size())
        if self.left == 0:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped += 1


def test_pull_producer(drive: Drive, family: str) -> None:
    """
    A pull producer is asked for a block when the last is out, and never for more.
    """
    server, client, peer = socket_pair(family)
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    producer = Pull(transport, 200)
    transport.registerProducer(producer, False)
    received = receive(drive, client, 200 * 50000)
    assert received == b"".join(bytes([n % 256]) * 50000 for n in reversed(range(200)))
    assert producer.most <= 50000
    transport.loseConnection()
    drive.until(lambda: protocol.lost)
    assert producer.stopped == 0
    client.close()


def test_push_producer(drive: Drive, family: str) -> None:
    """
    A push producer is paused once when the buffer is full, resumed when it is empty.
    """
    server, client, peer = socket_pair(family)
    transport = SocketTransport(drive.readiness, server, peer)
    protocol = Recorder()
    transport.start(protocol)
    producer = Push()
    transport.registerProducer(producer, True)
    with pytest.raises(RuntimeError):
        transport.registerProducer(Push(), True)
    written = 0
    while not producer.orders:
        transport.write(bytes(100000))
        written += 100000
    assert transport.get_write_buffer_size() <= 65536 + 100000
    transport.write(b"!")
    assert producer.orders == ["pause"]
    received = receive(drive, client, written + 1)
    assert received == bytes(written) + b"!"
    drive.until(lambda: producer.orders == ["pause", "resume"])
    client.close()
    drive.until(lambda: protocol.lost)
    assert producer.orders == ["pause", "resume", "stop"]


def test_close_waits_for_the_producer(drive: Drive) -> None:
    """
    loseConnection() takes effect when the producer has unregistered, and not before.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    producer = Push()
    transport.registerProducer(producer, True)
    transport.loseConnection()
    drive.turns()
    assert not protocol.lost
    assert producer.orders == []
    transport.write(b"last words")
    transport.unregisterProducer()
    assert not protocol.lost
    drive.until(lambda: protocol.lost)
    assert receive(drive, client, EVERYTHING) == b"last words"
    late = Push()
    transport.registerProducer(late, True)
    assert late.orders == ["stop"]
    client.close()


def test_writes_after_the_end_are_dropped(drive: Drive) -> None:
    """
    Whatever is called on a transport whose connection is over does nothing.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.loseConnection()
    assert not protocol.lost
    drive.until(lambda: protocol.lost)
    transport.write(b"late")
    transport.loseConnection()
    transport.abortConnection()
    transport.loseWriteConnection()
    transport.pauseProducing()
    transport.resumeProducing()
    transport.stopConsuming()
    drive.turns()
    assert protocol.events == ["made", "lost"]
    assert client.recv(10) == b""
    client.close()


def test_reset_by_the_client(drive: Drive) -> None:
    """
    A reset is a ConnectionLost that tells its errno.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    SocketTransport(drive.readiness, server, peer).start(protocol)
    reset(client)
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionLost
    cause = protocol.reasons[0].value.__cause__  # type: ignore[union-attr]
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ECONNRESET
    drive.turns()
    assert protocol.events == ["made", "lost"]


def test_abort(drive: Drive) -> None:
    """
    abortConnection() drops the output, resets the connection and tells the protocol later.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.write(bytes(20_000_000))
    transport.loseConnection()
    transport.abortConnection()
    transport.abortConnection()
    assert not protocol.lost
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionAborted
    with pytest.raises(ConnectionResetError):
        receive(drive, client, EVERYTHING)
    client.close()
    drive.turns()
    assert protocol.events == ["made", "lost"]


def test_half_close(drive: Drive, family: str) -> None:
    """
    Each side can end its own direction; a half-closeable protocol hears of both.
    """
    server, client, peer = socket_pair(family)
    protocol = HalfRecorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.write(b"all I have")
    transport.loseWriteConnection()
    assert protocol.events == ["made"]
    drive.until(lambda: "write lost" in protocol.events)
    transport.write(b"dropped")
    assert receive(drive, client, EVERYTHING) == b"all I have"
    client.sendall(b"but I")
    drive.until(lambda: protocol.data == b"but I")
    client.shutdown(socket.SHUT_WR)
    drive.until(lambda: "read lost" in protocol.events)
    transport.pauseProducing()
    transport.resumeProducing()
    drive.turns()
    transport.loseConnection()
    drive.until(lambda: protocol.lost)
    assert protocol.events == ["made", "write lost", "read lost", "lost"]
    client.close()


def test_answer_after_the_clients_half_close(drive: Drive) -> None:
    """
    A half-closeable protocol may answer a client that has ended its side.
    """
    server, client, peer = socket_pair()
    client.sendall(b"ask")
    client.shutdown(socket.SHUT_WR)
    protocol = HalfRecorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    drive.until(lambda: "read lost" in protocol.events)
    changes = drive.readiness.changes
    drive.turns()
    assert drive.readiness.changes == changes
    transport.write(b"answer")
    transport.loseConnection()
    assert receive(drive, client, EVERYTHING) == b"answer"
    drive.until(lambda: protocol.lost)
    client.close()


def test_replaced_protocol(drive: Drive) -> None:
    """
    Whoever sets ``protocol`` gets the following input, as WebSocket upgrades do it.
    """
    server, client, peer = socket_pair()
    first, second = Recorder(), Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(first)
    client.sendall(b"one")
    drive.until(lambda: first.data == b"one")
    transport.protocol = second
    client.sendall(b"two")
    drive.until(lambda: second.data == b"two")
    client.close()
    drive.until(lambda: second.lost)
    assert not first.lost


def test_addresses(drive: Drive, family: str) -> None:
    """
    The peer is who the caller says; our own address is the socket's, or a given one.
    """
    server, client, peer = socket_pair(family)
    transport = SocketTransport(drive.readiness, server, peer)
    seen: list[object] = []

    class Asking(Recorder):
        def connectionLost(self, reason: Any = None) -> None:
            super().connectionLost(reason)
            seen.append(self.transport.getHost())  # type: ignore[union-attr]

    protocol = Asking()
    transport.start(protocol)
    assert transport.getPeer() is peer
    client.close()
    drive.until(lambda: protocol.lost)
    if family == "tcp":
        host: Any = seen[0]
        assert host.host == "127.0.0.1"
        assert host.port != peer.port
    server, client, peer = socket_pair(family)
    other = SocketTransport(drive.readiness, server, peer, host=peer)
    assert other.getHost() is peer
    other.detach()[0].close()
    client.close()


def test_socket_options(drive: Drive, family: str) -> None:
    """
    TCP options work on TCP, and on UNIX sockets fail only where an answer is wanted.
    """
    server, client, peer = socket_pair(family)
    transport = SocketTransport(drive.readiness, server, peer)
    transport.setTcpNoDelay(True)
    if family == "tcp":
        assert transport.getTcpNoDelay()
    else:
        with pytest.raises(OSError, match="not supported"):
            transport.getTcpNoDelay()
    transport.setTcpKeepAlive(True)
    assert transport.getTcpKeepAlive()
    assert transport.getHandle() is server
    assert transport.fileno() == server.fileno()
    transport.detach()[0].close()
    client.close()


@pytest.mark.parametrize("half", [True, False])
def test_unix_client_that_has_gone_is_no_half(drive: Drive, half: bool) -> None:
    """
    Of a UNIX socket it is known whether its other end is closed, or may still read.
    """
    server, client, peer = socket_pair("unix")
    protocol = HalfRecorder()
    SocketTransport(drive.readiness, server, peer).start(protocol)
    client.send(b"x")
    if half:
        client.shutdown(socket.SHUT_WR)
    else:
        client.close()
    drive.until(lambda: len(protocol.events) > 1)
    drive.turns()
    assert protocol.events == ["made", "read lost" if half else "lost"]
    assert protocol.data == b"x"
    if half:
        protocol.transport.loseConnection()  # type: ignore[union-attr]
        drive.until(lambda: protocol.lost)
        client.close()


def test_producer_that_closes_when_it_is_resumed(drive: Drive) -> None:
    """
    A producer that has nothing more to write when all is written, and closes, is heard.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)

    @implementer(IPushProducer)
    class Closing:
        def pauseProducing(self) -> None:
            pass

        def resumeProducing(self) -> None:
            transport.unregisterProducer()
            transport.loseConnection()

        def stopProducing(self) -> None:
            pass

    transport.registerProducer(Closing(), True)
    answer = bytes(5_000_000)
    transport.write(answer)
    assert receive(drive, client, EVERYTHING) == answer
    drive.until(lambda: protocol.lost)
    client.close()

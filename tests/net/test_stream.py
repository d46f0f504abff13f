# ruff: noqa: N802 - the camelCase names are Twisted's
from __future__ import annotations

import gc
import socket
import weakref
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol

from stickyd.net.stream import READ_BYTES
from stickyd.net.twisted_transport import SocketTransport
from tests.transport_harness import (
    EVERYTHING,
    Drive,
    Pausing,
    Push,
    Recorder,
    answer_and_close,
    echo,
    fill,
    logged_failures,
    open_descriptors,
    receive,
    settled_descriptors,
    socket_pair,
)

pytest_plugins = ("tests.transport_fixtures",)


def test_waiting_request_never_meets_the_loop(drive: Drive, family: str) -> None:
    """
    A request that waits is read, answered and closed at once, in four system calls.
    """
    server, client, peer = socket_pair(family)
    client.sendall(b"request")
    protocol = Recorder(answer_and_close)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    assert protocol.events == ["made", "lost"]
    assert protocol.reason is ConnectionDone
    assert server.calls == ["recv", "sendmsg", "shutdown", "close"]
    assert drive.readiness.changes == 0
    assert client.recv(100) == b"head body"
    assert client.recv(100) == b""
    client.close()


def test_dry_socket_is_served_later(drive: Drive, family: str) -> None:
    """
    A client that is slow to ask is answered when it does.
    """
    server, client, peer = socket_pair(family)
    protocol = Recorder(echo)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    assert protocol.events == ["made"]
    client.sendall(b"late")
    assert receive(drive, client, 4) == b"late"
    client.close()
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionDone


def test_byte_by_byte(drive: Drive, family: str) -> None:
    """
    Nothing is lost or reordered when every byte comes alone.
    """
    server, client, peer = socket_pair(family)
    SocketTransport(drive.readiness, server, peer, b"<").start(Recorder(echo))
    expected = b"<"
    for number in range(60):
        client.sendall(bytes([number]))
        drive.turn()
        expected += bytes([number])
    assert receive(drive, client, len(expected)) == expected
    client.close()
    drive.turns()


def test_initial_bytes_come_first(drive: Drive) -> None:
    """
    What was read before the adoption precedes what is still in the socket.
    """
    server, client, peer = socket_pair()
    client.sendall(b"-second")
    protocol = Recorder()
    SocketTransport(drive.readiness, server, peer, b"first").start(protocol)
    drive.until(lambda: protocol.data == b"first-second")
    client.close()
    drive.until(lambda: protocol.lost)


def test_initial_bytes_wait_for_a_paused_protocol(drive: Drive) -> None:
    """
    A protocol that pauses as soon as it is connected gets the bytes when it resumes.
    """
    server, client, peer = socket_pair()
    protocol = Pausing()
    transport = SocketTransport(drive.readiness, server, peer, b"first")
    transport.start(protocol)
    client.sendall(b"-second")
    drive.turns()
    assert protocol.data == b""
    transport.resumeProducing()
    transport.pauseProducing()
    drive.turns()
    assert protocol.data == b""
    transport.resumeProducing()
    assert protocol.data == b""
    drive.until(lambda: protocol.data == b"first-second")
    transport.abortConnection()
    drive.until(lambda: protocol.lost)
    client.close()


def test_one_read_per_turn(drive: Drive) -> None:
    """
    However much is waiting, a turn takes at most READ_BYTES of it.
    """
    server, client, peer = socket_pair("unix")
    sent = fill(client)
    assert sent > READ_BYTES
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    assert server.calls == ["recv"]
    drive.until(lambda: len(protocol.data) == sent)
    assert max(protocol.chunks) <= READ_BYTES
    client.close()
    drive.until(lambda: protocol.lost)


def test_pause(drive: Drive, family: str) -> None:
    """
    While paused nothing is delivered, the EOF included; resuming brings all of it.
    """
    server, client, peer = socket_pair(family)
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.pauseProducing()
    client.sendall(b"held back")
    client.close()
    drive.turns()
    assert protocol.data == b""
    assert not protocol.lost
    transport.resumeProducing()
    drive.until(lambda: protocol.lost)
    assert protocol.data == b"held back"


def test_short_pauses_cost_nothing(drive: Drive) -> None:
    """
    A protocol that pauses while it answers does not trouble the loop.
    """

    def answer(protocol: Recorder, data: bytes) -> None:
        transport: Any = protocol.transport
        transport.pauseProducing()
        transport.write(data)
        transport.resumeProducing()

    server, client, peer = socket_pair()
    SocketTransport(drive.readiness, server, peer).start(Recorder(answer))
    before = drive.readiness.changes
    for _ in range(10):
        client.sendall(b"ping")
        assert receive(drive, client, 4) == b"ping"
    assert drive.readiness.changes == before
    client.close()
    drive.turns()


def test_detach_and_adopt_again(drive: Drive, family: str) -> None:
    """
    A stream moves to a second transport without losing a byte or telling the first.
    """
    server, client, peer = socket_pair(family)
    first = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(first)
    sent = b""
    for number in range(100):
        block = b"%03d," % number
        client.sendall(block)
        sent += block
        if number == 50:
            drive.until(lambda: len(first.data) > 100)
            taken, unread = transport.detach()
            second = Recorder(echo)
            SocketTransport(drive.readiness, taken, peer, unread + b"|").start(second)
    drive.until(lambda: len(first.data + second.data) == len(sent) + 1)
    assert (first.data + second.data).replace(b"|", b"") == sent
    assert first.events == ["made"]
    assert not transport.connected
    transport.write(b"dropped")
    transport.loseConnection()
    drive.turns()
    assert receive(drive, client, len(second.data)) == second.data
    client.close()
    drive.until(lambda: second.lost)
    assert first.events == ["made"]


def test_detach_from_inside_a_call(drive: Drive) -> None:
    """
    A protocol may give its connection away while it handles input, its answers sent.
    """
    taken: list[tuple[socket.socket, bytes]] = []

    def leave(protocol: Recorder, data: bytes) -> None:
        transport: Any = protocol.transport
        transport.write(b"bye")
        taken.append(transport.detach())

    server, client, peer = socket_pair()
    client.sendall(b"x")
    protocol = Recorder(leave)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    assert client.recv(10) == b"bye"
    client.sendall(b"unread")
    drive.turns()
    assert protocol.data == b"x"
    assert drive.readiness.changes == 0
    sock, unread = taken[0]
    assert (sock.recv(100), unread) == (b"unread", b"")
    sock.close()
    client.close()


def test_detach_returns_undelivered_bytes(drive: Drive) -> None:
    """
    Initial bytes that a paused protocol never got travel on.
    """
    server, client, peer = socket_pair()
    transport = SocketTransport(drive.readiness, server, peer, b"first")
    transport.start(Pausing())
    sock, unread = transport.detach()
    assert unread == b"first"
    sock.close()
    client.close()


def test_detach_is_refused(drive: Drive) -> None:
    """
    A connection that still writes, produces or closes stays, and works on.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.registerProducer(Push(), True)
    with pytest.raises(RuntimeError):
        transport.detach()
    transport.unregisterProducer()
    transport.write(bytes(20_000_000))
    with pytest.raises(RuntimeError):
        transport.detach()
    transport.loseConnection()
    assert receive(drive, client, EVERYTHING) == bytes(20_000_000)
    drive.until(lambda: protocol.lost)
    with pytest.raises(RuntimeError):
        transport.detach()
    client.close()


def test_failing_protocol(drive: Drive) -> None:
    """
    A protocol that raises loses its connection; the error is logged and handed to it.
    """

    def fail(protocol: Recorder, data: bytes) -> None:
        raise ZeroDivisionError

    server, client, peer = socket_pair()
    protocol = Recorder(fail)
    transport = SocketTransport(drive.readiness, server, peer)
    with logged_failures() as failures:
        transport.start(protocol)
        client.sendall(b"x")
        drive.until(lambda: protocol.lost)
    assert [failure.type for failure in failures] == [ZeroDivisionError]
    assert protocol.reason is ZeroDivisionError
    assert client.recv(10) == b""
    client.close()


def test_protocol_that_fails_to_start_or_to_end(drive: Drive) -> None:
    """
    Errors in connectionMade() and connectionLost() are logged, and nothing leaks.
    """

    class Broken(Protocol):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

        def connectionLost(self, reason: Any = None) -> None:
            raise LookupError

    before = settled_descriptors()
    server, client, peer = socket_pair()
    with logged_failures() as failures:
        SocketTransport(drive.readiness, server, peer, b"x").start(Broken())
        drive.until(lambda: len(failures) == 2)
    assert [failure.type for failure in failures] == [ZeroDivisionError, LookupError]
    client.close()
    assert open_descriptors() == before


def test_ended_connection_is_freed_at_once(drive: Drive) -> None:
    """
    An ended connection leaves no cycle that only the garbage collector could break.
    """
    server, client, peer = socket_pair()
    client.sendall(b"request")
    protocol = Recorder(answer_and_close)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    assert protocol.lost
    reference = weakref.ref(protocol)
    gc.disable()
    try:
        del protocol
        assert reference() is None
    finally:
        gc.enable()
    client.close()

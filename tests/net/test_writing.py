# ruff: noqa: N802 - the camelCase names are Twisted's
from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost

from stickyd.net.twisted_transport import SocketTransport
from tests.transport_harness import (
    EVERYTHING,
    Drive,
    Push,
    Recorder,
    answer_and_close,
    echo,
    logged_failures,
    receive,
    reset,
    socket_pair,
)

pytest_plugins = ("tests.transport_fixtures",)


def test_writes_outside_a_call_leave_at_once(drive: Drive) -> None:
    """
    A write at any other time than during a call is sent before it returns.
    """
    server, client, peer = socket_pair()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(Recorder())
    transport.write(b"now")
    assert client.recv(10) == b"now"
    transport.writeSequence([b"a", b"b"])
    assert client.recv(10) == b"ab"
    with pytest.raises(TypeError):
        transport.write("text")  # type: ignore[arg-type]
    client.close()
    drive.turns()


def test_nagle_goes_off_before_the_second_send_in_a_row(drive: Drive) -> None:
    """
    One send per request costs no setsockopt; the second without a read between does.
    """
    server, client, peer = socket_pair()
    transport = SocketTransport(drive.readiness, server, peer)
    protocol = Recorder(echo)
    transport.start(protocol)
    for _ in range(2):
        client.sendall(b"ping")
        assert receive(drive, client, 4) == b"ping"
    assert not transport.getTcpNoDelay()
    transport.write(b"more")
    assert transport.getTcpNoDelay()
    transport.write(b"more")
    assert server.calls.count("setsockopt") == 1
    client.close()
    drive.until(lambda: protocol.lost)


def test_the_last_send_and_the_fin_are_one_packet(drive: Drive, family: str) -> None:
    """
    The kernel is told that more follows when nothing but the FIN does; and only then, as it would
    keep back what is sent.
    """
    server, client, peer = socket_pair(family)
    SocketTransport(drive.readiness, server, peer).start(Recorder(answer_and_close))
    client.sendall(b"ping")
    assert receive(drive, client, EVERYTHING) == b"head body"
    assert server.more == [True]
    assert server.calls[-3:] == ["sendmsg", "shutdown", "close"]
    client.close()

    server, client, peer = socket_pair(family)
    protocol = Recorder(echo)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    client.sendall(b"ping")
    assert receive(drive, client, 4) == b"ping"
    assert server.more == [False]
    client.close()
    drive.until(lambda: protocol.lost)


def test_a_closed_connection_waits_for_its_producer(drive: Drive) -> None:
    """
    What a producer writes to a connection that is closed already leaves at once; with its last
    piece the FIN does.
    """
    server, client, peer = socket_pair()
    producer = Push()

    def close(protocol: Recorder, data: bytes) -> None:
        transport: Any = protocol.transport
        transport.registerProducer(producer, True)
        transport.write(b"1")
        transport.loseConnection()

    def end() -> None:
        transport.write(b"3")
        transport.unregisterProducer()

    protocol = Recorder(close)
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    client.sendall(b"ping")
    assert receive(drive, client, 1) == b"1"
    transport.call(lambda: transport.write(b"2"))
    assert receive(drive, client, 1) == b"2"
    assert server.more == [False, False]
    assert protocol.events == ["made"]
    transport.call(end)
    assert receive(drive, client, EVERYTHING) == b"3"
    assert server.more == [False, False, True]
    assert protocol.reason is ConnectionDone
    client.close()


def test_big_answer_to_a_slow_reader(drive: Drive, family: str) -> None:
    """
    A close waits until megabytes that the kernel did not take at once are out.
    """
    server, client, peer = socket_pair(family)
    body = bytes(range(256)) * 40000
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.write(body)
    for _ in range(100):
        transport.write(b"tail")
    transport.loseConnection()
    assert transport.get_write_buffer_size() > 0
    assert not protocol.lost
    assert receive(drive, client, EVERYTHING) == body + b"tail" * 100
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionDone
    client.close()


def test_reset_while_writing(drive: Drive) -> None:
    """
    A write that fails ends the connection, but not from inside write().
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    producer = Push()
    transport.registerProducer(producer, True)
    transport.write(bytes(20_000_000))
    assert transport.get_write_buffer_size() > 0
    transport.pauseProducing()
    reset(client)
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionLost
    assert producer.orders == ["pause", "stop"]


def test_failing_write_is_not_reentrant(drive: Drive) -> None:
    """
    connectionLost() comes in a later turn than the write that found the reset.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    reset(client)
    transport.write(b"x")
    transport.write(b"y")
    assert protocol.events == ["made"]
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionLost


def test_failing_producer(drive: Drive) -> None:
    """
    A producer that raises when it is resumed ends its connection; the error is logged.
    """

    class Failing(Push):
        def resumeProducing(self) -> None:
            raise ZeroDivisionError

    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    producer = Failing()
    transport.registerProducer(producer, True)
    while not producer.orders:
        transport.write(bytes(1_000_000))
    with logged_failures() as failures:
        receive(drive, client, EVERYTHING)
        drive.until(lambda: protocol.lost)
    assert [failure.type for failure in failures] == [ZeroDivisionError]
    assert protocol.reason is ZeroDivisionError
    assert producer.orders == ["pause", "stop"]
    client.close()


def test_much_written_during_a_call(drive: Drive) -> None:
    """
    Megabytes written while handling input pause the producer once the kernel is full.
    """
    producer = Push()

    def answer(protocol: Recorder, data: bytes) -> None:
        transport: Any = protocol.transport
        transport.registerProducer(producer, True)
        for _ in range(1000):
            transport.write(b"x" * 10_000)
        transport.unregisterProducer()
        transport.loseConnection()

    server, client, peer = socket_pair()
    client.sendall(b"request")
    protocol = Recorder(answer)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    assert producer.orders == ["pause"]
    assert receive(drive, client, EVERYTHING) == b"x" * 10_000_000
    drive.until(lambda: protocol.lost)
    client.close()


def test_reading_goes_on_behind_a_big_answer(drive: Drive) -> None:
    """
    A protocol that stops reading while its first answer is too much for the kernel, and goes
    on when its transport has room again, gets the next request.
    """

    class Holding(Push):
        def pauseProducing(self) -> None:
            super().pauseProducing()
            transport.pauseProducing()

        def resumeProducing(self) -> None:
            super().resumeProducing()
            transport.resumeProducing()

    producer = Holding()

    def answer(protocol: Recorder, data: bytes) -> None:
        if data == b"first":
            transport.registerProducer(producer, True)
            transport.write(bytes(10_000_000))

    server, client, peer = socket_pair()
    client.sendall(b"first")
    protocol = Recorder(answer)
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    assert producer.orders == ["pause"]
    assert receive(drive, client, 10_000_000) == bytes(10_000_000)
    client.sendall(b"second")
    drive.until(lambda: protocol.data == b"firstsecond")
    assert producer.orders == ["pause", "resume"]
    transport.unregisterProducer()
    transport.loseConnection()
    drive.until(lambda: protocol.lost)
    client.close()

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.task import Clock

from stickyd.net import lingering_close
from stickyd.net.lingering_close import LINGER_ROUNDS, LINGER_SECONDS, LingeringClose
from stickyd.net.stream import READ_BYTES
from stickyd.net.twisted_transport import SocketTransport
from tests.transport_harness import (
    EVERYTHING,
    CountedReadiness,
    Drive,
    Recorder,
    answer_and_close,
    fill,
    open_descriptors,
    receive,
    reset,
    settled_descriptors,
    socket_pair,
)

pytest_plugins = ("tests.transport_fixtures",)


def test_fin_leaves_though_a_copy_is_open(drive: Drive) -> None:
    """
    The client sees the end even while another process still holds the connection.
    """
    server, client, peer = socket_pair()
    copy = os.dup(server.fileno())
    client.sendall(b"request")
    SocketTransport(drive.readiness, server, peer).start(Recorder(answer_and_close))
    assert receive(drive, client, EVERYTHING) == b"head body"
    os.close(copy)
    client.close()


def test_input_beyond_the_first_read(drive: Drive) -> None:
    """
    A close after a read that was full looks for more input, and drops it.
    """
    server, client, peer = socket_pair()
    sent = fill(client)
    assert sent > READ_BYTES
    protocol = Recorder(answer_and_close)
    SocketTransport(drive.readiness, server, peer).start(protocol)
    assert protocol.lost
    assert server.calls == ["recv", "sendmsg", "shutdown", "recv"]
    assert receive(drive, client, EVERYTHING) == b"head body"
    client.close()
    drive.until(lambda: server.fileno() == -1)


@pytest.mark.parametrize("known", [True, False])
def test_unread_input_does_not_destroy_the_answer(drive: Drive, known: bool) -> None:
    """
    A client that goes on sending gets the whole answer and the FIN, and no reset.

    The transport sees the input itself where it waits in the socket already, and
    believes a protocol that knows of more.
    """
    before = settled_descriptors()
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    if known:
        transport.lingering = True
    else:
        transport.pauseProducing()
        client.sendall(bytes(100_000))
    transport.write(b"too large")
    transport.loseConnection()
    drive.until(lambda: protocol.lost)
    for _ in range(20):
        client.sendall(bytes(50_000))
        drive.turn()
    assert receive(drive, client, EVERYTHING) == b"too large"
    client.close()
    drive.until(lambda: open_descriptors() == before)


def test_no_descriptor_leaks(drive: Drive) -> None:
    """
    Fifty connections, each ended in one of five ways, leave no descriptor behind.
    """

    def act(number: int) -> None:
        server, client, peer = socket_pair()
        protocol = Recorder()
        transport = SocketTransport(drive.readiness, server, peer)
        transport.start(protocol)
        if number % 5 == 0:
            reset(client)
        elif number % 5 == 1:
            transport.write(bytes(20_000_000))
            transport.abortConnection()
        elif number % 5 == 2:
            transport.loseConnection()
        elif number % 5 == 3:
            client.shutdown(socket.SHUT_WR)
        else:
            transport.detach()[0].close()
        drive.until(lambda: transport.disconnected)
        client.close()

    act(0)
    before = settled_descriptors()
    for number in range(50):
        act(number)
    assert open_descriptors() == before


class ClockedReadiness(CountedReadiness):
    """
    Readiness whose time is the test's.
    """

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.clock = Clock()

    def call_later(self, delay: float, callback: Any, *arguments: object) -> Any:
        return self.clock.callLater(delay, callback, *arguments)


def test_lingering_ends_in_time(drive: Drive) -> None:
    """
    A client that neither sends nor closes is given up after LINGER_SECONDS.
    """
    readiness = ClockedReadiness(drive.readiness)
    server, client, _peer = socket_pair()
    LingeringClose(readiness, server).start()
    readiness.clock.advance(LINGER_SECONDS - 0.1)
    drive.turns(3)
    assert server.fileno() >= 0
    readiness.clock.advance(0.2)
    assert server.fileno() == -1
    client.close()


def test_lingering_ends_with_the_client(drive: Drive) -> None:
    """
    When the client closes, so do we, and no timer is left.
    """
    readiness = ClockedReadiness(drive.readiness)
    server, client, _peer = socket_pair()
    LingeringClose(readiness, server).start()
    client.sendall(bytes(100_000))
    client.close()
    drive.until(lambda: server.fileno() == -1)
    assert not readiness.clock.getDelayedCalls()


def test_lingering_reads_only_so_much(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A client that never stops sending is cut off after LINGER_BYTES.
    """
    monkeypatch.setattr(lingering_close, "LINGER_BYTES", 1_000_000)
    readiness = ClockedReadiness(drive.readiness)
    server, client, _peer = socket_pair()
    LingeringClose(readiness, server).start()
    sent = 0

    def flood() -> bool:
        nonlocal sent
        with suppress(ConnectionError):
            sent += fill(client)
        return server.fileno() == -1

    drive.until(flood)
    assert sent >= 1_000_000
    assert not readiness.clock.getDelayedCalls()
    client.close()


def test_fault_43_lingering_goes_on_while_the_client_sends(drive: Drive) -> None:
    """
    Fault 43: a slow client that is still sending a body is not cut off after
    LINGER_SECONDS, though not served for ever.
    """
    readiness = ClockedReadiness(drive.readiness)
    server, client, _peer = socket_pair()
    LingeringClose(readiness, server).start()
    for _ in range(LINGER_ROUNDS):
        assert server.fileno() >= 0
        client.send(b"more")
        drive.until(lambda: not select.select([server], [], [], 0)[0])
        readiness.clock.advance(LINGER_SECONDS)
    assert server.fileno() == -1
    assert not readiness.clock.getDelayedCalls()
    client.close()


def test_fault_43_client_that_reads_after_it_has_sent(drive: Drive) -> None:
    """
    Fault 43: a client that sends all of its body before it reads gets an answer that does
    not fit into the socket's buffers.
    """
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.lingering = True
    answer = bytes(5_000_000)
    transport.write(answer)
    transport.loseConnection()
    left = 20_000_000

    def sent() -> bool:
        nonlocal left
        with suppress(BlockingIOError):
            left -= client.send(bytes(min(left, 65536)))
        return not left

    drive.until(sent)
    assert receive(drive, client, EVERYTHING) == answer
    client.close()
    drive.until(lambda: server.fileno() == -1)

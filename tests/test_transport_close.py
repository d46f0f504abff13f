from __future__ import annotations

import os
import socket

import pytest

from stickyd.worker.transport import SocketTransport
from tests.transport_harness import (
    EVERYTHING,
    Drive,
    Recorder,
    answer_and_close,
    open_descriptors,
    receive,
    reset,
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


@pytest.mark.parametrize("known", [True, False])
def test_unread_input_does_not_destroy_the_answer(drive: Drive, known: bool) -> None:
    """
    A client that goes on sending gets the whole answer and the FIN, and no reset.

    The transport sees the input itself where it waits in the socket already, and
    believes a protocol that knows of more.
    """
    before = open_descriptors()
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
    before = open_descriptors()
    for number in range(50):
        act(number)
    assert open_descriptors() == before

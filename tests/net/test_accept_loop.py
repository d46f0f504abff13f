"""
What the accept loop does in a worker; :mod:`tests.listen.test_port` has it in the primary.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from stickyd.net.accept_loop import PAUSE_SECONDS, AcceptLoop
from stickyd.testing import FakeReadiness
from tests.channels import no_descriptor_free, open_sockets


class Rig:
    """
    A loop that has room for as many connections as the test says.
    """

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.clock = Clock()
        self.readiness = FakeReadiness(self.clock)
        self.room = 2
        self.accepted: list[int] = []
        self.clients: list[socket.socket] = []
        self.loop = AcceptLoop(
            self.clock,
            self.readiness,
            self.listener,
            lambda descriptor, host, port: self.accepted.append(descriptor),
            lambda: self.room,
        )
        self.loop.start()

    def connect(self, count: int) -> None:
        """
        Connect so many clients.
        """
        for _ in range(count):
            self.clients.append(socket.create_connection(self.listener.getsockname()))

    def turn(self) -> int:
        """
        One turn of a reactor.

        :return: how many have been accepted since the last one.
        """
        readers = self.readiness.readers
        before = len(self.accepted)
        for descriptor in select.select(list(readers), [], [], 0)[0]:
            readers[descriptor]()
        return len(self.accepted) - before


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A loop that has started.
    """
    before = open_sockets()
    rig = Rig()
    yield rig
    for descriptor in rig.accepted:
        os.close(descriptor)
    for sock in (*rig.clients, rig.listener):
        sock.close()
    assert open_sockets() == before


def test_no_more_are_accepted_than_there_is_room_for(rig: Rig) -> None:
    """
    Each wake-up asks how many there may be.
    """
    rig.connect(5)
    assert rig.turn() == 2
    rig.room = 1
    assert rig.turn() == 1
    rig.room = 64
    assert rig.turn() == 2


def test_without_room_it_pauses_until_started(rig: Rig) -> None:
    """
    It does not spin on a queue that it cannot serve, and goes on where it was.
    """
    rig.room = 0
    rig.connect(1)
    assert rig.turn() == 0
    assert rig.readiness.readers == {}
    rig.room = 1
    rig.loop.start()
    assert rig.turn() == 1


def test_starting_does_not_cut_an_overloads_pause_short(rig: Rig) -> None:
    """
    Room for connections is not room in the table of descriptors.
    """
    rig.connect(1)
    with no_descriptor_free():
        assert rig.turn() == 0
        rig.loop.start()
    assert rig.readiness.readers == {}
    rig.clock.advance(PAUSE_SECONDS)
    assert rig.turn() == 1


def test_socket_that_was_shut_down_elsewhere_is_left_alone(rig: Rig) -> None:
    """
    It would be readable for ever, and nobody comes there any more.
    """
    copy = rig.listener.dup()
    copy.shutdown(socket.SHUT_RD)
    copy.close()
    assert rig.turn() == 0
    assert rig.readiness.readers == {}

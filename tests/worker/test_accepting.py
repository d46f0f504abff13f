"""
Accepting in the worker: whom it serves, whom it sends on, and when it ceases.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from stickyd.affinity.address import parse_ip_key
from stickyd.handoff.frame import Handoff, Purpose
from stickyd.testing import FakeReadiness
from stickyd.worker.accepting import Listening
from stickyd.worker.slot_map import SlotMap
from tests.channels import open_sockets
from tests.system.placing import sources_of


class Adopting:
    """
    Stands for the host and its capacity: keeps what it serves.
    """

    def __init__(self) -> None:
        self.room = 64
        self.adopted: list[Handoff] = []

    def window(self) -> int:
        """
        How many it takes.
        """
        return self.room

    def adopt(self, handoff: Handoff) -> None:
        """
        Serve one.
        """
        self.adopted.append(handoff)


class Outgoing:
    """
    Stands for the outbox: keeps what goes to the primary.
    """

    def __init__(self) -> None:
        self.passed_on: list[Handoff] = []

    def send(self, handoff: Handoff) -> None:
        """
        Send one on.
        """
        self.passed_on.append(handoff)


class Rig:
    """
    A worker that listens on one address, beside the primary's copy.
    """

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.clock = Clock()
        self.readiness = FakeReadiness(self.clock)
        self.adoption = Adopting()
        self.places = SlotMap(-1, "rendezvous")
        self.outbox = Outgoing()
        self.clients: list[socket.socket] = []
        self.listening = Listening(
            self.clock,
            self.readiness,
            ["ip"],
            self.adoption.adopt,
            self.adoption.window,
            self.places,
            cast("Any", self.outbox),
        )

    def entrust(self, slot: int, slots: int) -> None:
        """
        Have the worker listen for a slot.
        """
        self.listening.add(
            Handoff(self.listener.dup().detach(), "", 0, b"", b"%d" % slots, slot, Purpose.LISTENER)
        )

    def come(self, slot: int, slots: int) -> str:
        """
        Connect a client of a slot, and let the worker accept if it does.

        :return: its address.
        """
        (source,) = sources_of(slot, slots, 1)
        client = socket.socket()
        self.clients.append(client)
        client.bind((source, 0))
        client.connect(self.listener.getsockname())
        self.turn()
        return source

    def turn(self) -> None:
        """
        One turn of a reactor.
        """
        readers = self.readiness.readers
        for descriptor in select.select(list(readers), [], [], 0)[0]:
            readers[descriptor]()

    @property
    def served(self) -> list[str]:
        """
        The addresses of those that are served here.
        """
        return [handoff.host for handoff in self.adoption.adopted]

    @property
    def sent_on(self) -> list[str]:
        """
        The addresses of those that went to the primary.
        """
        return [handoff.host for handoff in self.outbox.passed_on]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A worker that was entrusted with nothing yet.
    """
    before = open_sockets()
    rig = Rig()
    yield rig
    rig.listening.close()
    for handoff in (*rig.adoption.adopted, *rig.outbox.passed_on):
        socket.socket(fileno=handoff.descriptor).close()
    for sock in (*rig.clients, rig.listener):
        sock.close()
    assert open_sockets() == before


def test_own_client_is_served_as_if_handed_over(rig: Rig) -> None:
    """
    The handoff says what the primary's would have said.
    """
    rig.entrust(1, 3)
    source = rig.come(1, 3)
    (handoff,) = rig.adoption.adopted
    assert (handoff.host, handoff.port) == rig.clients[0].getsockname()
    assert handoff.key == parse_ip_key("ip").key_of(source)
    assert handoff.purpose == Purpose.CONNECTION
    assert rig.listening.accepted == 1


def test_client_of_another_slot_goes_to_the_primary(rig: Rig) -> None:
    """
    Whatever the kernel did, nobody is served where it does not belong.
    """
    rig.entrust(1, 3)
    source = rig.come(2, 3)
    assert (rig.served, rig.sent_on) == ([], [source])
    assert rig.listening.accepted == 0


def test_spare_learns_its_slot_from_the_socket(rig: Rig) -> None:
    """
    The other channel, which tells it too, may be slower.
    """
    rig.entrust(2, 3)
    assert rig.places.slot == 2
    assert rig.served == [] == rig.sent_on
    assert [rig.come(2, 3)] == rig.served


def test_a_placement_that_came_first_is_not_forgotten(rig: Rig) -> None:
    """
    The number of slots beside the socket counts only for who has heard of no other.
    """
    rig.places.update(4, [0, 1, 2, 3])
    rig.entrust(1, 3)
    (moves,) = [s for s in sources_of(1, 3, 20) if s in sources_of(3, 4, 60)][:1]
    client = socket.socket()
    rig.clients.append(client)
    client.bind((moves, 0))
    client.connect(rig.listener.getsockname())
    rig.turn()
    assert rig.sent_on == [moves]


def test_relieved_worker_leaves_the_queue_to_its_successor(rig: Rig) -> None:
    """
    It takes nobody along; and if the successor dies, it goes on.
    """
    rig.entrust(1, 3)
    rig.listening.released(0, [])
    assert rig.readiness.readers == {}
    source = rig.come(1, 3)
    assert rig.served == []
    connection, peer = rig.listener.accept()
    connection.close()
    assert peer[0] == source
    rig.entrust(1, 3)
    again = rig.come(1, 3)
    assert rig.served == []
    rig.listening.accept()
    rig.turn()
    assert rig.served == [again]


def test_socket_that_comes_too_late_is_closed(rig: Rig) -> None:
    """
    A worker that was told to end while it was on its way does not begin to accept.
    """
    rig.listening.close()
    rig.entrust(1, 3)
    assert rig.readiness.readers == {}


def test_drained_worker_ceases_and_begins_again(rig: Rig) -> None:
    """
    While its slot is not available it accepts nobody, even if entrusted anew, until told.
    """
    rig.entrust(1, 3)
    rig.listening.released(3, [0, 2])
    source = rig.come(1, 3)
    rig.entrust(1, 3)
    rig.listening.look()
    rig.turn()
    assert (rig.served, rig.sent_on) == ([], [])
    # The sessions of its clients are on their way back yet.
    rig.listening.released(3, [0, 1, 2])
    rig.turn()
    assert rig.served == []
    rig.listening.accept()
    rig.turn()
    assert rig.served == [source]


def test_same_socket_again_takes_the_place_of_the_first(rig: Rig) -> None:
    """
    A primary that has replaced itself entrusts again; nothing is left open.
    """
    rig.entrust(1, 3)
    before = len(open_sockets())
    rig.entrust(1, 3)
    assert len(open_sockets()) == before
    assert len(rig.readiness.readers) == 1


def test_full_worker_waits_for_room(rig: Rig) -> None:
    """
    Near its limit it leaves clients in the kernel's queue, and looks when told.
    """
    rig.entrust(1, 3)
    rig.adoption.room = 0
    source = rig.come(1, 3)
    assert (rig.served, rig.readiness.readers) == ([], {})
    rig.adoption.room = 1
    rig.listening.look()
    rig.turn()
    assert rig.served == [source]


def test_orphan_serves_who_is_queued(rig: Rig) -> None:
    """
    When the primary is dead nobody else would, whosever client it is.
    """
    rig.entrust(1, 3)
    rig.adoption.room = 0
    sources = [rig.come(1, 3), rig.come(2, 3)]
    rig.listening.close_orphaned()
    assert rig.served == sources
    assert rig.readiness.readers == {}

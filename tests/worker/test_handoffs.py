"""
Adopting connections, and saying how many may come.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from stickyd.handoff.frame import Handoff, Purpose
from stickyd.interfaces import IHandoffReceiver
from stickyd.testing import FakeHost
from stickyd.worker.capacity import FULL_SECONDS, Capacity
from stickyd.worker.handoffs import Handoffs
from stickyd.worker.outbox import Outbox
from tests.channels import End, Pair, connection, no_descriptor_free, open_sockets
from tests.worker.test_outbox import primary


class Rig:
    """
    A receiver with a host that serves nothing.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.host = FakeHost()
        self.lost: list[bool] = []
        self.listeners: list[Handoff] = []
        self.outbox = Outbox()
        self.capacity = Capacity(self.clock, self.host, 64)
        self.handoffs = Handoffs(
            self.host,
            self.capacity,
            self.outbox,
            lambda handoff: handoff.purpose == Purpose.RESOLVE,
            self.listeners.append,
            lambda: self.lost.append(True),
        )


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A rig whose sockets are closed at the end.
    """
    before = open_sockets()
    rig = Rig()
    yield rig
    rig.host.close()
    assert open_sockets() == before


def test_handoffs_are_a_receiver(rig: Rig) -> None:
    """
    It is what a handoff channel tells things to.
    """
    assert verifyObject(IHandoffReceiver, rig.handoffs)


@pytest.mark.parametrize(
    ("host", "family", "peer"),
    [
        ("192.0.2.7", socket.AF_INET, IPv4Address("TCP", "192.0.2.7", 4711)),
        ("2001:db8::7", socket.AF_INET6, IPv6Address("TCP", "2001:db8::7", 4711)),
        ("::ffff:192.0.2.7", socket.AF_INET6, IPv4Address("TCP", "192.0.2.7", 4711)),
        ("::FFFF:c000:207", socket.AF_INET6, IPv4Address("TCP", "192.0.2.7", 4711)),
        ("fe80::1%eth0", socket.AF_INET6, IPv6Address("TCP", "fe80::1%eth0", 4711)),
        ("", socket.AF_UNIX, UNIXAddress(None)),
    ],
)
def test_peer_is_shown_as_the_application_shall_see_it(
    rig: Rig, host: str, family: int, peer: IAddress
) -> None:
    """
    An IPv4 client of a dual-stack socket is an IPv4 client; the socket stays what it is.
    """
    handoff, client = connection("x")
    handoff.host, handoff.port = host, 4711
    rig.handoffs.received(handoff)
    ((sock, shown, _),) = rig.host.adopted
    assert shown == peer
    assert type(shown) is type(peer)
    assert (sock.family, sock.type) == (family, socket.SOCK_STREAM)
    client.close()


def test_adopted_socket_is_the_connection(rig: Rig) -> None:
    """
    The host gets the very descriptor, non-blocking, unread, with the bytes read before.
    """
    handoff, client = connection("still in it")
    handoff.unread = b"read before"
    os.set_blocking(handoff.descriptor, True)
    rig.handoffs.received(handoff)
    ((sock, _, arrived),) = rig.host.adopted
    assert sock.fileno() == handoff.descriptor
    assert arrived is handoff
    assert arrived.unread == b"read before"
    assert sock.recv(100) == b"still in it"
    assert not os.get_blocking(sock.fileno())
    assert rig.handoffs.adopted == 1
    client.close()


def test_socket_adopted_through_a_channel_is_close_on_exec(rig: Rig) -> None:
    """
    No child of the application inherits a client, though the primary's copy is inheritable.
    """
    pair = Pair()
    worker = pair.worker
    worker.receiver.received = rig.handoffs.received  # type: ignore[method-assign]
    handoff, client = connection("x")
    os.set_inheritable(handoff.descriptor, True)
    assert pair.primary.channel.send(handoff)
    pair.settle()
    ((sock, _, _),) = rig.host.adopted
    assert not sock.get_inheritable()
    client.close()
    pair.close()
    for end in (pair.primary, pair.worker):
        end.channel.reclaim()


def test_lost_channel_is_passed_on(rig: Rig) -> None:
    """
    The end of the channel is the worker's matter, and nobody waits for the primary any more.
    """
    way = primary()
    way.window = 0
    rig.outbox.open(way)
    rig.outbox.send(Handoff(0, "192.0.2.1", 1, b"key"))
    empty: list[None] = []
    rig.outbox.when_empty().addCallback(empty.append)
    rig.handoffs.lost()
    assert (rig.lost, empty) == ([True], [None])


def test_primary_that_breaks_the_protocol_is_left(rig: Rig) -> None:
    """
    What it has sent is told, and the worker ends.
    """
    with capturedLogs() as events:
        rig.handoffs.broken("nonsense")
    assert formatEvent(events[0]) == "The primary sent nonsense: this worker ends"
    assert rig.lost == [True]


def test_what_is_not_served_here(rig: Rig) -> None:
    """
    A listening socket is listened on, and what was passed on at once is nobody's here.
    """
    listener = Handoff(0, "", 0, b"", purpose=Purpose.LISTENER)
    rig.handoffs.received(listener)
    rig.handoffs.received(Handoff(0, "192.0.2.1", 1, b"", purpose=Purpose.RESOLVE))
    assert rig.listeners == [listener]
    assert (rig.host.adopted, rig.handoffs.adopted) == ([], 1)


def test_dropped_descriptor_is_served_when_there_is_room_again(rig: Rig) -> None:
    """
    Over a real channel: the descriptor is dropped, refused, and comes again after the
    window was announced anew.
    """
    pair = Pair()
    worker: End = pair.worker
    channel = worker.channel
    channel._receiver = rig.handoffs
    channel._window = rig.capacity.window
    rig.capacity.watch(channel.announce)
    handoff, client = connection("x")
    assert pair.primary.channel.send(handoff)
    with no_descriptor_free():
        worker.turn()
    pair.settle()
    (returned,) = pair.primary.receiver.handoffs("returned")
    assert not pair.primary.channel.send(returned)
    rig.clock.advance(FULL_SECONDS)
    pair.settle()
    assert pair.primary.channel.send(returned)
    pair.settle()
    assert [sock.recv(100) for sock, _, _ in rig.host.adopted] == [b"x"]
    client.close()
    for end in (pair.primary, pair.worker):
        end.channel.reclaim()


def test_what_was_given_away_is_told_on(rig: Rig) -> None:
    """
    A connection that comes back, and room for more of them, reach whoever gives away.
    """
    way = primary()
    rig.outbox.open(way)
    handoff = Handoff(0, "192.0.2.1", 1, b"key")
    rig.handoffs.returned(handoff)
    assert way.sent == []
    rig.handoffs.room()
    assert way.sent == [handoff]

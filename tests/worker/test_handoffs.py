"""
Adopting connections, and saying how many may come.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IHandoffReceiver
from stickyd.testing import FakeHost
from stickyd.worker.handoffs import FULL_SECONDS, HEADROOM, QUIET, Adoption
from tests.channels import End, Pair, connection, no_descriptor_free, open_sockets

LIMIT = 1000


class Rig:
    """
    An adoption with a host that serves nothing.
    """

    def __init__(self, window: int = 64) -> None:
        self.clock = Clock()
        self.host = FakeHost()
        self.lost: list[bool] = []
        self.back: list[Handoff] = []
        self.rooms: list[bool] = []
        self.adoption = Adoption(
            self.clock,
            self.host,
            window,
            lambda: self.lost.append(True),
            self.back.append,
            lambda: self.rooms.append(True),
        )
        self.announced: list[int] = []
        self.adoption.announce = lambda: self.announced.append(self.adoption.window())

    def fill(self, room: int) -> None:
        """
        Let the host have so many connections that there is room for so many more.
        """
        self.host.connections = 0
        self.adoption._most = 10 * LIMIT
        whole = self.adoption.window()
        self.adoption._most = 64
        self.host.connections = whole - room


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


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """
    A known limit of open files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_adoption_is_a_receiver(rig: Rig) -> None:
    """
    An adoption is what a handoff channel tells things to.
    """
    assert verifyObject(IHandoffReceiver, rig.adoption)


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
    rig.adoption.received(handoff)
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
    rig.adoption.received(handoff)
    ((sock, _, arrived),) = rig.host.adopted
    assert sock.fileno() == handoff.descriptor
    assert arrived is handoff
    assert arrived.unread == b"read before"
    assert sock.recv(100) == b"still in it"
    assert not os.get_blocking(sock.fileno())
    assert rig.adoption.adopted == 1
    client.close()


def test_socket_adopted_through_a_channel_is_close_on_exec(rig: Rig) -> None:
    """
    No child of the application inherits a client, though the primary's copy is inheritable.
    """
    pair = Pair()
    worker = pair.worker
    worker.receiver.received = rig.adoption.received  # type: ignore[method-assign]
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
    The end of the channel is the worker's matter.
    """
    rig.adoption.lost()
    assert rig.lost == [True]


# the window


def test_window_with_plenty_of_room(rig: Rig) -> None:
    """
    With room, as many may be under way as the settings say.
    """
    assert rig.adoption.window() == 64
    assert not rig.clock.getDelayedCalls()


def test_window_counts_what_is_open(few_descriptors: None) -> None:
    """
    What the process had open at first and its connections count against nine tenths of
    the limit; the rest is the application's.
    """
    rig = Rig(window=LIMIT)
    # The listing has itself open for a moment, there as here.
    had = len(os.listdir("/dev/fd"))
    rig.host.connections = 100
    assert rig.adoption.window() == int(LIMIT * HEADROOM) - had - 100


@pytest.mark.parametrize(("room", "window"), [(65, 64), (64, 64), (63, 63), (1, 1)])
def test_window_closes_towards_the_limit(
    rig: Rig, few_descriptors: None, room: int, window: int
) -> None:
    """
    Near the limit only as many may be under way as there is room for.
    """
    rig.fill(room)
    assert rig.adoption.window() == window
    assert not rig.announced


@pytest.mark.parametrize("room", [0, -5])
def test_full_worker_looks_again_until_there_is_room(
    rig: Rig, few_descriptors: None, room: int
) -> None:
    """
    A full worker takes nobody, looks again by the clock, and announces the room it finds.
    """
    rig.fill(room)
    assert rig.adoption.window() == 0
    assert rig.adoption.window() == 0
    assert len(rig.clock.getDelayedCalls()) == 1
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [0]
    rig.fill(7)
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [0, 7]
    assert not rig.clock.getDelayedCalls()


def test_full_worker_says_so_once_in_a_while(rig: Rig, few_descriptors: None) -> None:
    """
    However long it stays full, the log has one line for each QUIET seconds.
    """
    rig.fill(0)
    with capturedLogs() as events:
        rig.adoption.window()
        for _ in range(int(2 * QUIET / FULL_SECONDS)):
            rig.clock.advance(FULL_SECONDS)
    lines = [event for event in events if "No more connections for now" in event["log_format"]]
    assert len(lines) in (2, 3)  # the steps' rounding errors decide on the last
    assert lines[0]["connections"] == rig.host.connections


def test_starved_worker_takes_nobody_for_a_moment(rig: Rig) -> None:
    """
    A dropped descriptor closes the window whatever the count says, and time opens it.
    """
    rig.adoption.starved()
    assert rig.adoption.window() == 0
    rig.clock.advance(FULL_SECONDS)
    assert rig.announced == [64]


def test_closing_worker_takes_nobody(rig: Rig) -> None:
    """
    A worker that drains has no window, says so, and does not look for one.
    """
    rig.adoption.close()
    assert rig.announced == [0]
    assert rig.adoption.window() == 0
    assert not rig.clock.getDelayedCalls()


def test_dropped_descriptor_is_served_when_there_is_room_again(rig: Rig) -> None:
    """
    Over a real channel: the descriptor is dropped, refused, and comes again after the
    window was announced anew.
    """
    pair = Pair()
    worker: End = pair.worker
    channel = worker.channel
    channel._receiver = rig.adoption
    channel._window = rig.adoption.window
    rig.adoption.announce = channel.announce
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
    handoff = Handoff(0, "192.0.2.1", 1, b"key")
    rig.adoption.returned(handoff)
    rig.adoption.room()
    assert (rig.back, rig.rooms) == ([handoff], [True])

"""
Looking at first bytes: real sockets, a real epoll, and time that the test advances.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from stickyd.affinity.address import IpKey
from stickyd.affinity.resolve import Resolver
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.handoff.frame import BY_KEY, Flag, Handoff
from stickyd.interfaces import IDestination
from stickyd.listen.peeking import QUIET_SECONDS, Bounds, Peeker
from stickyd.listen.pending import COARSE_SECONDS, LONGEST_RETRY_SECONDS, RETRY_SECONDS
from stickyd.testing import FakeReadiness
from tests.channels import open_sockets

SIGNER = Signer([b"a secret of some length"])
LOCAL = IpKey().key_of("127.0.0.1")
HEAD = b"GET /a HTTP/1.1\r\nHost: h\r\nX-User: alice\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"


class Epoll(FakeReadiness):
    """
    Readiness by a real, level-triggered epoll.

    :ivar wakes: how many events there were.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._epoll = select.epoll()
        self.wakes = 0

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)
        super().add_reader(descriptor, callback)

    def remove_reader(self, descriptor: int) -> bool:
        if descriptor in self.readers:
            self._epoll.unregister(descriptor)
        return super().remove_reader(descriptor)

    def turn(self, seconds: float) -> int:
        """
        Wait for events and tell their owners.

        :return: how many there were.
        """
        events = self._epoll.poll(seconds)
        self.wakes += len(events)
        for descriptor, _ in events:
            if descriptor in self.readers:
                self.readers[descriptor]()
        return len(events)

    def close(self) -> None:
        self._epoll.close()


@implementer(IDestination)
class Destination:
    """
    Keeps what is delivered, and looks at each descriptor as it comes.

    :ivar marks: the low-water mark of each.
    """

    def __init__(self, readiness: Epoll) -> None:
        self._readiness = readiness
        self.delivered: list[Handoff] = []
        self.marks: list[int] = []

    def deliver(self, handoff: Handoff) -> None:
        assert handoff.descriptor not in self._readiness.readers
        with socket.socket(fileno=os.dup(handoff.descriptor)) as sock:
            self.marks.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
        self.delivered.append(handoff)


class Rig:
    """
    A peeker, and clients that it accepts.
    """

    def __init__(
        self,
        entries: str = "header:X-User,cookie:c,ip",
        trust: str = "",
        proxied: bool = False,
        head_bytes: int = 200,
        most: int = 3,
        closes: bool = False,
    ) -> None:
        self.clock = Clock()
        self.readiness = Epoll(self.clock)
        self.destination = Destination(self.readiness)
        networks = Networks.parse(trust)
        resolver = Resolver(
            parse_affinity(entries), SIGNER, lambda slot: slot < 4, networks, lambda _: None
        )
        bounds = Bounds(head_bytes, 10.0, most, closes)
        self.peeker = Peeker(
            self.clock, self.readiness, self.destination, resolver, networks, proxied, bounds
        )
        self.clients: list[socket.socket] = []

    def client(self, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        """
        Connect, send, and have it accepted.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname(), source_address=(source, 0))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(5)
            self.clients.append(client)
            accepted, (host, port) = listener.accept()
        if data:
            client.sendall(data)
            select.select([accepted], [], [], 5)
        self.peeker.accepted(accepted.detach(), host, port)
        return client

    def send(self, client: socket.socket, data: bytes) -> None:
        """
        Send more, and let it be seen.
        """
        client.sendall(data)
        assert self.readiness.turn(5)

    @property
    def keys(self) -> list[bytes]:
        """
        The keys of what was delivered.
        """
        return [handoff.key for handoff in self.destination.delivered]

    def last(self) -> Handoff:
        """
        The handoff that was delivered last, of those that must have been.
        """
        return self.destination.delivered[-1]

    def unread(self) -> bytes:
        """
        What the worker will read from the connection that was delivered last.
        """
        with socket.socket(fileno=os.dup(self.last().descriptor)) as sock:
            return sock.recv(65536, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """
        Close everything.
        """
        for client in self.clients:
            client.close()
        for handoff in self.destination.delivered:
            os.close(handoff.descriptor)
        self.readiness.close()


def is_closed(client: socket.socket) -> bool:
    """
    Whether the other end has closed without a word.
    """
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    """
    Makes rigs, and sees that nothing of them is left.
    """
    before = open_sockets()
    made: list[Rig] = []

    def make(*arguments: object, **named: object) -> Rig:
        made.append(Rig(*arguments, **named))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for rig in made:
        rig.peeker.stop()
        rig.close()
    assert open_sockets() == before


Rigs = Callable[..., Rig]


def test_head_that_is_there_is_placed_at_once(rigs: Rigs) -> None:
    """
    The usual case: no waiting, no reader, no timer; and nothing is read.
    """
    rig = rigs()
    rig.client(HEAD + b"more")
    handoff = rig.last()
    assert (handoff.key, handoff.slot, handoff.flags) == (b"alice", BY_KEY, Flag.PLACED)
    assert (handoff.host, handoff.unread) == ("127.0.0.1", b"")
    assert rig.unread() == HEAD + b"more"
    assert rig.readiness.wakes == 0
    assert rig.clock.getDelayedCalls() == []


def test_head_byte_by_byte_is_placed_when_whole(rigs: Rigs) -> None:
    """
    Each byte wakes once; the connection goes with the last one, its low-water mark reset.
    """
    rig = rigs()
    client = rig.client()
    for end in range(1, len(HEAD) + 1):
        assert rig.keys == []
        assert len(rig.peeker) == 1
        rig.send(client, HEAD[end - 1 : end])
    assert rig.readiness.wakes == len(HEAD)
    assert (rig.keys, rig.destination.marks) == ([b"alice"], [1])
    assert rig.unread() == HEAD
    assert (rig.readiness.readers, len(rig.peeker)) == ({}, 0)


def test_part_of_a_head_does_not_spin(rigs: Rigs) -> None:
    """
    Bytes that were seen and are not enough wake nobody: without the low-water mark these
    turns would all have an event.
    """
    rig = rigs()
    client = rig.client(HEAD[:20])
    for _ in range(20):
        assert rig.readiness.turn(0.005) == 0
    rig.send(client, HEAD[20:])
    assert rig.keys == [b"alice"]


def test_part_of_a_head_on_a_unix_socket_does_not_spin(rigs: Rigs) -> None:
    """
    A UNIX socket has no low-water mark; it is looked at now and then instead.
    """
    rig = rigs()
    ours, theirs = socket.socketpair()
    rig.clients.append(theirs)
    theirs.sendall(HEAD[:20])
    rig.peeker.accepted(ours.detach(), "", 0)
    for _ in range(20):
        rig.readiness.turn(0.002)
    assert rig.readiness.wakes == 1
    for _ in range(3):
        rig.clock.advance(RETRY_SECONDS)
    assert rig.readiness.wakes == 1
    theirs.sendall(HEAD[20:])
    rig.clock.advance(LONGEST_RETRY_SECONDS)
    assert rig.keys == [b"alice"]


def test_fault_23_a_look_in_vain_puts_the_next_one_off(rigs: Rigs) -> None:
    """
    Fault 23: a part of a head on a UNIX socket is looked at less and less often, until more
    of it has come.
    """
    rig = rigs()
    ours, theirs = socket.socketpair()
    rig.clients.append(theirs)
    theirs.sendall(HEAD[:20])
    rig.peeker.accepted(ours.detach(), "", 0)
    rig.readiness.turn(1)
    looks = 0
    while rig.clock.seconds() < 5.0:
        due = min(call.getTime() for call in rig.clock.getDelayedCalls())
        rig.clock.advance(due - rig.clock.seconds())
        looks += 1
    assert 5 < looks < 15
    theirs.sendall(HEAD[20:])
    rig.clock.advance(LONGEST_RETRY_SECONDS)
    assert rig.keys == [b"alice"]


@pytest.mark.parametrize("closes", [False, True])
def test_fault_23_urgent_data_is_not_waited_for(closes: bool, rigs: Rigs) -> None:
    """
    Fault 23: no peek sees what is behind urgent data, so a head with some in it is given up:
    its client is placed by its address, or closed.
    """
    rig = rigs(closes=closes)
    client = rig.client(HEAD[:20])
    client.send(HEAD[20:21], socket.MSG_OOB)
    client.sendall(HEAD[21:])
    rig.readiness.turn(1)
    assert rig.keys == ([] if closes else [LOCAL])
    assert rig.peeker.counts == {"urgent data": 1}
    assert len(rig.peeker) == 0
    assert rig.readiness.turn(0.005) == 0


def test_unix_client_that_goes_is_closed(rigs: Rigs) -> None:
    """
    The end of a UNIX connection behind part of a head is seen, too.
    """
    rig = rigs()
    ours, theirs = socket.socketpair()
    theirs.sendall(HEAD[:20])
    rig.peeker.accepted(ours.detach(), "", 0)
    rig.readiness.turn(1)
    theirs.close()
    rig.clock.advance(RETRY_SECONDS)
    assert (rig.keys, len(rig.peeker), rig.peeker.counts["gone"]) == ([], 0, 1)


@pytest.mark.parametrize("sent", [b"", HEAD[:20]])
@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_client_that_goes_is_closed(rigs: Rigs, sent: bytes, how: str) -> None:
    """
    Whoever ends or resets its connection before its head is whole costs nobody anything.
    """
    rig = rigs()
    client = rig.client(sent)
    if how == "half":
        client.shutdown(socket.SHUT_WR)
    else:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert rig.readiness.turn(5)
    assert (rig.keys, len(rig.peeker), rig.peeker.counts["gone"]) == ([], 0, 1)
    assert rig.readiness.readers == {}


def test_client_that_ends_behind_his_head_is_served(rigs: Rigs) -> None:
    """
    A half-closed connection with a whole request in it is a request.
    """
    rig = rigs()
    client = rig.client(HEAD[:20])
    client.sendall(HEAD[20:])
    client.shutdown(socket.SHUT_WR)
    rig.readiness.turn(5)
    assert rig.keys == [b"alice"]


def test_silent_clients_wait_their_time_and_no_longer(rigs: Rigs) -> None:
    """
    One timer for all of them; each is placed by its address when its time is over.
    """
    rig = rigs()
    rig.client()
    rig.clock.advance(4)
    late = rig.client(HEAD[:20])
    assert len(rig.clock.getDelayedCalls()) == 1
    rig.clock.advance(6)
    assert (rig.keys, rig.peeker.counts) == ([LOCAL], {"too late": 1})
    assert rig.last().flags == 0
    rig.clock.advance(4 + COARSE_SECONDS)
    assert (rig.keys, rig.destination.marks) == ([LOCAL, LOCAL], [1, 1])
    assert rig.unread() == HEAD[:20]
    assert rig.clock.getDelayedCalls() == []
    late.close()


def test_too_many_waiting(rigs: Rigs) -> None:
    """
    Past the bound nobody waits; whoever need not wait is not concerned.
    """
    rig = rigs(most=2)
    waiting = [rig.client() for _ in range(2)]
    rig.client()
    assert (rig.keys, rig.peeker.counts) == ([LOCAL], {"too many": 1})
    rig.client(HEAD)
    assert rig.keys == [LOCAL, b"alice"]
    rig.send(waiting[0], HEAD)
    rig.client()
    assert rig.keys == [LOCAL, b"alice", b"alice"]
    assert len(rig.peeker) == 2


def test_too_long_a_head_is_left_to_the_worker(rigs: Rigs) -> None:
    """
    It is placed by its address, unread, so that the worker can answer 431.
    """
    rig = rigs(head_bytes=100)
    client = rig.client(b"GET / HTTP/1.1\r\n")
    rig.send(client, b"X: " + b"x" * 80)
    assert rig.keys == []
    rig.send(client, b"x")
    assert (rig.keys, rig.peeker.counts) == ([LOCAL], {"too long": 1})
    assert (len(rig.unread()), rig.destination.marks) == (100, [1])


def test_bounds_can_close(rigs: Rigs) -> None:
    """
    As configured, whoever exceeds a bound is closed instead.
    """
    rig = rigs(most=1, closes=True)
    late = rig.client()
    crowded = rig.client()
    assert is_closed(crowded)
    rig.clock.advance(10)
    assert is_closed(late)
    assert is_closed(rig.client(b"GET / HTTP/1.1\r\nX: " + b"x" * 200))
    assert rig.keys == []


def test_cookie_names_the_slot(rigs: Rigs) -> None:
    """
    A verified cookie is the slot; the address stands by should the slot be gone.
    """
    rig = rigs("cookie:c,ip")
    rig.client(b"GET / HTTP/1.1\r\nCookie: c=" + SIGNER.mint(2).encode() + b"\r\n\r\n")
    assert (rig.last().slot, rig.last().key) == (2, LOCAL)
    rig.client(b"GET / HTTP/1.1\r\nCookie: c=" + SIGNER.mint(4).encode() + b"\r\n\r\n")
    assert (rig.last().slot, rig.last().key) == (BY_KEY, LOCAL)


def test_newcomer_has_no_key(rigs: Rigs) -> None:
    """
    A client whom no entry knows is delivered without a key.
    """
    rig = rigs("header:X-Absent")
    rig.client(HEAD)
    assert (rig.last().slot, rig.last().key, rig.last().flags) == (BY_KEY, b"", Flag.PLACED)


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x10", b"\x00"])
def test_other_protocols_fall_through(rigs: Rigs, data: bytes) -> None:
    """
    What is no HTTP is placed by what is left of the list, at its first bytes.
    """
    rig = rigs()
    rig.client(data)
    assert (rig.keys, rig.last().flags) == ([LOCAL], 0)
    assert rig.unread() == data


# PROXY


@pytest.mark.parametrize("behind", [b"", HEAD])
@pytest.mark.parametrize("entries", ["ip", "header:X-User,ip"])
def test_proxy_header_is_consumed_exactly(rigs: Rigs, entries: str, behind: bytes) -> None:
    """
    Whom it names is the client; what follows it is left, be it there already or not.
    """
    rig = rigs(entries, "127.0.0.1", True)
    client = rig.client(V1 + behind)
    if entries != "ip" and not behind:
        assert rig.keys == []
    if not behind:
        client.sendall(HEAD)
        if len(rig.peeker):
            rig.readiness.turn(5)
    handoff = rig.last()
    assert (handoff.host, handoff.port) == ("192.0.2.7", 4711)
    assert handoff.flags & Flag.CLAIMED
    assert handoff.key == (IpKey().key_of("192.0.2.7") if entries == "ip" else b"alice")
    assert rig.unread() == HEAD


def test_proxy_header_byte_by_byte(rigs: Rigs) -> None:
    """
    A header and a head in single bytes are the same; each byte wakes at most once.
    """
    rig = rigs("header:X-User", "127.0.0.1", True)
    client = rig.client()
    for byte in V1 + HEAD:
        client.sendall(bytes([byte]))
        rig.readiness.turn(0.01)
    assert rig.keys == [b"alice"]
    assert rig.readiness.wakes <= len(V1 + HEAD)
    assert (rig.unread(), rig.destination.marks) == (HEAD, [1])


@pytest.mark.parametrize(
    ("source", "data"),
    [("127.0.0.9", V1), ("127.0.0.9", b"\r\n\r\n\0\r\nQUIT\n"), ("127.0.0.1", HEAD)],
)
def test_proxy_header_is_a_matter_of_trust(rigs: Rigs, source: str, data: bytes) -> None:
    """
    One from elsewhere, and a trusted peer without one, are closed; the log says so once in
    a while.
    """
    rig = rigs("ip", "127.0.0.1", True)
    with capturedLogs() as logs:
        for _ in range(3):
            assert is_closed(rig.client(data, source))
        rig.clock.advance(QUIET_SECONDS)
        assert is_closed(rig.client(data, source))
    lines = [formatEvent(event) for event in logs]
    assert len(lines) == 2
    assert lines[0].startswith(f"Connection of {source} closed: ")
    assert lines[1].endswith("; 4 so far")
    assert (rig.keys, rig.peeker.counts) == ([], {"refused": 4})


def test_stranger_without_a_proxy_header_is_a_client(rigs: Rigs) -> None:
    """
    Even if it begins like one, in pieces.
    """
    rig = rigs("ip", "127.0.0.1", True)
    client = rig.client(b"P", "127.0.0.9")
    assert rig.keys == []
    rig.send(client, b"OST / HTTP/1.1\r\n")
    assert (rig.last().host, rig.last().flags) == ("127.0.0.9", 0)
    assert rig.unread() == b"POST / HTTP/1.1\r\n"


def test_owed_proxy_header_is_not_waited_for_in_vain(rigs: Rigs) -> None:
    """
    A trusted peer that does not send it cannot be placed: it is closed when time is over,
    and so is one past the bound of those who wait.
    """
    rig = rigs("ip", "127.0.0.1", True, most=1)
    late = rig.client(V1[:10])
    assert is_closed(rig.client())
    rig.clock.advance(10)
    assert is_closed(late)
    assert rig.keys == []


def test_health_check_of_a_proxy_is_its_own(rigs: Rigs) -> None:
    """
    A LOCAL header names nobody: the peer itself is the client.
    """
    rig = rigs("ip", "127.0.0.1", True)
    rig.client(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00" + HEAD)
    assert (rig.last().host, rig.last().key, rig.last().flags) == ("127.0.0.1", LOCAL, Flag.PLACED)
    assert rig.unread() == HEAD


# forwarded headers


def test_forwarded_header_is_read_from_trusted_peers_only(rigs: Rigs) -> None:
    """
    With the address alone in the list, nobody else's bytes are looked at.
    """
    rig = rigs("ip", "127.0.0.1")
    rig.client(source="127.0.0.9")
    assert rig.keys == [IpKey().key_of("127.0.0.9")]
    rig.client(b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
    assert rig.last().key == IpKey().key_of("192.0.2.7")
    assert (rig.last().host, rig.last().flags) == ("127.0.0.1", Flag.PLACED)


# the end, and another beginning


def test_stop_places_those_who_wait(rigs: Rigs) -> None:
    """
    Nobody waits at a primary that stops.
    """
    rig = rigs()
    rig.client()
    rig.client(HEAD[:10])
    rig.peeker.stop()
    assert (rig.keys, rig.destination.marks) == ([LOCAL, LOCAL], [1, 1])
    assert (rig.readiness.readers, rig.clock.getDelayedCalls()) == ({}, [])


def test_successor_goes_on(rigs: Rigs) -> None:
    """
    Who waits at a primary that replaces itself waits at its successor, wherever it was.
    """
    old = rigs("header:X-User", "127.0.0.1", True)
    plain, proxied = old.client(b"P", "127.0.0.9"), old.client(V1 + HEAD[:9])
    silent = old.client()
    state = old.peeker.dump_state()
    new = rigs("header:X-User", "127.0.0.1", True)
    for each in state:
        new.peeker.restore_state({**each, "descriptor": os.dup(each["descriptor"])})
    for client, data in ((plain, b"UT" + HEAD[3:]), (proxied, HEAD[9:])):
        new.send(client, data)
        assert new.last().key == b"alice"
    assert (new.last().host, new.last().port) == ("192.0.2.7", 4711)
    new.send(silent, V1 + HEAD)
    assert (len(new.keys), set(new.destination.marks)) == (3, {1})

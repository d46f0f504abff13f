"""
Kernel steering on real sockets: who gets which connection, and that none is lost.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import IPv6Address, ip_address, ip_network
from struct import pack
from threading import Thread
from typing import Any

import pytest

from stickyd.errors import ListenError, SettingError
from stickyd.listen.reuseport import probe
from stickyd.listen.reuseport.group import SteeredGroup, open_group, queued, require_steerable
from stickyd.listen.reuseport.probe import find_disagreement
from stickyd.placement.modulo import Modulo
from stickyd.placement.rendezvous import Rendezvous


def slot_of_host(host: str, slots: int, ipv4_prefix: int = 32, ipv6_prefix: int = 64) -> int:
    """
    What handoff steering answers: the placement of the client's network.
    """
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    network = ip_network((address, prefix), strict=False)
    return Rendezvous(slots).slot_of(network.network_address.packed)


def loopback(number: int) -> str:
    """
    One of 2**24 addresses, spread over all three octets.
    """
    spread = (number + 1) * 0x9E3779 % 2**24
    return f"127.{spread >> 16}.{spread >> 8 & 255}.{spread & 255}"


@contextmanager
def connection(group: SteeredGroup, source: str, target: str = "127.0.0.1") -> Iterator[str]:
    """
    A client that is connected from ``source``, and resets when it is done.
    """
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        client.bind((source, 0))
        client.connect((target, group.sockets[0].getsockname()[1]))
        yield source


def where_queued(group: SteeredGroup) -> list[tuple[int, str]]:
    """
    Accept everything: the number of the socket and the reported client, for each.
    """
    found = []
    for number, listener in enumerate((*group.sockets, *group.retired)):
        for accepted, peer in queued(listener):
            accepted.close()
            found.append((number, peer[0]))
    return found


class Delivered:
    """
    Takes connections, and closes them at the end.
    """

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def __call__(self, accepted: socket.socket, peer: Any) -> None:
        """
        Note whose connection it is.
        """
        self.hosts.append(peer[0])
        assert accepted.getblocking() is False
        accepted.close()


@pytest.mark.parametrize("slots", [1, 7, 64, 256])
def test_the_kernel_places_2000_clients_as_python_does(slots: int) -> None:
    """
    Each of 2,000 loopback clients lands on the socket of its slot.
    """
    with closing(open_group("127.0.0.1", 0, slots, 32, 64)) as group:
        for number in range(2000):
            source = loopback(number)
            with connection(group, source):
                expected = slot_of_host(source, slots)
                connected, _peer = group.sockets[expected].accept()
                connected.close()
        assert where_queued(group) == []


@pytest.mark.parametrize("prefix", [0, 8, 17, 24, 31])
def test_an_ipv4_prefix_keeps_a_network_together(prefix: int) -> None:
    """
    With a prefix length the kernel looks at that many bits of an IPv4 address.
    """
    with closing(open_group("127.0.0.1", 0, 16, prefix, 64)) as group:
        for number in range(100):
            source = loopback(number)
            with connection(group, source):
                assert where_queued(group) == [(slot_of_host(source, 16, prefix), source)]


@pytest.mark.parametrize("ipv6_prefix", [0, 64, 127, 128])
def test_dual_stack_places_both_families(ipv6_prefix: int) -> None:
    """
    On ``::`` an IPv4 client, reported as mapped, counts as IPv4; ::1 counts as IPv6.
    """
    with closing(open_group("::", 0, 64, 32, ipv6_prefix)) as group:
        for number in range(200):
            source = loopback(number)
            with connection(group, source):
                assert where_queued(group) == [(slot_of_host(source, 64), f"::ffff:{source}")]
        expected = slot_of_host("::1", 64, 32, ipv6_prefix)
        with connection(group, "::1", "::1"):
            assert where_queued(group) == [(expected, "::1")]


def test_an_empty_host_is_every_ipv4_address() -> None:
    """
    As with Twisted's tcp: endpoint, no interface means 0.0.0.0.
    """
    with closing(open_group("", 0, 2, 32, 64)) as group:
        assert {member.getsockname()[0] for member in group.sockets} == {"0.0.0.0"}


def test_resize_under_waiting_connections_loses_none() -> None:
    """
    Clients that wait in the queues while slots come and go are all still there.
    """
    sizes = [8, 3, 5, 1, 16, 15, 2]
    waiting: list[tuple[str, int]] = []
    with ExitStack() as clients, closing(open_group("127.0.0.1", 0, sizes[0], 32, 64)) as group:
        for turn, slots in enumerate(sizes):
            group.resize(slots)
            assert len(group.sockets) == slots == group.slots
            for number in range(40):
                source = clients.enter_context(connection(group, loopback(40 * turn + number)))
                waiting.append((source, slot_of_host(source, slots)))
        found = where_queued(group)
        assert sorted((source, slot) for slot, source in found) == sorted(waiting)


def test_drained_connections_come_from_removed_slots_only() -> None:
    """
    Draining hands over what waits for removed slots, and leaves the others' alone.
    """
    sources = [loopback(number) for number in range(100)]
    with ExitStack() as clients, closing(open_group("127.0.0.1", 0, 6, 32, 64)) as group:
        for source in sources:
            clients.enter_context(connection(group, source))
        group.resize(2)
        delivered = Delivered()
        group.drain_retired(delivered)
        removed = [source for source in sources if slot_of_host(source, 6) >= 2]
        assert sorted(delivered.hosts) == sorted(removed)
        assert len(where_queued(group)) == len(sources) - len(removed)


def test_a_handshake_under_way_survives_a_resize() -> None:
    """
    A client whose SYN came before the resize is served though it completes after it.
    """
    with closing(open_group("127.0.0.1", 0, 2, 32, 64)) as group:
        for member in group.sockets:
            # The handshake is complete for the kernel only when data comes (tcp(7)).
            member.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        source = next(host for host in map(loopback, range(99)) if slot_of_host(host, 2) == 1)
        with socket.socket() as client:
            client.settimeout(10)
            client.bind((source, 0))
            client.connect(group.sockets[0].getsockname())
            group.resize(1)
            delivered = Delivered()
            group.drain_retired(delivered)
            assert delivered.hosts == []
            client.sendall(b"hello")
            group.close_retired(delivered)
            assert delivered.hosts == [source]


def test_concurrent_resizes_reset_no_client() -> None:
    """
    While clients connect from other threads, resizes up and down lose none of them.
    """
    group = open_group("127.0.0.1", 0, 4, 32, 64)
    served: list[bytes] = []

    def clients(first: int) -> None:
        for number in range(first, first + 150):
            with socket.socket() as client:
                client.settimeout(20)
                client.bind((loopback(number), 0))
                client.connect(address)
                served.append(client.recv(1))

    def answer(accepted: socket.socket, _peer: Any) -> None:
        with accepted:
            accepted.send(b"!")

    with closing(group):
        address = group.sockets[0].getsockname()
        threads = [Thread(target=clients, args=(first,)) for first in (0, 1000, 2000)]
        for thread in threads:
            thread.start()
        turn = 0
        while any(thread.is_alive() for thread in threads):
            group.resize((1, 5, 2, 9, 3)[turn % 5])
            for listener in group.sockets:
                for accepted, peer in queued(listener):
                    answer(accepted, peer)
            group.drain_retired(answer)
            turn += 1
        for thread in threads:
            thread.join()
    assert served == [b"!"] * 450


def test_closing_retired_sockets_frees_their_numbers_even_if_a_worker_holds_copies() -> None:
    """
    A slot added later gets its number though an old worker never closed its copy.
    """
    with closing(open_group("127.0.0.1", 0, 5, 32, 64)) as group, ExitStack() as worker:
        copies = [worker.enter_context(member.dup()) for member in group.sockets]
        group.resize(2)
        group.close_retired(Delivered())
        assert group.retired == ()
        with pytest.raises(OSError, match="Invalid argument") as refusal:
            copies[4].accept()
        assert refusal.value.errno == errno.EINVAL
        group.resize(4)
        for number in range(100):
            source = loopback(number)
            with connection(group, source):
                assert where_queued(group) == [(slot_of_host(source, 4), source)]


def test_a_slot_that_comes_back_gets_its_socket_back() -> None:
    """
    Growing again before the retired sockets are closed reuses them, in their order.
    """
    with closing(open_group("127.0.0.1", 0, 4, 32, 64)) as group:
        before = group.sockets
        group.resize(1)
        assert group.retired == before[1:]
        group.resize(3)
        assert (group.sockets, group.retired) == (before[:3], before[3:])


def test_a_resize_that_fails_changes_nothing() -> None:
    """
    Without descriptors for new sockets the group stays whole, and goes on placing.
    """
    with closing(open_group("127.0.0.1", 0, 3, 32, 64)) as group:
        before = group.sockets
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 3, hard))
            try:
                with pytest.raises(ListenError, match="Too many open files"):
                    group.resize(200)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (group.slots, group.sockets, group.retired) == (3, before, ())
        with connection(group, "127.9.9.9"):
            assert where_queued(group) == [(slot_of_host("127.9.9.9", 3), "127.9.9.9")]
        with pytest.raises(SettingError, match="257 slots"):
            group.resize(257)


def test_a_group_lives_on_in_the_next_process_image() -> None:
    """
    A group made of the inherited descriptors goes on, with this version's program.
    """
    with closing(open_group("127.0.0.1", 0, 4, 32, 64)) as old:
        inherited = [socket.socket(fileno=member.dup().detach()) for member in old.sockets]
    with closing(SteeredGroup(inherited, 4, 16, 64)) as group:
        group.resize(4)
        for number in range(40):
            source = loopback(number)
            with connection(group, source):
                assert where_queued(group) == [(slot_of_host(source, 4, 16), source)]


def test_a_queue_outlives_the_workers_copy() -> None:
    """
    A connection queued for a worker that dies waits for the successor.
    """
    with closing(open_group("127.0.0.1", 0, 1, 32, 64)) as group:
        died = group.sockets[0].dup()
        with connection(group, "127.0.0.9"):
            died.close()
            assert where_queued(group) == [(0, "127.0.0.9")]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"])
def test_the_check_passes_where_the_kernel_agrees(host: str) -> None:
    """
    On every kind of address the probes find kernel and Python of one mind, and leave nothing.
    """
    with closing(open_group(host, 0, 16, 24, 64)) as group:
        delivered = Delivered()
        reason = find_disagreement(group, lambda peer: slot_of_host(peer, 16, 24), delivered)
        assert reason is None
        assert delivered.hosts == []
        assert where_queued(group) == []


def test_the_check_finds_sockets_in_a_wrong_order() -> None:
    """
    A group whose sockets an upgrade passed on in a wrong order is found out.
    """
    with closing(open_group("127.0.0.1", 0, 4, 32, 64)) as group:
        first, second, *others = (member.dup() for member in group.sockets)
        with closing(SteeredGroup([second, first, *others], 4, 32, 64)) as swapped:
            reason = find_disagreement(swapped, lambda peer: slot_of_host(peer, 4), Delivered())
            assert reason is not None
            assert "on slot" in reason
            assert "of 4" in reason


def test_the_check_finds_a_stranger_in_the_group() -> None:
    """
    A client that reaches a socket which is not ours is found out.
    """
    with closing(open_group("127.0.0.1", 0, 2, 32, 64)) as group:
        foreign = group.sockets[1].dup()
        with closing(SteeredGroup([group.sockets[0].dup()], 1, 32, 64)) as ours, foreign:
            reason = find_disagreement(ours, lambda _peer: 0, Delivered())
            assert reason is not None
            assert "on no socket of ours" in reason


def test_the_check_hands_over_clients_that_stand_before_a_probe() -> None:
    """
    A client that connects during the check is delivered, not swallowed.
    """
    early = ["127.77.0.1", "127.77.0.2"]
    with closing(open_group("127.0.0.1", 0, 1, 32, 64)) as group, ExitStack() as clients:
        for source in early:
            clients.enter_context(connection(group, source))
        delivered = Delivered()
        assert find_disagreement(group, lambda _peer: 0, delivered) is None
        assert delivered.hosts == early


def test_the_check_says_when_it_cannot_connect() -> None:
    """
    Probes that are refused are a reason, with the addresses in it.
    """
    with closing(open_group("127.0.0.1", 0, 1, 32, 64)) as group:
        group.sockets[0].shutdown(socket.SHUT_RD)
        reason = find_disagreement(group, lambda _peer: 0, Delivered())
        assert reason is not None
        assert "could not connect from 127.0.0.1 to 127.0.0.1" in reason


def test_the_check_does_without_ipv6_where_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    On a machine without the address ::1 the IPv4 probes decide.
    """
    connect = probe._connect
    sources: list[str] = []

    def connect_without_ipv6(target: Any, source: str) -> socket.socket:
        if source == "::1":
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        sources.append(source)
        return connect(target, source)

    monkeypatch.setattr(probe, "_connect", connect_without_ipv6)
    with closing(open_group("::", 0, 8, 32, 64)) as group:
        assert find_disagreement(group, lambda peer: slot_of_host(peer, 8), Delivered()) is None
        assert len(sources) == 32


def test_a_second_group_cannot_join_the_first() -> None:
    """
    Two daemons on one address would mix up each other's slots, so the second is refused.
    """
    with closing(open_group("127.0.0.1", 0, 2, 32, 64)) as group:
        port = group.sockets[0].getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1, port {port}: Address already in use"):
            open_group("127.0.0.1", port, 2, 32, 64)


def test_opening_without_descriptors_leaves_nothing_open() -> None:
    """
    An open that fails half way closes what it had opened.
    """
    before = os.listdir("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 3, hard))
        try:
            with pytest.raises(ListenError, match="Too many open files"):
                open_group("127.0.0.1", 0, 100, 32, 64)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == len(before)


class RefusingSocket(socket.socket):
    """
    A socket on a machine whose ``net.core.optmem_max`` is too small.
    """

    def setsockopt(self, *_arguments: object) -> None:
        """
        Fail as sk_reuseport_attach_filter does.
        """
        raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_a_program_that_the_kernel_refuses_is_an_operators_error() -> None:
    """
    Where the kernel takes no program, the message says what can be done instead.
    """
    one_end, other_end = socket.socketpair()
    other_end.close()
    mute = SteeredGroup([one_end], 1, 32, 64)
    with (
        closing(mute),
        pytest.raises(ListenError, match=r"steering program.*use handoff") as refusal,
    ):
        mute.resize(1)
    assert "optmem_max" not in str(refusal.value)
    small = SteeredGroup([RefusingSocket()], 1, 32, 64)
    with closing(small), pytest.raises(ListenError, match=r"optmem_max, have fewer slots, or use"):
        small.resize(1)


class AbortingSocket(socket.socket):
    """
    A listening socket with a client that gave up at the head of its queue.
    """

    aborted = 1

    def accept(self) -> tuple[socket.socket, Any]:
        """
        Fail at first, as the manual page has it, then go on.
        """
        if self.aborted:
            self.aborted -= 1
            raise ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")
        return super().accept()


def test_a_client_that_gave_up_does_not_hide_those_behind_it() -> None:
    """
    Accepting goes on after an aborted connection.
    """
    with AbortingSocket() as listener, socket.socket() as client:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        (accepted, peer), *others = queued(listener)
        accepted.close()
        assert (peer, others) == (client.getsockname(), [])


@pytest.mark.parametrize(
    ("host", "port", "error", "reason"),
    [
        ("localhost", 0, ListenError, "'localhost': not an address"),
        ("203.0.113.1", 0, ListenError, "203.0.113.1, port 0: Cannot assign"),
        ("127.0.0.1", 70_000, SettingError, "a port is 0 to 65535, not 70000"),
    ],
)
def test_refuses_an_address_that_is_none(
    host: str, port: int, error: type[Exception], reason: str
) -> None:
    """
    What cannot be listened on is an operator's error that names the address.
    """
    with pytest.raises(error, match=reason):
        open_group(host, port, 2, 32, 64)


@pytest.mark.parametrize("endpoint", ["tcp:3000", "tcp:3000:interface=127.0.0.1", "3000"])
def test_accepts_plain_tcp_on_linux(endpoint: str) -> None:
    """
    Rendezvous placement on a TCP endpoint can be steered.
    """
    require_steerable(endpoint, Rendezvous(2), "linux")


def test_refuses_what_the_kernel_cannot_do() -> None:
    """
    Another system, endpoint or placement is refused by name, with the way out.
    """
    for endpoint, placement, platform, reason in [
        ("tcp:3000", Rendezvous(2), "darwin", "needs Linux, and this is darwin"),
        (
            "unix:/run/x",
            Rendezvous(2),
            "linux",
            "needs a tcp: or tcp6: endpoint, and 'unix:/run/x' is none",
        ),
        (
            "ssl:443",
            Rendezvous(2),
            "linux",
            "needs a tcp: or tcp6: endpoint, and 'ssl:443' is none",
        ),
        ("tcp:3000", Modulo(2), "linux", "rendezvous placement only, not modulo"),
    ]:
        with pytest.raises(SettingError, match=f"{reason}; use handoff steering"):
            require_steerable(endpoint, placement, platform)

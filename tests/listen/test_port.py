"""
Accepting in the primary, both ways.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.policies import WrappingFactory

from stickyd.affinity.address import UNIX_KEY, parse_ip_key
from stickyd.listen.port import StickyFactory, plain_socket
from stickyd.net.accept_loop import BATCH, PAUSE_SECONDS, QUIET_SECONDS, AcceptLoop
from stickyd.net.descriptors import OVERLOADS
from stickyd.net.readiness import readiness_of
from stickyd.testing import FakeDestination, FakeReadiness
from tests.channels import no_descriptor_free
from tests.reactors import private_reactor, turn_until

KEY_OF = parse_ip_key("ip").key_of


pytestmark = pytest.mark.usefixtures("nothing_leaks")


# the factory


@pytest.fixture
def destination() -> Iterator[FakeDestination]:
    """
    Where connections go; closes them at the end.
    """
    destination = FakeDestination()
    yield destination
    destination.close()


@pytest.fixture
def reactor(destination: FakeDestination) -> Iterator[EPollReactor]:
    """
    A reactor of the test's own.
    """
    with private_reactor() as reactor:
        yield reactor


@pytest.mark.parametrize(
    ("interface", "connect_to", "host"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1"),
        ("::", "127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_factory_passes_each_connection_on(
    reactor: EPollReactor,
    destination: FakeDestination,
    interface: str,
    connect_to: str,
    host: str,
) -> None:
    """
    Behind an ordinary port, each connection is delivered unread, with the client's
    address as the socket reports it and the key of that.
    """
    port = reactor.listenTCP(0, StickyFactory(destination, KEY_OF), interface=interface)
    clients = [socket.create_connection((connect_to, port.getHost().port)) for _ in range(3)]
    for client in clients:
        client.sendall(b"request")
    turn_until(reactor, lambda: len(destination.delivered) == 3)
    assert [(h.host, h.port) for h in destination.delivered] == [
        (host, client.getsockname()[1]) for client in clients
    ]
    assert {h.key for h in destination.delivered} == {KEY_OF(connect_to)}
    assert [os.read(h.descriptor, 100) for h in destination.delivered] == [b"request"] * 3
    for client in clients:
        client.close()
    port.stopListening()


def test_factory_on_a_unix_socket(
    reactor: EPollReactor, destination: FakeDestination, tmp_path: Path
) -> None:
    """
    A UNIX client has no address, no port, and the key that all of them share.
    """
    path = str(tmp_path / "socket")
    port = reactor.listenUNIX(path, StickyFactory(destination, KEY_OF))
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    turn_until(reactor, lambda: destination.delivered)
    (handoff,) = destination.delivered
    assert (handoff.host, handoff.port, handoff.key) == ("", 0, UNIX_KEY)
    client.close()
    port.stopListening()


def test_factory_closes_what_cannot_be_handed_over(destination: FakeDestination) -> None:
    """
    A transport that is no plain socket is closed, and the log says why and what to do.
    """
    transport = StringTransport()
    protocol = StickyFactory(destination, KEY_OF).buildProtocol(transport.getPeer())
    with capturedLogs() as events:
        protocol.makeConnection(transport)
    assert transport.disconnecting
    assert not destination.delivered
    (line,) = [formatEvent(event) for event in events]
    assert line.startswith("Connection of 192.168.1.1 closed: connections of StringTransport")


# plain_socket


def test_socket_of_a_plain_port_is_found(
    reactor: EPollReactor, destination: FakeDestination, tmp_path: Path
) -> None:
    """
    TCP and UNIX ports with our own factory can be accepted from directly.
    """
    factory = StickyFactory(destination, KEY_OF)
    ports = [
        reactor.listenTCP(0, factory, interface="127.0.0.1"),
        reactor.listenUNIX(str(tmp_path / "socket"), factory),
    ]
    for port in ports:
        sock = plain_socket(port, factory)
        assert sock is not None
        assert sock.getsockname() == port.socket.getsockname()
        port.stopListening()


def test_port_with_something_between_is_left_alone(
    reactor: EPollReactor, destination: FakeDestination
) -> None:
    """
    An endpoint that wraps the factory, or makes another kind of port, goes on accepting
    for itself.
    """
    factory = StickyFactory(destination, KEY_OF)
    wrapped = reactor.listenTCP(0, WrappingFactory(factory), interface="127.0.0.1")
    tls = reactor.listenSSL(0, factory, CertificateOptions(), interface="127.0.0.1")
    assert plain_socket(wrapped, factory) is None
    assert plain_socket(tls, factory) is None
    assert plain_socket(object(), factory) is None  # type: ignore[arg-type]  # of no kind we know
    wrapped.stopListening()
    tls.stopListening()


# the accept loop


class Rig:
    """
    An accept loop on a listening socket, with readiness that the test decides.
    """

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        listener.listen(socket.SOMAXCONN)
        self.listener = listener
        self.clock = Clock()
        self.readiness = FakeReadiness(self.clock)
        self.accepted: list[tuple[int, str, int]] = []
        self.clients: list[socket.socket] = []
        self.loop = AcceptLoop(
            self.clock, self.readiness, listener, lambda *got: self.accepted.append(got)
        )

    def connect(self, count: int = 1, to: tuple[str, int] | None = None) -> None:
        """
        Connect so many clients, who then wait in the kernel's queue.
        """
        for _ in range(count):
            client = socket.socket(self.listener.family)
            client.connect(to or self.listener.getsockname())
            self.clients.append(client)

    def turn(self) -> bool:
        """
        One turn of a reactor.

        :return: whether the listener was watched and readable.
        """
        readers = self.readiness.readers
        ready = select.select(list(readers), [], [], 0)[0]
        for descriptor in ready:
            readers[descriptor]()
        return bool(ready)

    def close(self) -> None:
        """
        Close everything.
        """
        for descriptor, _, _ in self.accepted:
            os.close(descriptor)
        for client in self.clients:
            client.close()
        self.listener.close()


def tcp() -> socket.socket:
    """
    A bound IPv4 socket.
    """
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A loop on IPv4 that has started.
    """
    rig = Rig(tcp())
    rig.loop.start()
    yield rig
    rig.close()


def failing(rig: Rig, *errors: int) -> Callable[[], tuple[int, object]]:
    """
    An accept(2) that first fails with some errors, then is the real one.
    """
    left = list(errors)
    real = rig.listener._accept  # type: ignore[attr-defined]  # CPython's own, as in AcceptLoop

    def accept() -> tuple[int, object]:
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        got: tuple[int, object] = real()
        return got

    return accept


class Listener(socket.socket):
    """
    A listening socket whose accept(2) can be replaced.
    """


@pytest.fixture
def odd() -> Iterator[Rig]:
    """
    A loop on a socket whose accept(2) can be made to fail.
    """
    rig = Rig(Listener(fileno=tcp().detach()))
    rig.loop.start()
    yield rig
    rig.close()


def test_all_that_wait_are_accepted_in_one_go(rig: Rig) -> None:
    """
    One wake-up empties the queue, in order, and tells each client's address and port.
    """
    rig.connect(5)
    assert rig.turn()
    assert [(host, port) for _, host, port in rig.accepted] == [
        client.getsockname() for client in rig.clients
    ]
    assert not rig.turn()


def test_descriptor_is_close_on_exec_and_unread(rig: Rig) -> None:
    """
    A worker started a moment later inherits no client; its bytes are still there.
    """
    rig.connect()
    rig.clients[0].sendall(b"request")
    rig.turn()
    ((descriptor, _, _),) = rig.accepted
    assert not os.get_inheritable(descriptor)
    assert os.read(descriptor, 100) == b"request"


def test_flood_is_accepted_in_batches(rig: Rig) -> None:
    """
    A wake-up accepts a bounded number, and the next turn goes on.
    """
    rig.connect(BATCH + 10)
    rig.turn()
    assert len(rig.accepted) == BATCH
    rig.turn()
    assert len(rig.accepted) == BATCH + 10


def test_unix_clients_have_no_address(tmp_path: Path) -> None:
    """
    A UNIX socket's clients have an empty host and port 0, as with the factory.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    rig = Rig(sock)
    rig.loop.start()
    rig.connect(2)
    rig.turn()
    assert [(host, port) for _, host, port in rig.accepted] == [("", 0)] * 2
    rig.close()


@pytest.mark.parametrize(
    ("connect_to", "host"), [("::ffff:127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")]
)
def test_dual_stack_hosts_are_told_as_reported(connect_to: str, host: str) -> None:
    """
    An IPv4 client of a dual-stack socket is told in its mapped form, as the factory does.
    """
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    rig = Rig(sock)
    rig.loop.start()
    rig.connect(to=(connect_to, sock.getsockname()[1]))
    rig.turn()
    assert [(h, p) for _, h, p in rig.accepted] == [(host, rig.clients[0].getsockname()[1])]
    rig.close()


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN])
def test_error_of_one_connection_does_not_stop_the_next(
    odd: Rig, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """
    A client who was gone before it was accepted costs the one behind it nothing.
    """
    monkeypatch.setattr(odd.listener, "_accept", failing(odd, error, error))
    odd.connect(2)
    with capturedLogs() as events:
        odd.turn()
    assert len(odd.accepted) == 2
    assert odd.loop.overloads == 0
    assert not events


def test_endless_errors_leave_room_for_other_work(
    odd: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Errors count towards the batch, so that even a kernel that gives nothing else does
    not hold the primary.
    """
    monkeypatch.setattr(odd.listener, "_accept", failing(odd, *[errno.ECONNABORTED] * BATCH))
    odd.connect()
    odd.turn()
    assert not odd.accepted
    odd.turn()
    assert len(odd.accepted) == 1


@pytest.mark.parametrize("error", sorted(OVERLOADS))
def test_overload_pauses_and_goes_on_by_the_clock(
    odd: Rig, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """
    Want of descriptors or memory stops the watching, as the socket stays readable; after
    the pause the waiting client is accepted.
    """
    monkeypatch.setattr(odd.listener, "_accept", failing(odd, error))
    odd.connect()
    odd.turn()
    assert not odd.readiness.readers
    assert not odd.accepted
    odd.clock.advance(PAUSE_SECONDS * 0.9)
    assert not odd.readiness.readers
    odd.clock.advance(PAUSE_SECONDS * 0.2)
    odd.turn()
    assert len(odd.accepted) == 1
    assert odd.loop.overloads == 1


def test_real_want_of_descriptors(rig: Rig) -> None:
    """
    At RLIMIT_NOFILE the client waits in the kernel's queue and is accepted later.
    """
    rig.connect()
    with no_descriptor_free():
        for callback in list(rig.readiness.readers.values()):
            callback()
    assert not rig.accepted
    assert rig.loop.overloads == 1
    rig.clock.advance(PAUSE_SECONDS)
    rig.turn()
    assert len(rig.accepted) == 1


def test_overload_is_told_once_in_a_while(odd: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However often it pauses, the log has one line for each QUIET_SECONDS seconds, which says what
    to raise.
    """
    pauses = int(2 * QUIET_SECONDS / PAUSE_SECONDS)
    monkeypatch.setattr(odd.listener, "_accept", failing(odd, *[errno.EMFILE] * pauses))
    odd.connect()
    with capturedLogs() as events:
        for _ in range(pauses):
            assert odd.turn()
            odd.clock.advance(PAUSE_SECONDS)
    assert odd.loop.overloads == pauses
    lines = [formatEvent(event) for event in events]
    assert len(lines) == 2
    assert lines[0] == (
        "Accepting pauses for 0.1 s at a time: Too many open files. Raise the limit of open"
        " files (ulimit -n, LimitNOFILE=) if this stays"
    )
    odd.turn()
    assert len(odd.accepted) == 1


def test_stop_accepts_those_who_wait(rig: Rig) -> None:
    """
    Whoever is in the kernel's queue at a stop is accepted, batch by batch, as closing the
    socket would reset it; nothing is watched any more.
    """
    rig.connect(BATCH + 5)
    rig.loop.stop()
    assert len(rig.accepted) == BATCH + 5
    assert not rig.readiness.readers
    assert not rig.clock.getDelayedCalls()


def test_stop_in_a_pause_accepts_too(odd: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A stop does not wait for the end of a pause, and ends it for good.
    """
    monkeypatch.setattr(odd.listener, "_accept", failing(odd, errno.EMFILE))
    odd.connect()
    odd.turn()
    odd.loop.stop()
    assert len(odd.accepted) == 1
    odd.clock.advance(PAUSE_SECONDS)
    assert not odd.readiness.readers


def test_overload_in_a_stop_does_not_begin_anew(odd: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When descriptors run out during the stop, nothing is watched afterwards: the socket
    is about to be closed.
    """
    monkeypatch.setattr(odd.listener, "_accept", failing(odd, errno.EMFILE))
    odd.connect()
    odd.loop.stop()
    odd.clock.advance(PAUSE_SECONDS)
    assert not odd.readiness.readers
    assert not odd.clock.getDelayedCalls()
    assert not odd.accepted


def test_loop_in_a_real_reactor(reactor: EPollReactor, destination: FakeDestination) -> None:
    """
    In place of a port's own accepting, the loop gives the factory the same connections.
    """
    factory = StickyFactory(destination, KEY_OF)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    port.stopReading()
    sock = plain_socket(port, factory)
    assert sock is not None
    loop = AcceptLoop(reactor, readiness_of(reactor), sock, factory.accepted)
    loop.start()
    client = socket.create_connection(sock.getsockname())
    turn_until(reactor, lambda: destination.delivered)
    (handoff,) = destination.delivered
    assert (handoff.host, handoff.port, handoff.key) == (
        *client.getsockname(),
        KEY_OF("127.0.0.1"),
    )
    loop.stop()
    client.close()
    port.stopListening()

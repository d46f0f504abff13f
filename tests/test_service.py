"""
The composition root: settings in, a listening service out.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from stickyd import service as service_module
from stickyd.errors import ListenError, SettingError
from stickyd.listen.endpoint import explain
from stickyd.placement.modulo import Modulo
from stickyd.placement.rendezvous import Rendezvous
from stickyd.service import StickyService
from stickyd.settings import Settings
from stickyd.testing import FakeSpawner
from tests.reactors import private_reactor, turn_until

pytestmark = pytest.mark.usefixtures("nothing_leaks")


@pytest.fixture
def reactor() -> Iterator[EPollReactor]:
    """
    A reactor of the test's own.
    """
    with private_reactor() as reactor:
        yield reactor


class Spawner(FakeSpawner):
    """
    With the spares that a service asks for: none.
    """

    def replenish(self) -> None:
        """
        Have spares.
        """

    def run_as(self, uid: int | None, gid: int | None) -> None:
        """
        Start the next workers as somebody.
        """

    def stop(self) -> Deferred[None]:
        """
        Have none any more.
        """
        return succeed(None)


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> FakeSpawner:
    """
    In place of processes: keeps the workers that the service asks for.
    """
    spawner = Spawner()
    monkeypatch.setattr(service_module, "Spawner", lambda *_: spawner)
    return spawner


def make(reactor: object, **settings: object) -> StickyService:
    """
    A service on loopback.
    """
    given = {"listen": "tcp:0:interface=127.0.0.1", "workers": 2, "overflow": "close", **settings}
    return StickyService(Settings.read(given), reactor)


def address(service: StickyService, number: int = 0) -> Any:
    """
    Where the service listens.
    """
    return cast("Any", service.ports[number]).socket.getsockname()


def end(reactor: EPollReactor, service: StickyService, spawner: FakeSpawner) -> None:
    """
    Stop a service, and let its workers exit.
    """
    stopped: list[None] = []
    service.stopService().addCallback(stopped.append)
    for worker in spawner.workers:
        if worker.stopped:
            worker.died("exited with code 0")
    turn_until(reactor, lambda: stopped)


# settings that cannot be


@pytest.mark.parametrize("kind", ["ssl", "tls", "haproxy"])
def test_endpoint_that_reads_in_the_primary_is_refused(kind: str) -> None:
    """
    TLS and PROXY in the primary cannot be handed over; the error says what to write.
    """
    with pytest.raises(SettingError, match=rf"--listen {kind}:443.*: {kind}: .* write tcp:PORT"):
        make(MemoryReactorClock(), listen=f"{kind}:443")


@pytest.mark.parametrize("description", ["nonsense:1", "tcp", "tcp:http", "", "tcp:1:2:3:4:5"])
def test_text_that_is_no_endpoint_is_refused(description: str) -> None:
    """
    A description that Twisted does not understand is named, with examples.
    """
    with pytest.raises(SettingError, match=r"^--listen .*: not an endpoint: .*for example tcp:"):
        make(MemoryReactorClock(), listen=description)


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_number_that_is_no_port_is_refused(port: str) -> None:
    """
    Twisted takes any number; the operator hears of it before anything is started.
    """
    with pytest.raises(SettingError, match=f"{port} is not a port from 0 to 65535"):
        make(MemoryReactorClock(), listen=f"tcp:{port}")


@pytest.mark.parametrize(
    ("affinity", "text"),
    [
        ([], "the list is empty"),
        ("ip/33", "an IPv4 prefix length is 1 to 32, not 33"),
        ("cookie", "'cookie' lacks its name; write cookie:stickyd"),
    ],
)
@pytest.mark.parametrize("placement", ["rendezvous", "modulo"])
def test_affinity_that_means_nothing_is_refused(
    affinity: object, text: str, placement: str
) -> None:
    """
    Whatever the placement, a wrong key is a setting's error, not a traceback later.
    """
    with pytest.raises(SettingError, match=text):
        make(MemoryReactorClock(), affinity=affinity, placement=placement)


@pytest.mark.parametrize(
    ("settings", "peeks"),
    [
        ({"affinity": "ip/24"}, False),
        ({"affinity": "ip,header:X-User"}, False),
        ({"affinity": "header:X-User,ip"}, True),
        ({"affinity": "sni,ip"}, True),
        ({"trust": "10.0.0.0/8"}, True),
        ({"trust": "10.0.0.0/8", "proxy_protocol": "on"}, True),
        ({"trust": "10.0.0.0/8", "affinity": "sni"}, True),
    ],
)
def test_bytes_are_looked_at_only_where_they_count(
    settings: dict[str, object], peeks: bool, reactor: EPollReactor, spawner: FakeSpawner
) -> None:
    """
    A silent client waits for its placing only where its bytes may decide it.
    """
    # Trusted, so that its forwarded headers would count.
    trust = {"trust": "127.0.0.1"} if "trust" in settings else {}
    service = make(reactor, **{**settings, **trust})
    service.startService()
    peeker = service._listeners.peeker
    with socket.create_connection(address(service)) as client:
        turn_until(
            reactor,
            lambda: any(slot.queue for slot in service.fleet.slots) or (peeker and peeker._room),
        )
        assert sum(len(slot.queue) for slot in service.fleet.slots) == (not peeks)
        assert (peeker is not None and len(peeker)) == peeks
        end(reactor, service, spawner)
        assert peeker is None or len(peeker) == 0
        assert client.recv(1) == b""


def test_doubtful_affinity_is_warned_of_once(reactor: EPollReactor, spawner: FakeSpawner) -> None:
    """
    What is allowed and will not do what it seems to is said at the start.
    """
    with capturedLogs() as logs:
        service = make(reactor, affinity="ip,header:Mcp-Session-Id")
        service.startService()
        end(reactor, service, spawner)
    lines = [formatEvent(event) or "" for event in logs]
    assert [line for line in lines if "is never asked" in line]
    assert len([line for line in lines if line.startswith("--affinity: ")]) == 2


# composition


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("rendezvous", lambda host: Rendezvous(5).slot_of(socket.inet_aton(host))),
        ("modulo", lambda host: Modulo(5).slot_of(host.encode())),
    ],
)
def test_placement_and_key_belong_together(
    reactor: EPollReactor, spawner: FakeSpawner, placement: str, expected: Callable[[str], int]
) -> None:
    """
    Rendezvous hashes the packed address, modulo its text, and the settings choose.
    """
    service = make(reactor, listen=[], placement=placement, workers=5)
    service.startService()
    hosts = [f"192.0.2.{number}" for number in range(20)]
    ends = [socket.socketpair() for _ in hosts]
    for host, (_, server) in zip(hosts, ends, strict=True):
        service.factory.accepted(server.detach(), host, 1)
    slots = service.fleet.slots
    assert [{handoff.host for handoff in slot.queue} for slot in slots] == [
        {host for host in hosts if expected(host) == index} for index in range(5)
    ]
    end(reactor, service, spawner)
    for client, _ in ends:
        client.close()


def test_queue_and_overflow_are_those_of_the_settings(
    reactor: EPollReactor, spawner: FakeSpawner
) -> None:
    """
    The newcomer past the queue's limit gets the answer that was chosen.
    """
    service = make(reactor, listen=[], workers=1, queue_limit=0, overflow="503")
    service.startService()
    client, server = socket.socketpair()
    service.factory.accepted(server.detach(), "192.0.2.7", 1)
    assert client.recv(1000).startswith(b"HTTP/1.1 503 ")
    client.close()
    end(reactor, service, spawner)
    turn_until(reactor, lambda: not reactor.getDelayedCalls())


def test_one_worker_for_each_cpu_by_default(
    reactor: EPollReactor, spawner: FakeSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``auto`` is as many as there are CPUs to use.
    """
    monkeypatch.setattr(service_module, "usable_cpus", lambda: 7)
    service = make(reactor, workers="auto")
    service.startService()
    assert len(spawner.workers) == 7
    end(reactor, service, spawner)


# listening


def test_privileged_start_listens_and_start_does_not_again(
    reactor: EPollReactor, spawner: FakeSpawner
) -> None:
    """
    Ports are opened once, before rights are given up; workers are started after.
    """
    service = make(reactor)
    service.privilegedStartService()
    (port,) = service.ports
    assert not spawner.workers
    service.startService()
    assert service.ports == [port]
    assert len(spawner.workers) == 2
    end(reactor, service, spawner)


def test_start_alone_listens(reactor: EPollReactor, spawner: FakeSpawner) -> None:
    """
    An embedder who only calls ``startService`` has a listening service.
    """
    parent = MultiService()
    service = make(reactor)
    service.setServiceParent(parent)
    service.startService()
    assert len(service.ports) == 1
    end(reactor, service, spawner)


def test_clients_are_accepted_only_after_the_start(
    reactor: EPollReactor, spawner: FakeSpawner
) -> None:
    """
    Who connects between listening and starting waits in the kernel, and is served then.
    """
    service = make(reactor)
    service.privilegedStartService()
    client = socket.create_connection(address(service))
    happened: list[bool] = []
    reactor.callLater(0, happened.append, True)
    turn_until(reactor, lambda: happened)
    # Whom it accepted now would be held until the slots are there.
    assert not service.fleet._held
    service.startService()
    for worker in spawner.workers:
        worker.ready()
    turn_until(reactor, lambda: any(worker.sent for worker in spawner.workers))
    (handoff,) = [handoff for worker in spawner.workers for handoff in worker.sent]
    assert (handoff.host, handoff.port) == client.getsockname()
    os.close(handoff.descriptor)
    for worker in spawner.workers:
        worker.acknowledge()
    client.close()
    end(reactor, service, spawner)


def test_every_endpoint_is_listened_on(
    reactor: EPollReactor, spawner: FakeSpawner, tmp_path: Path
) -> None:
    """
    Several endpoints, of several kinds, lead to the same workers; each is told in the log.
    """
    path = str(tmp_path / "socket")
    with capturedLogs() as events:
        service = make(
            reactor,
            listen=["tcp:0:interface=127.0.0.1", f"unix:{path}", "tcp6:0:interface=\\:\\:1"],
        )
        service.privilegedStartService()
    lines = [formatEvent(event) for event in events if "listening on" in event["log_format"]]
    assert [line.rpartition(" ")[2] for line in lines] == [
        f"(127.0.0.1:{address(service)[1]})",
        f"({path})",
        f"([::1]:{address(service, 2)[1]})",
    ]
    service.startService()
    clients = [socket.create_connection(address(service, number)[:2]) for number in (0, 2)]
    clients.append(socket.socket(socket.AF_UNIX))
    clients[2].connect(path)
    turn_until(reactor, lambda: sum(len(slot.queue) for slot in service.fleet.slots) == 3)
    hosts = {handoff.host for slot in service.fleet.slots for handoff in slot.queue}
    assert hosts == {"127.0.0.1", "::1", ""}
    end(reactor, service, spawner)
    for client in clients:
        client.close()


def test_backlog_is_the_longest_there_is(reactor: EPollReactor, spawner: FakeSpawner) -> None:
    """
    Many more clients than Twisted's 50 can connect before one is accepted.
    """
    service = make(reactor)
    service.privilegedStartService()
    clients = []
    for _ in range(120):
        client = socket.socket()
        client.setblocking(False)
        # Past the backlog the kernel would leave it under way.
        client.connect_ex(address(service))
        clients.append(client)
    assert [client.getpeername() for client in clients] == [address(service)] * 120
    for client in clients:
        client.close()
    service.startService()
    end(reactor, service, spawner)


def test_backlog_of_the_endpoint_is_kept(reactor: EPollReactor, spawner: FakeSpawner) -> None:
    """
    Whoever writes a backlog gets that one.
    """
    service = make(reactor, listen="tcp:0:interface=127.0.0.1:backlog=1")
    service.privilegedStartService()
    clients = []
    for _ in range(20):
        client = socket.socket()
        client.setblocking(False)
        clients.append(client)
    pending = [
        client for client in clients if client.connect_ex(address(service)) and not done(client)
    ]
    assert len(pending) > 10
    for client in clients:
        client.close()
    service.startService()
    end(reactor, service, spawner)


def done(client: socket.socket) -> bool:
    """
    Whether a client's connecting is over.
    """
    try:
        client.getpeername()
    except OSError:
        return False
    return True


#: Twisted before 26.10 leaves the socket that it could not bind to the garbage collector.
leaves_a_socket = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@leaves_a_socket
def test_port_in_use_is_explained(reactor: EPollReactor) -> None:
    """
    The operator reads which endpoint, why, and what to do; what was opened before it is
    closed again.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        service = make(reactor, listen=["tcp:0:interface=127.0.0.1", taken])
        with pytest.raises(ListenError) as raised:
            service.privilegedStartService()
    assert str(raised.value) == (
        f"cannot listen on {taken}: Address already in use: another program listens there;"
        " stop it or choose another port"
    )
    assert service.ports == []


@leaves_a_socket
def test_fault_19_an_upgrade_goes_on_without_a_port_in_use(reactor: EPollReactor) -> None:
    """
    Fault 19: a new endpoint that was free in the trial and is taken now costs the clients of
    the others nothing.
    """
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as former:
        former.bind(("127.0.0.1", 0))
        former.listen()
        before = f"tcp:{former.getsockname()[1]}:interface=127.0.0.1"
        taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        inherited = {
            "secret": "00" * 32,
            "ports": {before: {"descriptor": os.dup(former.fileno()), "family": 2}},
            "groups": {},
        }
        settings = Settings.read({"listen": [before, taken], "workers": 1})
        service = StickyService(settings, reactor, inherited)
        with capturedLogs() as logged:
            service.privilegedStartService()
        assert address(service) == former.getsockname()
        assert len(service.ports) == 1
    problem = f"cannot listen on {taken}: Address already in use"
    assert any(formatEvent(event).startswith(problem) for event in logged)
    reactor.iterate(0)
    service.stopService()
    reactor.iterate(0)


@leaves_a_socket
def test_failed_listening_can_be_tried_again(reactor: EPollReactor, spawner: FakeSpawner) -> None:
    """
    Once the other program is gone, the same service listens on all its endpoints.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        taken = f"tcp:{number}:interface=127.0.0.1"
        service = make(reactor, listen=["tcp:0:interface=127.0.0.1", taken])
        with pytest.raises(ListenError):
            service.startService()
    assert not service.running
    service.startService()
    assert [port.getHost().port for port in cast("Any", service.ports)][1] == number
    assert len(service.ports) == 2
    end(reactor, service, spawner)


def test_missing_address_and_rights_are_explained() -> None:
    """
    The common causes each have an advice, and an unknown one its own text.
    """

    def explained(problem: Exception) -> str:
        return str(explain("tcp:80", problem))

    refused = CannotListenError("", 80, OSError(errno.EACCES, "Permission denied"))
    assert "Permission denied: ports below 1024 need root" in explained(refused)
    absent = CannotListenError("1.2.3.4", 80, OSError(errno.EADDRNOTAVAIL, "Cannot assign"))
    assert explained(absent).endswith("Cannot assign: this machine has no such address")
    assert explained(OSError(errno.EADDRINUSE, "In use")).endswith("choose another port")
    assert explained(ValueError("odd")) == "cannot listen on tcp:80: odd"


def test_endpoint_that_fails_later_is_told(
    reactor: EPollReactor, spawner: FakeSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An endpoint that takes its time to listen, and then cannot, is not passed over in
    silence.
    """
    listening: Deferred[Any] = Deferred()
    service = make(reactor)
    endpoint = service._listeners._endpoints[0][1]
    monkeypatch.setattr(type(endpoint), "listen", lambda *_: listening)
    service.startService()
    with capturedLogs() as events:
        listening.errback(CannotListenError("", 80, OSError(errno.EADDRINUSE, "In use")))
    lines = [formatEvent(event) for event in events]
    assert any("cannot listen on tcp:0:interface=127.0.0.1: In use" in line for line in lines)
    end(reactor, service, spawner)


# the factory


def test_factory_serves_an_endpoint_of_ones_own(
    reactor: EPollReactor, spawner: FakeSpawner
) -> None:
    """
    What an embedder's own endpoint accepts goes to the same slots.
    """
    service = make(reactor, listen=[])
    service.startService()
    for worker in spawner.workers:
        worker.ready()
    ports: list[Any] = []
    TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(service.factory).addCallback(
        ports.append
    )
    client = socket.create_connection(ports[0].socket.getsockname())
    client.sendall(b"request")
    turn_until(reactor, lambda: any(worker.sent for worker in spawner.workers))
    (handoff,) = [handoff for worker in spawner.workers for handoff in worker.sent]
    assert os.read(handoff.descriptor, 100) == b"request"
    os.close(handoff.descriptor)
    for worker in spawner.workers:
        worker.acknowledge()
    client.close()
    ports[0].stopListening()
    end(reactor, service, spawner)


# stopping


def test_stop_closes_the_ports_and_serves_those_in_the_queue(
    reactor: EPollReactor, spawner: FakeSpawner
) -> None:
    """
    A client whom the kernel had accepted is delivered, the next one is refused by the
    kernel, and the stop is over when the workers are.
    """
    service = make(reactor)
    service.startService()
    for worker in spawner.workers:
        worker.ready()
    where = address(service)
    client = socket.create_connection(where)
    stopped: list[None] = []
    service.stopService().addCallback(stopped.append)
    (handoff,) = [handoff for worker in spawner.workers for handoff in worker.sent]
    os.close(handoff.descriptor)
    turn_until(reactor, lambda: done_listening(where))
    for worker in spawner.workers:
        worker.acknowledge()
        worker.died("exited with code 0")
    turn_until(reactor, lambda: stopped)
    client.close()


def done_listening(where: object) -> bool:
    """
    Whether nobody listens there.
    """
    with socket.socket() as probe:
        return probe.connect_ex(cast("Any", where)) == errno.ECONNREFUSED


def test_service_that_only_listened_can_be_stopped(reactor: EPollReactor) -> None:
    """
    A stop before the start closes the ports and waits for nobody.
    """
    service = make(reactor)
    service.privilegedStartService()
    stopped: list[None] = []
    service.stopService().addCallback(stopped.append)
    turn_until(reactor, lambda: stopped)
    assert service.ports == []


def test_stopped_service_can_be_started_again(reactor: EPollReactor, spawner: FakeSpawner) -> None:
    """
    A second life listens anew and has workers of its own.
    """
    service = make(reactor)
    service.startService()
    end(reactor, service, spawner)
    spawner.workers.clear()
    service.startService()
    assert len(service.ports) == 1
    assert len(spawner.workers) == 2
    end(reactor, service, spawner)

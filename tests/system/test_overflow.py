"""
A worker that takes nothing: its clients wait within bounds, newcomers are told.
"""

from __future__ import annotations

import select
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Client, ask_once
from tests.system.placing import sources_of
from tests.system.processes import descriptors_of, eventually

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.server import Server

#: One connection is on its way to the worker, two more wait.
BOUNDS = ("--resource", "tests.system.apps:mirror", "--window", "1", "--queue-limit", "2")


def crowd(server: Server, stack: ExitStack, count: int) -> list[Client]:
    """
    Connect to the suspended worker of slot 0, from an address each, one after the other.

    Nobody has sent anything when this returns; all have been accepted, for a client of
    the other slot that comes last has been served.
    """
    server.suspend(server.worker(0))
    clients = [
        stack.enter_context(Client(server.target, source)) for source in sources_of(0, 2, count)
    ]
    assert ask_once(server.target, sources_of(1, 2, 1)[0]).told["slot"] == 1
    return clients


def check_served_after_all(server: Server, clients: list[Client]) -> None:
    """
    Let the worker go on, and see that these clients are served.
    """
    server.resume(server.worker(0))
    for client in clients:
        assert client.ask().told["host"] == client.source


def test_answers_503(start: Start) -> None:
    """
    Who finds the queue full gets a 503 that says when to come again; who waits is served,
    in time.
    """
    server = start(*BOUNDS)
    server.allow(r"refused \(503\): the queue of slot 0 is full; 1 so far")
    with ExitStack() as stack:
        clients = crowd(server, stack, 5)
        for client in clients[3:]:
            client.send()
            with client.response() as response:
                assert response.status == 503
                assert response.getheader("Retry-After") == "1"
                assert response.getheader("Connection") == "close"
                assert response.read() == b"Service unavailable\n"
            assert client.at_end()
        check_served_after_all(server, clients[:3])
    server.log.wait_for(rf"Connection of {clients[3].source} refused")


def test_closes(start: Start) -> None:
    """
    With ``--overflow close`` the connection is closed without a word.
    """
    server = start(*BOUNDS, "--overflow", "close")
    server.allow(r"refused \(close\): the queue of slot 0 is full; 1 so far")
    with ExitStack() as stack:
        clients = crowd(server, stack, 5)
        assert all(client.at_end() for client in clients[3:])
        check_served_after_all(server, clients[:3])
    server.log.wait_for(r"refused \(close\)")


def test_resets(start: Start) -> None:
    """
    With ``--overflow reset`` the connection is reset, even of a client that sent nothing.
    """
    server = start(*BOUNDS, "--overflow", "reset")
    server.allow(r"refused \(reset\): the queue of slot 0 is full; 1 so far")
    with ExitStack() as stack:
        clients = crowd(server, stack, 5)
        for client in clients[3:]:
            with pytest.raises(ConnectionResetError):
                client.at_end()
        check_served_after_all(server, clients[:3])
    server.log.wait_for(r"refused \(reset\)")


def test_waits_for_so_long(start: Start) -> None:
    """
    Who has waited for the queue timeout is refused; what is on its way to the worker is
    the worker's, and served when it goes on.
    """
    server = start(*BOUNDS, "--queue-timeout", "0.2")
    server.allow(r"refused \(503\): no worker of slot 0 took it within 0.2 s")
    with ExitStack() as stack:
        clients = crowd(server, stack, 3)
        for client in clients[1:]:
            client.send()
            assert client.answer().status == 503
        check_served_after_all(server, clients[:1])
    server.log.wait_for("no worker of slot 0 took it within 0.2 s")


def test_counts_refusals(start: Start) -> None:
    """
    Many refusals make few lines in the log, and the lines count them all.
    """
    server = start(*BOUNDS, "--overflow", "close")
    server.allow(r"refused \(close\): the queue of slot 0 is full; \d+ so far")
    with ExitStack() as stack:
        clients = crowd(server, stack, 203)
        assert all(client.at_end() for client in clients[3:])
        # Refusals go on until a line is due again; the number in it cannot be less than
        # what was refused before.
        source, counted = clients[3].source, 0
        while counted <= 200:
            with Client(server.target, source) as late:
                assert late.at_end()
            counted = int(server.log.found(r"full; (\d+) so far")[-1][1])
        lines = len(server.log.found(r"full; (\d+) so far"))
        assert lines < 20
        check_served_after_all(server, clients[:3])


def test_fault_15_connections_given_back_leave_descriptors_to_healthy_slots(start: Start) -> None:
    """
    Fault 15: 450 kept-alive connections whose next request belongs to a stuck worker take no
    more than their share of the primary's descriptors: the others of them get the overflow
    answer, which is counted, and the healthy slot serves whoever comes, all the time.
    """
    server = start(
        *("--resource", "tests.system.apps:mirror", "--affinity", "header:X-User,ip"),
        *("--trust", "127.0.0.0/8", "--hang-timeout", "300", "--window", "8"),
    )
    server.allow(
        "the queue of slot 1 has its share of the descriptors",
        "of the new connections have the affinity key",
    )
    users = {
        slot: next(f"u{n}" for n in range(100) if Rendezvous(2).slot_of(b"u%d" % n) == slot)
        for slot in (0, 1)
    }

    def ask(client: Client, slot: int) -> None:
        client.send("/", False, f"X-User: {users[slot]}")

    with ExitStack() as stack:
        clients = []
        for _ in range(450):
            client = stack.enter_context(Client(server.target))
            ask(client, 0)
            assert client.answer().told["slot"] == 0
            clients.append(client)
        server.limit_descriptors(server.pid, 300)
        server.suspend(server.worker(1))
        for client in clients:
            ask(client, 1)
        server.log.wait_for("Connection of .* refused .503.: the queue of slot 1 has its share")
        # The healthy slot, on new connections, while the others wait.
        for _ in range(20):
            with Client(server.target) as newcomer:
                ask(newcomer, 0)
                assert newcomer.answer().told["slot"] == 0
        # A half of a third waits, and what was on its way.
        most = 300 // 6 + 8
        sockets = [client.socket for client in clients]
        assert eventually(lambda: len(select.select(sockets, [], [], 0)[0]) == 450 - most)
        assert eventually(lambda: len(descriptors_of(server.pid)) < 120)
        server.resume(server.worker(1))
        statuses = Counter(client.answer().status for client in clients)
        assert statuses == {200: most, 503: 450 - most}


def test_fault_15_a_reload_gives_back_more_than_the_queue_holds(start: Start) -> None:
    """
    Fault 15: the bounds lose no idle connection at a reload, however short the queue is: what
    there is no room for yet stays with the old worker.
    """
    server = start(
        *("--resource", "tests.system.apps:mirror", "--queue-limit", "5", "--window", "4"),
        workers=1,
    )
    with ExitStack() as stack:
        clients = []
        for _ in range(300):
            client = stack.enter_context(Client(server.target))
            assert client.ask().status == 200
            clients.append(client)
        old = server.worker(0)
        server.reload()
        for client in clients:
            assert client.ask().told["pid"] == server.worker(0) != old

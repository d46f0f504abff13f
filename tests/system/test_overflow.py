"""
A worker that takes nothing: its clients wait within bounds, newcomers are told.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client, ask_once
from tests.system.placing import sources_of

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
    server.allow("of the new connections have the affinity key of")
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

"""
Resize: slots come and go at the tail, and only what must move moves.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.system.client import Client
from tests.system.placing import rendezvous, source_address

if TYPE_CHECKING:
    from tests.system.conftest import Start

SOURCES = [source_address(number) for number in range(24)]


def test_moves_what_the_placement_moves(start: Start) -> None:
    """
    SIGTTIN and SIGTTOU move just the clients that the placement moves, with their counts
    and on the connections that they have.
    """
    server = start()
    clients = [Client(server.target, source) for source in SOURCES]
    pids = [client.ask().counted[0] for client in clients]
    for count, hits in ((3, 2), (2, 3)):
        server.resize_to(count)
        for index, (client, source) in enumerate(zip(clients, SOURCES, strict=True)):
            pid, counted = client.ask().counted
            assert counted == hits
            assert server.slot_of(pid) == rendezvous(source, count)
            if count == 2:
                assert pid == pids[index]
    moved = [source for source in SOURCES if rendezvous(source, 3) == 2]
    assert 0 < len(moved) < len(SOURCES)
    for client in clients:
        client.close()
    server.log.wait_for(r"Worker \d+ \(slot 2\) exited with code 0")


def test_keeps_one_slot(start: Start) -> None:
    """
    The last slot stays, and the log says why.
    """
    server = start(workers=1)
    server.allow("Not resized: 0 is no number of workers")
    server.send(signal.SIGTTOU)
    server.log.wait_for("Not resized: 0 is no number of workers")
    with Client(server.target) as client:
        assert client.ask().counted == (server.worker(0), 1)


def test_a_slot_that_does_not_start_is_not_added(start: Start) -> None:
    """
    If the new worker cannot start, the slots stay as they are and nobody moves.
    """
    server = start("--resource", "tests.system.moving_apps:only_two", "--crash-limit", "1")
    server.allow("exited with code 3|failed: 1 workers", "Not resized: a new worker")
    pids = {}
    for source in SOURCES[:6]:
        with Client(server.target, source) as client:
            pids[source] = client.ask().told["pid"]
    server.send(signal.SIGTTIN)
    server.log.wait_for("Not resized: a new worker could not start; the number of slots stays")
    for source in SOURCES[:6]:
        with Client(server.target, source) as client:
            assert client.ask().told["pid"] == pids[source]

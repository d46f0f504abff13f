"""
The primary is killed: its workers finish what they have, and exit.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.system.apps import HALF
from tests.system.client import Client, ask_once
from tests.system.log import PATIENCE
from tests.system.placing import sources_of
from tests.system.processes import all_end_within

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.gate import Gate

SITE = ("--resource", "tests.system.apps:site")

#: Seconds that a worker may take to exit after its last request.  It takes a fraction of one
#: (docs/reliability.md), on a machine that has nothing else to do.
PROMPT = 10.0

#: Seconds that a worker's watch gives beyond the stop timeout.
GRACE_SECONDS = 2.0


def test_idle_workers_exit(start: Start) -> None:
    """
    Workers without a request exit within a second, idle connections or not.
    """
    server = start(*SITE, workers=3)
    with Client(server.target) as idle:
        assert idle.ask("/mirror").status == 200
        workers = server.watch_workers()
        server.kill()
        assert all_end_within(workers, PROMPT)
        assert idle.at_end()
    server.check_nothing_left()


def test_busy_worker_finishes(start: Start, gate: Gate) -> None:
    """
    A worker with a request under way answers it whole, and exits within a second of that.
    """
    server = start(*SITE, variables=gate.variables)
    source = sources_of(0, 2, 1)[0]
    with Client(server.target, source) as client, Client(server.target, source) as idle:
        assert idle.ask("/mirror").status == 200
        client.send("/held")
        gate.wait_for_arrival()
        with client.response() as response:
            assert response.read(HALF) == b"a" * HALF
            busy, other = server.watch_workers()
            server.kill()
            assert all_end_within([other], PROMPT)
            assert idle.at_end()
            assert not busy.ends_within(0)
            gate.open()
            assert response.read() == b"b" * HALF
        assert all_end_within([busy], PROMPT)
    server.check_nothing_left()


def test_request_without_end_is_cut_off(start: Start, gate: Gate) -> None:
    """
    A worker whose request does not end exits after the stop timeout.
    """
    server = start(*SITE, "--stop-timeout", "0.5", variables=gate.variables)
    with Client(server.target) as client:
        client.send("/held")
        gate.wait_for_arrival()
        workers = server.watch_workers()
        server.kill()
        assert all_end_within(workers, 0.5 + PROMPT)
    server.check_nothing_left()


def test_stuck_worker_ends(start: Start, gate: Gate) -> None:
    """
    A worker that never returns to its reactor ends, soon after the stop timeout.
    """
    server = start(*SITE, "--stop-timeout", "0.5", variables=gate.variables)
    with Client(server.target) as client:
        client.send("/spin")
        gate.wait_for_arrival()
        workers = server.watch_workers()
        server.kill()
        assert all_end_within(workers, 0.5 + GRACE_SECONDS + PROMPT)
    server.check_nothing_left()


def test_starting_workers_end(start: Start, gate: Gate) -> None:
    """
    Workers in the middle of a long import end too.
    """
    server = start(
        "--resource", "tests.system.broken.slow:root", variables=gate.variables, ready=False
    )
    gate.wait_for_arrival()
    gate.wait_for_arrival()
    workers = server.watch_workers()
    server.kill()
    assert all_end_within(workers, GRACE_SECONDS + PROMPT)
    server.check_nothing_left()


def test_newborn_workers_end(start: Start) -> None:
    """
    Workers whose interpreter has hardly begun to run end too.
    """
    server = start(*SITE, workers=4, ready=False)
    server.log.wait_for(r"Worker \d+ started", count=4)
    workers = server.watch_workers()
    server.kill()
    # Python's own start comes first, which takes what the machine takes.
    assert all_end_within(workers, PATIENCE)
    server.check_nothing_left()


def test_next_primary_serves_what_waits(start: Start) -> None:
    """
    Where a service manager holds the listening socket, who connects while there is no
    primary is served by the next one.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(socket.SOMAXCONN)
        first = start(*SITE, listener=listener)
        assert ask_once(first.target, path="/mirror").status == 200
        workers = first.watch_workers()
        first.kill()
        assert all_end_within(workers, PROMPT)
        with Client(first.target, "127.0.0.9") as client:
            client.send("/mirror")
            second = start(*SITE, listener=listener)
            told = client.answer().told
        assert told["host"] == "127.0.0.9"
        assert told["pid"] in {worker.pid for worker in second.started}
    first.check_nothing_left()

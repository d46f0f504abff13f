"""
The watchdog: a worker that hangs is replaced, one that is busy is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.client import Client
from tests.system.processes import is_alive
from tests.system.test_reload import SITE

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.gate import Gate

QUICK = ("--heartbeat", "0.1", "--hang-timeout", "1.5")


def test_replaces_a_worker_that_hangs(start: Start, gate: Gate) -> None:
    """
    A worker that never returns to its reactor is killed and replaced, after its stacks are
    in the log; the clients that waited for it are served by its successor.
    """
    server = start(*SITE, *QUICK, workers=1, variables=gate.variables)
    stuck = server.worker(0)
    server.allow(f"Worker {stuck} .* hangs", f"Worker {stuck} .* hung: no heartbeat")
    with Client(server.target) as spins:
        spins.send("/spin")
        gate.wait_for_arrival()
        # Only now: a connection that the worker had taken already would end with it.
        with Client(server.target) as waits:
            waits.send("/visits")
            fresh = server.wait_for_successor(stuck)
            assert waits.answer().counted == (fresh, 1)
    server.log.wait_for(rf"\[worker {stuck} slot 0\] .*apps\.py.*in render")
    server.log.wait_for(rf"Worker {stuck} \(slot 0\) hung: no heartbeat for 1\.5 s")
    assert not is_alive(stuck)


def test_leaves_a_busy_worker_alone(start: Start) -> None:
    """
    A worker that works for longer than the hang timeout, but lets its heart beat, stays.
    """
    server = start(*SITE, *QUICK, workers=1)
    with Client(server.target) as client:
        assert client.ask("/busy").body == b"done"
        assert client.ask("/visits").counted == (server.worker(0), 1)


def test_survives_a_suspended_primary(start: Start) -> None:
    """
    A primary that was suspended for longer than the hang timeout kills nobody: the
    heartbeats have come meanwhile, and only wait to be read.
    """
    server = start(*QUICK, workers=1)
    with Client(server.target) as client:
        pid, _ = client.ask().counted
        server.suspend(server.pid)
        # The worker serves on; its beats show how much time has gone by.
        while client.ask().counted[1] < 30:
            server.pause(0.06)
        server.resume(server.pid)
        server.reload()
        assert client.ask().counted == (server.worker(0), 31)
    server.log.wait_for(rf"Worker {pid} \(slot 0\) exited with code 0")

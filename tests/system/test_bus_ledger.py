"""
The bus under load, with workers that are killed and one that does not read: a ledger proves what
is promised.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.processes import resident_kib
from tests.system.client import ask_once
from tests.system.placing import sources_of
from tests.system.processes import eventually
from tests.system.server import LONG

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.server import Server

WORKERS = 5

#: The last one does not read.
SLOW = WORKERS - 1

#: So many workers are killed at least: by then too much waits for the one that does not read.
TURNS = 3

#: What the primary may grow by: the queue of one worker, and what Python makes of it.
MOST_KIB = 80_000


def reports(server: Server) -> dict[int, dict[str, Any]]:
    """
    The ledgers, by slot.
    """
    return {
        slot: ask_once(server.target, sources_of(slot, WORKERS, 1)[0], "/report").told
        for slot in range(SLOW)
    }


def agreed(server: Server) -> bool:
    """
    Whether all have heard all that the living have published.
    """
    found = reports(server).values()
    return all(
        one["stopped"]
        and all(one["next"].get(str(other["pid"]), 0) == other["published"] for other in found)
        for one in found
    )


@pytest.mark.parametrize("messages", [8_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_nobody_who_lives_misses_or_doubles_one(start: Start, messages: int) -> None:
    """
    In the order of each publisher, with a worker killed every second; whoever does not read loses
    messages alone, and the memory for it is bounded.
    """
    server = start(
        *("--resource", "tests.system.bus_ledger_app:site", "--spares", "0"),
        *("--hang-timeout", "600"),
        workers=WORKERS,
    )
    slow = server.worker(SLOW)
    # Nobody else loses a thing.
    too_slow = f"Worker {slow} .* reads the bus too slowly"
    server.allow("died of signal 9", too_slow)
    server.suspend(slow)
    before_kib = resident_kib(server.pid)
    published: dict[int, int] = {}
    turn = 0
    while sum(published.values()) < messages or turn < TURNS:
        server.pause(1)
        ask_once(server.target, sources_of(turn % SLOW, WORKERS, 1)[0], "/heavy")
        found = reports(server)
        published |= {one["pid"]: one["published"] for one in found.values()}
        victim = found[turn % SLOW]["pid"]
        os.kill(victim, signal.SIGKILL)
        server.wait_for_successor(victim)
        turn += 1
    server.log.wait_for(too_slow)
    ask_once(server.target, sources_of(0, WORKERS, 1)[0], "/stop")
    assert eventually(lambda: agreed(server), LONG), reports(server)
    found = reports(server)
    for one in found.values():
        assert (one["missing"], one["twice"]) == (0, 0)
    # Of the dead each has heard the same, if it has heard them at all.
    dead = {pid for one in found.values() for pid in one["next"]}
    for pid in dead:
        assert len({one["next"][pid] for one in found.values() if pid in one["next"]}) == 1
    assert resident_kib(server.pid) - before_kib < MOST_KIB
    # It goes on, with what was kept for it, and what it misses is what was lost.
    server.resume(slow)
    source = sources_of(SLOW, WORKERS, 1)[0]
    assert eventually(lambda: ask_once(server.target, source, "/report").told["heard"] > 0)
    told = ask_once(server.target, source, "/report").told
    assert told["twice"] == 0

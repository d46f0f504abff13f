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
from tests.sessions.redis_servers import RedisServer
from tests.system.client import ask_once
from tests.system.placing import sources_of
from tests.system.processes import eventually
from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))

WORKERS = 5

#: The last one does not read.
SLOW = WORKERS - 1

#: So many workers are killed at least: by then too much waits for the one that does not read.
TURNS = 3

#: What the primary may grow by: the queue of one worker, and what Python makes of it.
MOST_KIB = 80_000


def ask(server: Server, workers: int, slot: int, what: str = "report") -> dict[str, Any]:
    """
    Ask the worker of a slot.

    :param workers: how many there are.
    """
    return ask_once(server.target, sources_of(slot, workers, 1)[0], f"/{what}").told


def reports(server: Server) -> list[dict[str, Any]]:
    """
    The ledgers of all who read.
    """
    return [ask(server, WORKERS, slot) for slot in range(SLOW)]


def check(found: Collection[dict[str, Any]]) -> None:
    """
    Nobody misses or doubles one.
    """
    for one in found:
        assert (one["missing"], one["twice"]) == (0, 0)


def check_the_dead(found: Collection[dict[str, Any]]) -> None:
    """
    Of the dead each has heard the same, if it has heard them at all.
    """
    for pid in {pid for one in found for pid in one["next"]}:
        assert len({one["next"][pid] for one in found if pid in one["next"]}) == 1


def acquainted(found: Collection[dict[str, Any]]) -> bool:
    """
    Whether each has heard each.
    """
    return all(str(other["pid"]) in one["next"] for one in found for other in found)


def agreed(found: Collection[dict[str, Any]]) -> bool:
    """
    Whether all have heard all that the living have published.
    """
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
        ask(server, WORKERS, turn % SLOW, "heavy")
        found = reports(server)
        published |= {one["pid"]: one["published"] for one in found}
        victim = found[turn % SLOW]["pid"]
        os.kill(victim, signal.SIGKILL)
        server.wait_for_successor(victim)
        turn += 1
    server.log.wait_for(too_slow)
    # The last successor, too, hears and is heard before they stop.
    assert eventually(lambda: acquainted(reports(server)), LONG), reports(server)
    ask(server, WORKERS, 0, "stop")
    assert eventually(lambda: agreed(reports(server)), LONG), reports(server)
    found = reports(server)
    check(found)
    check_the_dead(found)
    assert resident_kib(server.pid) - before_kib < MOST_KIB
    # It goes on, with what was kept for it, and what it misses is what was lost.
    server.resume(slow)
    assert eventually(lambda: ask(server, WORKERS, SLOW)["heard"] > 0)
    assert ask(server, WORKERS, SLOW)["twice"] == 0


@pytest.mark.soak
def test_nobody_misses_or_doubles_one_of_two_machines(start: Start, tmp_path: Path) -> None:
    """
    The same by way of Redis: what the living publish reaches the living of both machines.  Of what
    the dead had published, each machine has as much as had left the worker on that way.
    """
    with RedisServer(tmp_path) as redis:
        servers = [
            start("--resource", "tests.system.bus_ledger_app:site", "--bus", redis.url)
            for _ in range(2)
        ]

        def both() -> list[list[dict[str, Any]]]:
            return [[ask(server, 2, slot) for slot in range(2)] for server in servers]

        for turn in range(int(SOAK_SECONDS / 2)):
            for server in servers:
                server.allow("died of signal 9")
                server.pause(1)
                victim = ask(server, 2, turn % 2)["pid"]
                os.kill(victim, signal.SIGKILL)
                server.wait_for_successor(victim)
        ask(servers[0], 2, 0, "stop")
        assert eventually(lambda: agreed([one for found in both() for one in found]), LONG), both()
        for found in both():
            check(found)
            check_the_dead(found)
        for server in servers:
            server.stop()

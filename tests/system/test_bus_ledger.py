"""
The bus under load, with workers that are killed and one that does not read: a ledger proves what
is promised.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.processes import resident_kib
from tests.sessions.redis_servers import RedisServer
from tests.system.asking import Asking
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
        assert (one["missing"], one["twice"]) == ({}, 0)


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


def kill_one(server: Server, former: int) -> dict[str, Any]:
    """
    Kill a worker that reads, as soon as another one does too, so that somebody hears of it: the one
    that lives longest, but not twice in a row of the same slot.

    :param former: the slot of the last one.
    :return: what it had told before.
    """

    def victims() -> list[int]:
        return [pid for pid in server.serving() if server.slot_of(pid) != SLOW]

    assert eventually(lambda: len(victims()) > 1, LONG), "too few workers serve"
    slots = [server.slot_of(pid) for pid in victims()]
    slot = next(slot for slot in slots if slot != former)
    ask(server, server.workers, slot, "heavy")
    told = ask(server, server.workers, slot)
    os.kill(told["pid"], signal.SIGKILL)
    server.log.wait_for(rf"Worker {told['pid']} .* died of signal 9")
    return told


@pytest.mark.parametrize("messages", [8_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_nobody_who_lives_misses_or_doubles_one(start: Start, messages: int) -> None:
    """
    In the order of each publisher, with a worker killed every second, or as often as that leaves
    one that hears it; whoever does not read loses messages alone, and the memory for it is bounded.
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
    victim, began = -1, time.monotonic()
    while sum(published.values()) < messages or len(published) < TURNS:
        server.pause(max(0.0, began + len(published) + 1 - time.monotonic()))
        told = kill_one(server, victim)
        victim = server.slot_of(told["pid"])
        published[told["pid"]] = told["published"]
    print(  # noqa: T201 (for whoever has a soak run)
        f"{len(published)} workers were killed in {time.monotonic() - began:.0f} s;"
        f" they had published {sum(published.values())} messages"
    )
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


class TwoMachines:
    """
    Two primaries, each with two workers, on a bus by way of Redis.
    """

    def __init__(self, start: Start, url: str) -> None:
        options = ("--resource", "tests.system.bus_ledger_app:site", "--bus", url)
        self.servers = [start(*options, "--admin", "0") for _ in range(2)]
        self._asking = [Asking(server) for server in self.servers]

    def reports(self) -> list[list[dict[str, Any]]]:
        """
        The ledgers of all, by machine.
        """
        return [[ask(server, 2, slot) for slot in range(2)] for server in self.servers]

    def every(self) -> list[dict[str, Any]]:
        """
        The ledgers of all.
        """
        return [one for found in self.reports() for one in found]

    def kill(self, turns: int) -> None:
        """
        Kill one worker after the other.
        """
        for turn in range(turns):
            for server in self.servers:
                server.pause(1)
                victim = ask(server, 2, turn % 2)["pid"]
                os.kill(victim, signal.SIGKILL)
                server.wait_for_successor(victim)
        assert eventually(lambda: acquainted(self.every()), LONG), self.every()

    def lost(self) -> list[int]:
        """
        How many messages were lost between machines, as each primary has counted them.
        """
        return [
            int(asking.total("stickyd_bus_lost_total", between="machines"))
            for asking in self._asking
        ]


@pytest.mark.soak
def test_nobody_misses_or_doubles_one_of_two_machines(start: Start, tmp_path: Path) -> None:
    """
    The same by way of Redis: what the living publish reaches the living of both machines.  Of what
    the dead had published, each machine has as much as had left the worker on that way.

    Then Redis is started anew.  Between machines messages are lost, which are counted; on a machine
    none are, and when Redis is back none are any more.
    """
    with RedisServer(tmp_path) as redis:
        machines = TwoMachines(start, redis.url)
        for server in machines.servers:
            server.allow("died of signal 9", "is away: ", "did not reach this worker")
        machines.kill(int(SOAK_SECONDS / 4))
        check(machines.every())
        assert machines.lost() == [0, 0]
        since = [server.log.mark() for server in machines.servers]
        redis.kill()
        for server, mark in zip(machines.servers, since, strict=True):
            server.log.wait_for("is away: ", mark)
        assert redis.start()
        for server, mark in zip(machines.servers, since, strict=True):
            server.log.wait_for("answers again after", mark, count=2)
        before = machines.every()
        # Whoever misses some knows it from the first that comes.
        assert eventually(lambda: ahead(machines.every(), before), LONG), machines.every()
        missing = [lost_in(found) for found in machines.reports()]
        assert all(missing)
        machines.servers[0].log.wait_for("did not reach this worker", since[0])
        assert eventually(
            lambda: all(
                counted >= known for counted, known in zip(machines.lost(), missing, strict=True)
            )
        ), (machines.lost(), missing)
        print(f"lost by the ledgers {missing}, by the primaries {machines.lost()}")  # noqa: T201
        machines.kill(int(SOAK_SECONDS / 4))
        ask(machines.servers[0], 2, 0, "stop")
        assert eventually(lambda: agreed(machines.every()), LONG), machines.every()
        for found in machines.reports():
            check(found)
            check_the_dead(found)
        for server in machines.servers:
            server.stop()


def lost_in(found: Collection[dict[str, Any]]) -> int:
    """
    How many messages the workers of one machine miss, which are of the other one.
    """
    own = {str(one["pid"]) for one in found}
    for one in found:
        assert not own & set(one["missing"])
        assert one["twice"] == 0
    return sum(sum(one["missing"].values()) for one in found)


def ahead(found: Collection[dict[str, Any]], before: Collection[dict[str, Any]]) -> bool:
    """
    Whether each has heard from each what was published after a moment.

    :param before: what all had told then.
    """
    return all(
        one["next"].get(str(other["pid"]), 0) > other["published"]
        for one in found
        for other in before
    )

"""
One worker does what must be done once, whatever becomes of the workers and of the primary.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.sessions.redis_servers import RedisServer
from tests.system.client import Client
from tests.system.leading_app import VARIABLE
from tests.system.processes import eventually
from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))

#: Seconds without a leader, at most.
LONGEST_GAP_SECONDS = 2.0

#: Those that say when they begin and end, and one that only works.
TOLD = ("reactor", "coroutine", "thread")
JOBS = (*TOLD, "scheduler")
APPLICATION = ("--resource", "tests.system.leading_app:root", "--affinity", "header:X-User")

#: What the log may say: of the deaths, and of a scheduler on a busy machine.
ALLOWED = ("died of signal 9", r"apscheduler\.scheduler: (Execution|Run time) of job")
#: And where Redis is away.
AWAY = ("is away: ", "did not reach this worker", "cannot be asked for at")


@dataclass(frozen=True)
class Entry:
    """
    One of the ledger's.
    """

    job: str
    what: str
    pid: int
    slot: int
    term: int
    at: float


class Ledger:
    """
    What the jobs have written down.
    """

    def __init__(self, directory: Path) -> None:
        self.variables = {VARIABLE: str(directory)}
        self._path = directory / "ledger"

    def entries(self, job: str) -> list[Entry]:
        """
        The entries of one job, oldest first.
        """
        text = self._path.read_text() if self._path.exists() else ""
        found = [Entry(**json.loads(line)) for line in text.splitlines()]
        return [entry for entry in found if entry.job == job]

    def wait_for_others(self, pids: set[int]) -> int:
        """
        Wait until all jobs are done by one worker that is none of these.

        :return: its pid.
        """

        def done_by() -> set[int]:
            lasts = [entry for job in JOBS for entry in self.entries(job)[-1:]]
            working = [entry.pid for entry in lasts if entry.what == "work"]
            return set(working) if len(working) == len(JOBS) else set()

        def is_done() -> bool:
            found = done_by()
            return len(found) == 1 and not found & pids

        assert eventually(is_done, LONG), f"nobody leads but {pids}"
        return self.entries(JOBS[0])[-1].pid

    def check(self) -> None:
        """
        Nobody has worked while another one did, and each term is larger than the one before.
        """
        for job in JOBS:
            # It has none while it ends.
            terms = [entry.term for entry in self.entries(job) if entry.term]
            assert terms == sorted(terms)
        for job in TOLD:
            entries = self.entries(job)
            assert not [entry for entry in entries if entry.what == "two at once"]
            begun = [entry.term for entry in entries if entry.what == "begin"]
            assert len(begun) == len(set(begun))
            leads = 0
            for entry in entries:
                leads = entry.pid if entry.what == "begin" else leads
                assert entry.pid == leads, entry

    def longest_gap(self, job: str) -> float:
        """
        The longest time between two entries of a job that say that it is done.
        """
        worked = [entry.at for entry in self.entries(job) if entry.what in ("begin", "work")]
        return max(after - before for before, after in pairwise(worked))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """
    An empty one.
    """
    return Ledger(tmp_path)


def hang(server: Server, pid: int) -> None:
    """
    Have the loop of a worker stuck for good.
    """
    slot = server.slot_of(pid)
    for number in range(64):
        with Client(server.target) as client:
            client.send("/", True, f"X-User: {number}")
            if json.loads(client.answer().body)["slot"] == slot:
                break
    else:
        raise AssertionError(f"nobody is placed on slot {slot}")
    client = Client(server.target)
    client.send("/hang", False, f"X-User: {number}")
    client.socket.close()


def test_one_leads(start: Start, ledger: Ledger) -> None:
    """
    Never two at once, and soon another one: when the leader is relieved, is killed, hangs, when the
    primary replaces its code, and when the primary dies and another one is started.
    """
    server = start(*APPLICATION, "--hang-timeout", "2", variables=ledger.variables, workers=2)
    first = ledger.wait_for_others(set())
    server.reload()
    second = ledger.wait_for_others({first})
    server.allow(*ALLOWED, "hangs", "hung: no heartbeat", r"Current thread|File \"|Thread 0x")
    os.kill(second, signal.SIGKILL)
    third = ledger.wait_for_others({first, second})
    hang(server, third)
    fourth = ledger.wait_for_others({first, second, third})
    server.wait_for_successor(third)
    server.upgrade()
    fifth = ledger.wait_for_others({first, second, third, fourth})
    server.kill()
    again = start(*APPLICATION, variables=ledger.variables, workers=1)
    again.allow(*ALLOWED)
    ledger.wait_for_others({first, second, third, fourth, fifth})
    again.stop()
    ledger.check()
    assert ledger.entries("reactor")[-1].what == "end"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """
    What the machines share.
    """
    with RedisServer(tmp_path / "redis") as server:
        yield server


def test_one_leads_on_all_machines(start: Start, ledger: Ledger, redis: RedisServer) -> None:
    """
    Never two of two primaries: when the leader is relieved or killed, when Redis is started anew
    and has forgotten everything, and when a machine's primary is killed.
    """
    options = (*APPLICATION, "--bus", redis.url)
    one, other = (
        start(*options, variables=ledger.variables, workers=1, ready=False) for _ in range(2)
    )
    for server in (one, other):
        server.wait_until_ready()
        server.allow(*ALLOWED, *AWAY)
    pids = {ledger.wait_for_others(set())}
    for server in (one, other):
        server.reload()
    # Whichever of the fresh ones.
    pids.add(ledger.wait_for_others(pids))
    leads = ledger.entries("reactor")[-1].pid
    os.kill(leads, signal.SIGKILL)
    pids |= {leads, ledger.wait_for_others({*pids, leads})}
    redis.kill()
    for server in (one, other):
        server.log.wait_for("is away: ", timeout=LONG)
    assert redis.start()
    for server in (one, other):
        server.log.wait_for("answers again after", timeout=LONG)
    leads = ledger.wait_for_others(set())
    last = one if leads in {worker.pid for worker in one.started} else other
    last.kill()
    ledger.wait_for_others({worker.pid for worker in last.started})
    ledger.check()


@pytest.mark.soak
def test_leader_of_all_machines_under_reloads_and_kills(
    start: Start, ledger: Ledger, redis: RedisServer
) -> None:
    """
    Two primaries, each reloaded in turn, kill -9 of the leader every three seconds, and Redis
    started anew in between: never two at once, and but for that two seconds without one at most.
    """
    options = (*APPLICATION, "--bus", redis.url)
    servers = [start(*options, variables=ledger.variables, workers=3) for _ in range(2)]
    for server in servers:
        server.allow(*ALLOWED, *AWAY, "Not reloaded", "keeps its worker")
    ledger.wait_for_others(set())
    gaps = []
    for _ in range(2):
        for second in range(int(SOAK_SECONDS) // 2):
            servers[second % 2].send(signal.SIGHUP)
            servers[0].pause(1.0)
            if second % 3 == 2:
                with suppress(ProcessLookupError):  # relieved in this moment
                    os.kill(ledger.entries("reactor")[-1].pid, signal.SIGKILL)
        ledger.wait_for_others(set())
        gaps.append({job: ledger.longest_gap(job) for job in JOBS})
        redis.kill()
        assert redis.start()
        ledger.wait_for_others(set())
    ledger.check()
    assert max(gaps[0].values()) < LONGEST_GAP_SECONDS, gaps


@pytest.mark.soak
def test_leader_under_reloads_and_kills(start: Start, ledger: Ledger) -> None:
    """
    A reload every second and kill -9 of the leader every three: never two at once, and two seconds
    without one at most.
    """
    server = start(*APPLICATION, variables=ledger.variables, workers=4)
    server.allow(*ALLOWED, "Not reloaded", "keeps its worker")
    leads = ledger.wait_for_others(set())
    for second in range(int(SOAK_SECONDS)):
        server.send(signal.SIGHUP)
        server.pause(1.0)
        if second % 3 == 2:
            leads = ledger.entries("reactor")[-1].pid
            try:
                os.kill(leads, signal.SIGKILL)
            except ProcessLookupError:
                continue  # relieved in this moment
    ledger.wait_for_others(set())
    ledger.check()
    gaps = {job: ledger.longest_gap(job) for job in JOBS}
    assert max(gaps.values()) < LONGEST_GAP_SECONDS, gaps

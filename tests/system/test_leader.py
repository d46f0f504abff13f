"""
One worker does what must be done once, whatever becomes of the workers and of the primary.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.leading_app import VARIABLE
from tests.system.processes import eventually
from tests.system.server import LONG

if TYPE_CHECKING:
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
            return {entry.pid for job in JOBS for entry in self.entries(job)[-1:]}

        assert eventually(
            lambda: (
                len(done_by()) == 1
                and not done_by() & pids
                and all(self.entries(job)[-1].what == "work" for job in JOBS)
            ),
            LONG,
        ), f"nobody leads but {pids}"
        return done_by().pop()

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
    server.allow(
        "died of signal 9", "hangs", "hung: no heartbeat", r"Current thread|File \"|Thread 0x"
    )
    os.kill(second, signal.SIGKILL)
    third = ledger.wait_for_others({first, second})
    hang(server, third)
    fourth = ledger.wait_for_others({first, second, third})
    server.wait_for_successor(third)
    server.upgrade()
    fifth = ledger.wait_for_others({first, second, third, fourth})
    server.kill()
    again = start(*APPLICATION, variables=ledger.variables, workers=1)
    ledger.wait_for_others({first, second, third, fourth, fifth})
    again.stop()
    ledger.check()
    assert ledger.entries("reactor")[-1].what == "end"


@pytest.mark.soak
def test_leader_under_reloads_and_kills(start: Start, ledger: Ledger) -> None:
    """
    A reload every second and kill -9 of the leader every three: never two at once, and two seconds
    without one at most.
    """
    server = start(*APPLICATION, variables=ledger.variables, workers=4)
    server.allow("died of signal 9", "Not reloaded", "keeps its worker")
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

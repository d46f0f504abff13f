"""
Workers that die: what was acknowledged dies with them, nothing else is lost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.generator import Load, Outcome
from tests.system.client import Client, ask_once
from tests.system.placing import rendezvous, source_address, sources_of
from tests.system.processes import eventually, is_alive
from tests.system.server import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

#: Seconds within which a client sees that the worker that held its connection has died, on a
#: machine that is busy.
NOTICE_SECONDS = 10.0


@dataclass(frozen=True)
class Kill:
    """
    A worker's end.

    :ivar still: when it certainly ran no more instruction, by the monotonic clock.
    :ivar at: when it was killed.
    """

    pid: int
    slot: int
    still: float
    at: float


class Ordeal:
    """
    A load, during which workers are killed; and what came of it.
    """

    def __init__(self, server: Server, program: Path, ledger: Path, seconds: float) -> None:
        load = Load(server.port, "close", 64, 500, seconds, timeout_ms=20_000, ledger=ledger)
        self.kills: list[Kill] = []
        self._server = server
        # Not for secrets; which worker dies when is to differ from run to run.
        self._random = random.Random()
        with subprocess.Popen(
            [program, *load.arguments()], stdout=subprocess.PIPE, text=True
        ) as generator:
            assert generator.stdout is not None
            while not self._ends(generator, 1.0):
                self._kill(generator)
            self.outcome = Outcome.from_json(generator.stdout.read())
        self.ledger: list[dict[str, Any]] = [
            json.loads(line) for line in ledger.read_text().splitlines()
        ]

    @staticmethod
    def _ends(generator: subprocess.Popen[str], seconds: float) -> bool:
        try:
            generator.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _kill(self, generator: subprocess.Popen[str]) -> None:
        serving = self._server.serving()
        if not serving:
            return  # on a busy machine they start more slowly than they are killed
        pid = self._random.choice(serving)
        still = 0.0
        if len(self.kills) % 2:
            # Every other one stands still for a while first: whatever comes to it from
            # then on it cannot acknowledge, and so it must be served by the successor.
            self._server.suspend(pid)
            still = time.monotonic()
            self._ends(generator, 0.2)
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.kills.append(Kill(pid, self._server.slot_of(pid), still or time.monotonic(), at))

    def of(self, event: str) -> list[dict[str, Any]]:
        """
        The ledger's entries of one kind.
        """
        return [entry for entry in self.ledger if entry["event"] == event]

    def cause_of(self, failure: dict[str, Any]) -> Kill | None:
        """
        The death that excuses a failed request: of the worker of this client's slot, just
        before the failure, and after the worker could have acknowledged the connection.
        """
        slot = rendezvous(failure["source"], self._server.workers)
        ended = failure["failed_us"] / 1e6  # by the clock that we read too
        began = ended - failure["waited_ms"] / 1000
        for kill in self.kills:
            in_time = kill.at <= ended <= kill.at + NOTICE_SECONDS
            if kill.slot == slot and in_time and began <= kill.still:
                return kill
        return None


def check_kills_under_load(server: Server, program: Path, ledger: Path, seconds: float) -> None:
    """
    Kill a random worker every second, and account for every request.
    """
    server.allow(r"died of signal 9 \(SIGKILL\)")
    ordeal = Ordeal(server, program, ledger, seconds)
    outcome = ordeal.outcome
    failures = ordeal.of("failed")
    replays = [
        (int(match[1]), int(match[2]))
        for match in server.log.found(r"; (\d+) unacknowledged .* replayed, (\d+) wait;")
    ]
    figures = (
        f"{len(ordeal.kills)} kills, {outcome.begun} requests, {outcome.failed} failed"
        f" {outcome.failures} in {outcome.failed_in}; replayed {sum(r for r, _ in replays)},"
        f" waited {sum(w for _, w in replays)}; longest {outcome.latency_ms['max']:.0f} ms"
    )
    print(figures)  # noqa: T201 (pytest shows it with -rP, or when the test fails)
    assert len(ordeal.kills) >= 2
    assert outcome.begun == outcome.answered + outcome.failed
    assert len(failures) == outcome.failed
    # What a broken connection looks like to its client; no 503, no timeout, no refusal.
    assert set(outcome.errors) <= {"reset", "cut_short"}
    unexcused = [failure for failure in failures if ordeal.cause_of(failure) is None]
    assert unexcused == []
    # Something was replayed, or the test would have proved nothing.
    assert sum(replayed for replayed, _ in replays) > 0
    assert outcome.stickiness.order_wrong == 0
    killed = {kill.pid: kill.slot for kill in ordeal.kills}
    for move in ordeal.of("moved"):
        # From a killed worker to a successor of the same slot, where counting begins anew.
        assert killed[move["last_pid"]] == server.slot_of(move["pid"])
        assert move["hits"] <= 1 + move["unsure"]


def test_kills_under_load(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    While workers are killed under load, only requests fail that their worker held.
    """
    server = start(workers=4)
    check_kills_under_load(server, load_program, tmp_path / "ledger", 6.0)


@pytest.mark.soak
def test_many_kills_under_load(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    While a worker is killed every second for 20 s, only requests fail that their worker
    held.
    """
    server = start(workers=4)
    check_kills_under_load(server, load_program, tmp_path / "ledger", 20.0)


def test_replays_what_was_not_acknowledged(start: Start) -> None:
    """
    Connections that were sent to a worker which never took them are served by its
    successor, those that waited for it too, each once.
    """
    server = start(workers=2)
    server.allow(r"died of signal 9 \(SIGKILL\)")
    worker = server.worker(0)
    server.suspend(worker)
    bystander = sources_of(1, 2, 1)[0]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(server.target, source)) for source in sources_of(0, 2, 100)
        ]
        for client in clients:
            client.send()
        # It came last and is served: so all of the others have been accepted and sent.
        pid, _ = ask_once(server.target, bystander).counted
        assert pid == server.worker(1)
        os.kill(worker, signal.SIGKILL)
        death = server.log.wait_for(r"; (\d+) unacknowledged connections .* (\d+) wait;")
        # 64 is the default window.
        assert (int(death[1]), int(death[2])) == (64, 36)
        successor = server.wait_for_successor(worker)
        assert [client.answer().counted for client in clients] == [(successor, 1)] * 100


def test_never_replays_what_was_acknowledged(start: Start, gate: Gate) -> None:
    """
    A request that its worker had begun to answer is not made again on the successor.
    """
    server = start("--resource", "tests.system.apps:site", variables=gate.variables)
    server.allow(r"died of signal 9 \(SIGKILL\); 0 unacknowledged")
    source = sources_of(0, 2, 1)[0]
    with Client(server.target, source) as client:
        client.send("/held")
        gate.wait_for_arrival()
        worker = server.worker(0)
        os.kill(worker, signal.SIGKILL)
        with client.response() as response, pytest.raises((IncompleteRead, ConnectionError)):
            response.read()
    server.wait_for_successor(worker)
    # It would have been the first on the successor.
    assert ask_once(server.target, source, "/mirror").told["slot"] == 0
    assert gate.is_deserted()


def test_slot_survives_worker(start: Start) -> None:
    """
    A restart changes the worker and leaves the slot: every client stays where it was.
    """
    server = start("--resource", "tests.system.apps:mirror", workers=3)
    server.allow(r"died of signal 9 \(SIGKILL\)")
    sources = [source_address(number) for number in range(30)]
    before = {source: ask_once(server.target, source).told for source in sources}
    dead = server.worker(1)
    os.kill(dead, signal.SIGKILL)
    successor = server.wait_for_successor(dead)
    for source in sources:
        told = ask_once(server.target, source).told
        assert told["slot"] == before[source]["slot"]
        expected = successor if told["slot"] == 1 else before[source]["pid"]
        assert told["pid"] == expected


def test_crash_loop_fails_one_slot(start: Start) -> None:
    """
    A slot whose workers die before they are ready fails loudly after 5 of them; its
    clients are spread over the others, each always served by the same; nobody else moves.
    """
    server = start(
        "--resource",
        "tests.system.broken.crashing:root",
        "--backoff",
        "0.01",
        workers=3,
        variables={"STICKYD_TEST_CRASHING": "1"},
        ready=False,
    )
    server.allow(r"\(slot 1\) exited with code 3", r"#critical\] Slot 1 failed: 5 workers in a row")
    sources = [source_address(number) for number in range(60)]
    assert {rendezvous(source, 3) for source in sources} == {0, 1, 2}
    # Among the first are some that wait for slot 1 until it fails.
    first, second = (
        {source: ask_once(server.target, source).told["slot"] for source in sources}
        for _ in range(2)
    )
    assert first == second
    homes = {source: rendezvous(source, 3) for source in sources}
    assert all(first[source] == homes[source] for source in sources if homes[source] != 1)
    # They are not all of them a burden to the same other slot.
    assert {first[source] for source in sources if homes[source] == 1} == {0, 2}
    server.log.wait_for(r"#critical\] Slot 1 failed")
    assert len([worker for worker in server.started if worker.slot == 1]) == 5
    assert len([worker for worker in server.started if worker.slot != 1]) == 2


def test_crash_loop_of_all(start: Start, tmp_path: Path) -> None:
    """
    When every slot has failed, clients are told so at once, and the primary can be stopped.
    """
    # Its workers come up once, so the server has served.
    crashes = tmp_path / "crashes"
    server = start(
        "--resource",
        "tests.system.broken.crashing_now:root",
        "--backoff",
        "0.01",
        variables={"STICKYD_TEST_CRASHES": str(crashes)},
    )
    server.allow("exited with code 3", r"#critical\] (Slot . failed|Every slot has failed)")
    server.allow("refused .503.: every slot has failed", "died of signal 9")
    crashes.touch()
    for slot in (0, 1):
        os.kill(server.worker(slot), signal.SIGKILL)
    server.log.wait_for("Every slot has failed")
    assert ask_once(server.target).status == 503


def test_fault_17_failed_slots_come_back(start: Start, tmp_path: Path) -> None:
    """
    Fault 17: what made the workers crash is over, and nobody has touched the server: it
    serves again, by itself.
    """
    crashes = tmp_path / "crashes"
    server = start(
        "--resource",
        "tests.system.broken.crashing_now:root",
        *("--backoff", "0.01", "--backoff-limit", "0.5", "--crash-limit", "2"),
        variables={"STICKYD_TEST_CRASHES": str(crashes)},
    )
    server.allow("exited with code 3", r"#critical\] (Slot . failed|Every slot has failed)")
    server.allow("refused .503.: every slot has failed", "died of signal 9")
    crashes.touch()
    for slot in (0, 1):
        os.kill(server.worker(slot), signal.SIGKILL)
    server.log.wait_for("Every slot has failed")
    since = server.log.mark()
    crashes.unlink()
    server.log.wait_for("online", since, count=2)
    sources = [source_address(number) for number in range(20)]
    homes = {source: rendezvous(source, 2) for source in sources}
    assert eventually(
        lambda: homes == {s: ask_once(server.target, s).told["slot"] for s in sources}
    )


#: Applications that pass the trial and never get ready, with how the log's last line goes.
HOPELESS = {
    "exits": ("crashing:root", r"exited with code 3\. Its last words: no table named visits"),
    "raises": ("hopeless:root", "could not start: .*RuntimeError: there is no database"),
    "killed": ("hopeless:killed", r"died of signal 9 \(SIGKILL\)\. Its last words: out of luck"),
}


@pytest.mark.parametrize("how", HOPELESS)
def test_fault_17_a_server_whose_workers_never_get_ready_ends(how: str, start: Start) -> None:
    """
    Fault 17: the process ends with a code that says so, and the application's own last error.
    """
    application, says = HOPELESS[how]
    server = start(
        *("--resource", f"tests.system.broken.{application}"),
        *("--backoff", "0.01", "--crash-limit", "3"),
        variables={"STICKYD_TEST_CRASHING": "0 1"},
        ready=False,
    )
    server.allow(".")
    assert server.wait_until_gone(LONG) == 1
    server.check_nothing_left()
    last = rf"The last one \(slot [01]\) {says}"
    server.log.wait_for(rf"#critical\] No worker has become ready since the start\. {last}")


def test_fault_17_one_worker_that_gets_ready_is_enough(start: Start) -> None:
    """
    Fault 17: while one slot serves, the server goes on.
    """
    server = start(
        *("--resource", "tests.system.broken.crashing:root"),
        *("--backoff", "0.01", "--crash-limit", "1", "--backoff-limit", "0.1"),
        variables={"STICKYD_TEST_CRASHING": "1"},
        ready=False,
    )
    server.allow(r"\(slot 1\) exited with code 3", r"#critical\] Slot 1 failed")
    server.log.wait_for(r"Worker \d+ started \(slot 1\)", count=5)
    assert ask_once(server.target).told["slot"] == 0
    assert is_alive(server.pid)

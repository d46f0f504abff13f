"""
What the processes of a system hold: memory and descriptors, before, during and after a load.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.generator import IdleConnections, Load, Outcome, run_load
from benchmarks.processes import descriptor_count, resident_kib

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.running import Running

STAGES = 4
LONGEST_STAGE = 600.0


@dataclass(frozen=True)
class Census:
    """
    What the processes of a system hold at one moment.
    """

    front_kib: int
    worker_kib: int
    descriptors: dict[int, int]

    @property
    def total_kib(self) -> int:
        """
        The memory of all of them.
        """
        return self.front_kib + self.worker_kib


@dataclass(frozen=True)
class Report:
    """
    What came out for one system: its line of the table, by heading; every census; complaints.
    """

    cells: dict[str, str]
    censuses: list[Census]
    complaints: list[str] = field(default_factory=list)


def take_census(running: Running) -> Census:
    """
    Look at a system now.
    """
    members = running.members()
    memory = {pid: resident_kib(pid) for pid in members}
    front = sum(memory[pid] for pid, member in members.items() if member.front)
    descriptors = {pid: descriptor_count(pid) for pid in members}
    return Census(front, sum(memory.values()) - front, descriptors)


def settle(running: Running, before: Census, patience: float = 10.0) -> Census:
    """
    Look at a system once it has the descriptors that it had, or no patience is left.

    :param patience: seconds; a server may close its side a moment after the client.
    """
    deadline = time.monotonic() + patience
    while (now := take_census(running)).descriptors != before.descriptors:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return now


def _leak(running: Running, before: Census, after: Census) -> list[str]:
    if before.descriptors == after.descriptors:
        return []
    return [f"{running.name}: descriptors were {before.descriptors}, are {after.descriptors}"]


def _mib(kib: int) -> str:
    return f"{kib / 1024:.1f}"


def many_connections(running: Running, program: Path, count: int, sources: int) -> Report:
    """
    Send connections through a system, one request each, in four stages.

    What it grows in the second half tells a leak from caches that fill up once.

    :param program: the load generator.
    """
    share = count // STAGES

    def stage(requests: int) -> Outcome:
        load = Load(running.port, "close", 64, sources, LONGEST_STAGE, requests=requests)
        return run_load(program, load)

    stage(max(share // 5, sources * 2))  # so that every worker has seen every client
    before = take_census(running)
    outcomes, censuses = [], [before]
    for number in range(STAGES):
        outcomes.append(stage(share))
        censuses.append(settle(running, before))
        print(f"{running.name}: {number + 1}/{STAGES}: {censuses[-1]}", file=sys.stderr)
    after, half = censuses[-1], STAGES // 2
    grown = (after.total_kib - censuses[half].total_kib) * 1024 / (share * (STAGES - half))
    errors = sum(sum(outcome.errors.values()) for outcome in outcomes)
    sticky = all(outcome.stickiness.holds for outcome in outcomes)
    cells = {
        "system": running.name,
        "connections": str(sum(outcome.answered for outcome in outcomes)),
        "front MiB, before": _mib(before.front_kib),
        "front, after": _mib(after.front_kib),
        "workers MiB, before": _mib(before.worker_kib),
        "workers, after": _mib(after.worker_kib),
        "bytes a connection, second half": f"{grown:.1f}",
        "descriptors, before": str(sum(before.descriptors.values())),
        "descriptors, after": str(sum(after.descriptors.values())),
        "errors": str(errors),
        "sticky": "yes" if sticky else "no",
    }
    complaints = _leak(running, before, after)
    if errors:
        complaints.append(f"{running.name}: {[outcome.errors for outcome in outcomes]}")
    return Report(cells, censuses, complaints)


def idle_connections(
    running: Running, program: Path, count: int, sources: int, *, hold: float, websocket: bool
) -> Report:
    """
    Hold connections that have had one answer, or were upgraded to WebSocket, and are silent.

    :param hold: seconds between the last one's opening and the census.
    """
    run_load(program, Load(running.port, "close", 64, sources, 30.0, requests=sources * 4))
    before = take_census(running)
    load = Load(running.port, sources=sources, seconds=hold + 120)
    with IdleConnections(program, load, count, websocket) as crowd:
        opened = crowd.held
        time.sleep(hold)
        during = take_census(running)
    after = settle(running, before)
    held = crowd.held.held
    spent = (during.total_kib - before.total_kib) / held if held else float("nan")
    cells = {
        "system": running.name,
        "held": str(held),
        "failed": str(opened.failed),
        "lost": str(crowd.held.lost),
        "front MiB, before": _mib(before.front_kib),
        "front, holding": _mib(during.front_kib),
        "workers MiB, before": _mib(before.worker_kib),
        "workers, holding": _mib(during.worker_kib),
        "KiB a connection": f"{spent:.2f}",
        "workers, after": _mib(after.worker_kib),
        "descriptors, before": str(sum(before.descriptors.values())),
        "holding": str(sum(during.descriptors.values())),
        "after": str(sum(after.descriptors.values())),
    }
    complaints = _leak(running, before, after)
    if opened.failed or crowd.held.lost:
        complaints.append(f"{running.name}: {crowd.held}")
    return Report(cells, [before, during, after], complaints)

"""
Measures what workers take before they serve anybody: CPU time to start, and memory.
"""

from __future__ import annotations

import argparse
import compileall
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.catalogue import STARTING, Setting, System, catalogue
from benchmarks.processes import cpu_seconds, machine_busy_seconds, proportional_kib
from benchmarks.rounds import exit_on_sigterm
from benchmarks.running import ROOT, Running, StartError, free_port, start_system
from benchmarks.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADINGS = (
    "system", "workers", "CPU s a worker", "min-max", "CPU s beside", "worker MiB", "fleet MiB",
    "ratio", "others",
)  # fmt: skip

#: What the command line of a process has that workers are forked from.
FORK_SERVER = b"--fork-server"

#: A fleet is started when its processes use less than this of a CPU for so long.
QUIET_CPUS = 0.05
QUIET_SECONDS = 1.0
MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Start:
    """
    One start of a fleet.

    :ivar worker_cpu_seconds: of each worker, until it had nothing to do any more.
    :ivar helper_cpu_seconds: the same of all that is neither a worker nor the front, together.
    :ivar worker_kib: memory of each, in proportional parts.
    :ivar fleet_kib: the same of all processes, whatever they are for.
    :ivar other_cpus: how many CPUs programs kept busy meanwhile that are no part of it.
    """

    system: str
    workers: int
    worker_cpu_seconds: list[float]
    helper_cpu_seconds: float
    worker_kib: list[int]
    fleet_kib: int
    other_cpus: float


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starting", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"systems ({' '.join(STARTING)})")
    parser.add_argument("--workers", default="2,8,32", help="how many, each in turn (2,8,32)")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each (3)")
    parser.add_argument("--against", default="uvicorn", help="whose memory is 1 (uvicorn)")
    parser.add_argument("--peers-venv", type=Path, default=peers.default_directory())
    parser.add_argument("--json", type=Path, help="write every start to this file")
    options = parser.parse_args(arguments)
    known = catalogue()
    options.names = options.names or list(STARTING)
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    options.workers = [int(count) for count in options.workers.split(",")]
    options.systems = [known[name] for name in options.names]
    return options


def measure_start(system: System, workers: int, directory: Path, peers_venv: Path | None) -> Start:
    """
    Start a fleet, look at it when it has come to rest, and stop it.

    :raises StartError: if it does not start.
    """
    began, busy = time.monotonic(), machine_busy_seconds()
    # Nobody asks for the floor here.
    setting = Setting(free_port(), free_port, workers, directory, Path(), peers_venv)
    with ExitStack() as stack:
        running = start_system(system, lambda: setting, patience=MOST_SECONDS)
        stack.callback(running.stop)
        wait_for_rest(running, workers)
        members = running.members()
        used = {pid: cpu_seconds(pid) for pid in members}
        memory = {pid: proportional_kib(pid) for pid in members}
        others = machine_busy_seconds() - busy - sum(used.values())
        behind = [pid for pid, member in members.items() if not member.front]
        # uvicorn and granian have helpers of multiprocessing beside their workers, small ones.
        by_size = sorted(behind, key=lambda pid: (is_fork_server(pid), -memory[pid]))
        found = by_size[:workers]
        return Start(
            system.name,
            workers,
            [used[pid] for pid in found],
            sum(used[pid] for pid in by_size[workers:]),
            [memory[pid] for pid in found],
            sum(memory.values()),
            others / (time.monotonic() - began),
        )


def is_fork_server(pid: int) -> bool:
    """
    Whether a process serves nobody, and workers are forked from it.
    """
    return FORK_SERVER in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def wait_for_rest(running: Running, workers: int) -> None:
    """
    Wait until all workers are there and nothing goes on any more.

    :raises StartError: if that takes too long.
    """
    deadline = time.monotonic() + MOST_SECONDS
    before = 0.0
    while True:
        members = running.members()
        used = sum(cpu_seconds(pid) for pid in members)
        there = sum(not member.front for member in members.values()) >= workers
        if there and 0 <= used - before < QUIET_CPUS * QUIET_SECONDS:
            return
        if time.monotonic() > deadline:
            raise StartError(f"{running.name}: {len(members)} processes are not at rest")
        before = used
        time.sleep(QUIET_SECONDS)


def measure_all(options: argparse.Namespace, directory: Path) -> Iterator[Start]:
    """
    Start each system as often as wanted, in turns.
    """
    wanted = any(system.from_peers for system in options.systems)
    environment = peers.prepare(options.peers_venv) if wanted else None
    number = 0
    for workers in options.workers:
        for _ in range(options.rounds):
            for system in options.systems:
                number += 1
                own = directory / f"start-{number}"
                own.mkdir()
                yield measure_start(system, workers, own, environment)


def table(starts: list[Start], against: str) -> str:
    """
    A line for each system and number of workers: medians over the starts.
    """
    groups: dict[tuple[int, str], list[Start]] = {}
    for start in starts:
        groups.setdefault((start.workers, start.system), []).append(start)

    def fleet_kib(group: Iterable[Start]) -> float:
        return median(start.fleet_kib for start in group)

    lines = []
    for (workers, system), group in groups.items():
        seconds = [each for start in group for each in start.worker_cpu_seconds]
        kib = [each for start in group for each in start.worker_kib]
        other = groups.get((workers, against))
        lines.append(
            [
                system,
                str(workers),
                f"{median(seconds):.2f}",
                f"{min(seconds):.2f}-{max(seconds):.2f}",
                f"{median(start.helper_cpu_seconds for start in group):.2f}",
                f"{median(kib) / 1024:.1f}",
                f"{fleet_kib(group) / 1024:.0f}",
                f"{fleet_kib(group) / fleet_kib(other):.2f}" if other else "",
                f"{median(start.other_cpus for start in group):.2f}",
            ]
        )
    return markdown(HEADINGS, lines)


def main() -> int:
    """
    Run the command.

    :return: the exit status: 1 if a system did not start.
    """
    options = parse()
    exit_on_sigterm()
    # As installing a package does: else every start would compile what stands in a checkout.
    for package in ("stickyd", "twisted"):
        compileall.compile_dir(ROOT / package, quiet=1)
    starts: list[Start] = []
    problem = ""
    with tempfile.TemporaryDirectory(prefix="stickyd-benchmark-") as directory:
        try:
            for start in measure_all(options, Path(directory)):
                starts.append(start)
                print(
                    f"{start.workers:2} {start.system:18}"
                    f" {median(start.worker_cpu_seconds):.3f} CPU s a worker,"
                    f" {median(start.worker_kib) / 1024:.1f} MiB, others {start.other_cpus:.2f}",
                    file=sys.stderr,
                )
        except (StartError, OSError) as error:
            problem = str(error)
    if starts:
        print(table(starts, options.against))
    if options.json:
        options.json.write_text(json.dumps([asdict(start) for start in starts]))
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

"""
One slice of a measurement: a short load on one system, and what it cost there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.generator import Load, Outcome, Stickiness, run_load
from benchmarks.processes import machine_busy_seconds, resident_kib

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.running import Running


@dataclass(frozen=True)
class Slice:
    """
    The figures of one slice.

    Seconds are CPU seconds of the system's processes.
    """

    system: str
    mode: str
    round: int
    front_seconds: float
    worker_seconds: float
    resident_kib: int
    processes: int
    foreign_cpus: float
    """
    How many CPUs programs kept busy that are neither the system nor the generator.
    """
    replaced: bool
    """
    Whether a process came or went, so that some CPU time may be missing.
    """
    outcome: Outcome

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Slice:
        """
        The inverse of :func:`dataclasses.asdict`.
        """
        outcome = dict(fields["outcome"])
        outcome["stickiness"] = Stickiness(**outcome["stickiness"])
        return cls(**{**fields, "outcome": Outcome(**outcome)})

    @property
    def front_per_10k(self) -> float:
        """
        CPU seconds of the front for 10,000 answers.
        """
        return self._per_10k(self.front_seconds)

    @property
    def worker_per_10k(self) -> float:
        """
        CPU seconds of the workers for 10,000 answers.
        """
        return self._per_10k(self.worker_seconds)

    @property
    def total_per_10k(self) -> float:
        """
        CPU seconds of all processes for 10,000 answers.
        """
        return self._per_10k(self.front_seconds + self.worker_seconds)

    def _per_10k(self, seconds: float) -> float:
        answered = self.outcome.answered
        return seconds / answered * 10_000 if answered else float("nan")


def measure(program: Path, running: Running, load: Load, round_number: int) -> Slice:
    """
    Load one system and read what its processes used meanwhile.

    :param program: the load generator.
    """
    began = time.monotonic()
    busy = machine_busy_seconds()
    before = running.members()
    outcome = run_load(program, load)
    after = running.members()
    busy = machine_busy_seconds() - busy
    used = {True: 0.0, False: 0.0}
    for pid, member in after.items():
        earlier = before.get(pid)
        used[member.front] += member.process.cpu_seconds
        used[member.front] -= earlier.process.cpu_seconds if earlier else 0.0
    foreign = busy - used[True] - used[False] - outcome.cpu_seconds
    return Slice(
        system=running.name,
        mode=load.mode,
        round=round_number,
        front_seconds=used[True],
        worker_seconds=used[False],
        resident_kib=sum(map(resident_kib, after)),
        processes=len(after),
        foreign_cpus=max(0.0, foreign / (time.monotonic() - began)),
        replaced=before.keys() != after.keys(),
        outcome=outcome,
    )

"""
What ``/proc`` tells about processes (proc(5)).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """
    One live process.  ``(pid, started)`` names it for good: a pid alone is used again.
    """

    pid: int
    parent: int
    session: int
    started: int
    cpu_seconds: float


def look(pid: int) -> Process | None:
    """
    Read one process.

    :return: :obj:`None` if there is none, or only a zombie of one.
    """
    try:
        # The second field is the program's name, in brackets, and may hold anything.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    ticks = int(fields[11]) + int(fields[12])
    parent, session, started = int(fields[1]), int(fields[3]), int(fields[19])
    return Process(pid, parent, session, started, ticks / TICKS)


def families(heads: list[int]) -> dict[int, tuple[int, Process]]:
    """
    Find the given leaders of sessions, and all that belong to them.

    What descends from a head is in its family, and so is what runs in its session: a worker
    that outlived its primary descends from nobody.

    :return: by pid, the head it belongs to and the process itself.
    """
    living = {
        process.pid: process
        for entry in os.listdir(PROC)
        if entry.isdigit() and (process := look(int(entry)))
    }
    found: dict[int, tuple[int, Process]] = {}
    for process in living.values():
        ancestor: Process | None = process
        while ancestor is not None and ancestor.pid not in heads:
            ancestor = living.get(ancestor.parent)
        if ancestor is not None:
            found[process.pid] = (ancestor.pid, process)
        elif process.session in heads:
            found[process.pid] = (process.session, process)
    return found


def resident_kib(pid: int) -> int:
    """
    The memory a process has in RAM, in KiB; 0 if it is gone.

    Pages that it shares with others count in full.
    """
    try:
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def proportional_kib(pid: int) -> int:
    """
    The memory of a process in KiB, of which each page counts in equal parts for all that share it:
    what the processes of a system add up to is what the system takes.  0 if it is gone.
    """
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def cpu_seconds(pid: int) -> float:
    """
    The CPU time that all threads of a process have used, to the nanosecond (the kernel's
    Documentation/scheduler/sched-stats.rst); 0 if it is gone.  Threads that have ended are left
    out.
    """
    used = 0
    try:
        for thread in (PROC / str(pid) / "task").iterdir():
            used += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        pass
    return used / 1e9


def descriptor_count(pid: int) -> int:
    """
    How many descriptors a process has open; 0 if it is gone.
    """
    try:
        return len(os.listdir(PROC / str(pid) / "fd"))
    except OSError:
        return 0


def machine_busy_seconds() -> float:
    """
    The CPU time that all programs and the kernel have used since the machine started.
    """
    with (PROC / "stat").open() as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) / TICKS

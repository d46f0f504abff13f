"""
Looking at processes from outside, by way of ``/proc`` and pidfds.
"""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.log import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

PROC = Path("/proc")


def state_of(pid: int) -> str:
    """
    The state of a process as proc(5) writes it: ``R``, ``S``, ``T`` stopped, ``Z`` zombie.

    :return: ``""`` if there is none of that id.
    """
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The name stands in parentheses and may contain some itself.
    return text.rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    """
    Whether a process runs.  One that has ended and waits for its parent does not.
    """
    return state_of(pid) not in ("", "Z", "X")


def children_of(pid: int) -> dict[int, str]:
    """
    The children of a process, with their command lines; empty for one that waits to be reaped.
    """
    found = {}
    for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split():
        try:
            line = (PROC / child / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has gone meanwhile
        found[int(child)] = line.rstrip(b"\0").replace(b"\0", b" ").decode()
    return found


def cpu_seconds(pid: int) -> float:
    """
    The CPU time that a process has used, its own and the kernel's on its behalf.
    """
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    # proc(5) counts from 1 and includes pid and name: utime is 14, stime 15.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    """
    How much memory of a process is resident.
    """
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def descriptors_of(pid: int) -> set[int]:
    """
    The numbers of the descriptors that a process has open.
    """
    return {int(name) for name in os.listdir(PROC / str(pid) / "fd")}


def lowest_free_descriptor(pid: int) -> int:
    """
    The number that the next descriptor of a process would have.
    """
    taken = descriptors_of(pid)
    return next(number for number in range(len(taken) + 1) if number not in taken)


def processes_marked(mark: str) -> list[int]:
    """
    Every living process that was started with ``mark`` in its environment.
    """
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is of another user
        if mark.encode() in environment.split(b"\0") and is_alive(int(entry.name)):
            found.append(int(entry.name))
    return found


class Watched:
    """
    A process of which we learn when it ends, though it is not our child.

    Make it while the process lives.  Close it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def ends_within(self, seconds: float) -> bool:
        """
        Wait until the process has ended, at most for so long.
        """
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        return bool(ready)

    def close(self) -> None:
        """
        Stop watching.
        """
        os.close(self._descriptor)


def all_end_within(watched: list[Watched], seconds: float) -> bool:
    """
    Wait until all of these have ended, at most for so long; and stop watching them.
    """
    deadline = time.monotonic() + seconds
    ended = [process.ends_within(deadline - time.monotonic()) for process in watched]
    for process in watched:
        process.close()
    return all(ended)


def eventually(condition: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """
    Look until a condition holds that nothing announces.

    :return: whether it held before the time was over.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True

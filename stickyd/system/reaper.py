"""
Reaping orphans, as process 1 of a container has to.

Whatever an application starts and leaves behind becomes a child of process 1 when its parent
ends.  Nobody else waits for it, so each would stay as a zombie, until there can be no more
processes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.task import LoopingCall

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from twisted.internet.interfaces import IReactorTime

#: Seconds between two looks.  Our own children are reaped by whoever waits for them, much sooner:
#: one that is a zombie at two looks in a row is nobody's.
LOOK_SECONDS = 3.0

_PROCESSES = Path("/proc")


class Reaper:
    """
    Looks for zombies of nobody now and then.
    """

    def __init__(
        self,
        clock: IReactorTime,
        zombies: Callable[[], Collection[int]],
        reap: Callable[[int], object],
    ) -> None:
        """
        :param zombies: finds our children that are zombies.
        :param reap: reaps one.
        """
        self._zombies = zombies
        self._reap = reap
        self._before: Collection[int] = ()
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Look from now on.
        """
        self._loop.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        zombies = set(self._zombies())
        for pid in zombies.intersection(self._before):
            self._reap(pid)
        self._before = zombies


def zombie_children() -> list[int]:
    """
    The pids of our children that have ended and were not waited for (proc(5)); none where there
    is no ``/proc``.
    """
    own, found = str(os.getpid()), []
    try:
        names = [entry.name for entry in os.scandir(_PROCESSES) if entry.name.isdecimal()]
    except OSError:
        return []
    for name in names:
        try:
            # The name of the program, in parentheses, may have any characters in it.
            state, parent = (_PROCESSES / name / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it has gone meanwhile
        if state == "Z" and parent == own:
            found.append(int(name))
    return found


def reap(pid: int) -> None:
    """
    Wait for a child that has ended.
    """
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)

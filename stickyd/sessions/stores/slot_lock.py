"""
Who may open the file of a slot.

The lock is one of fcntl(2), which a process loses with its life, however it ends, and which no
child of its application inherits.  Beside it stands who has it, so that who must wait can tell
a worker that is about to leave from another server.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stickyd.errors import SettingError, StoreAway

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two attempts.
POLL_SECONDS = 0.01

_IN_ORDER = b"closed\n"

_GENERATIONS = 4  # a worker's trial, its primary's, and what may stand between


class SlotLock:
    """
    A lock on ``slot-<n>.lock``.  Used by one thread.
    """

    def __init__(self, path: Path, shown: str) -> None:
        """
        :param shown: the setting, for errors.
        """
        self._path = path
        self._shown = shown
        self._descriptor = -1

    def acquire(self, cancelled: Callable[[], bool], waiting: Callable[[], object]) -> bool:
        """
        Wait until nobody else has it.

        :param cancelled: whether to give up.
        :param waiting: called if a worker of our own server has it, which is to leave it to us.
        :return: whether who had it last has left the file in good order.
        :raises SettingError: if another server has it.
        :raises StoreAway: if given up.
        :raises OSError: if there can be no such file.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        told = False
        while not self._try():
            pid, primary = self._holder()
            if _is_above_us(primary):
                if not told:
                    told = True
                    waiting()
            elif primary and _runs(pid, primary):
                raise SettingError(
                    f"{self._shown}: {self._path} belongs to another stickyd that runs (process"
                    f" {primary}); give each a directory of its own"
                )
            if cancelled():
                raise StoreAway(f"{self._shown}: {self._path} is held by process {pid}")
            time.sleep(POLL_SECONDS)
        in_order = os.pread(self._descriptor, 64, 0) == _IN_ORDER
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d %d\n" % (os.getpid(), os.getppid()), 0)
        return in_order

    def release(self, in_order: bool) -> None:
        """
        Let the next one have it.

        :param in_order: whether the file was open, and is closed.
        """
        if self._descriptor >= 0:
            if in_order:
                os.pwrite(self._descriptor, _IN_ORDER, 0)
                os.ftruncate(self._descriptor, len(_IN_ORDER))
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _holder(self) -> tuple[int, int]:
        try:
            pid, primary = os.pread(self._descriptor, 64, 0).split()
            return int(pid), int(primary)
        except ValueError:
            return 0, 0  # it has it since a moment, or has just closed the file


def _is_above_us(primary: int) -> bool:
    """
    Whether a process is our primary: our parent, or that of the trial that we are part of.
    """
    above = os.getppid()
    for _ in range(_GENERATIONS):
        if above == primary:
            return True
        above = _parent_of(above)
    return False


def _parent_of(pid: int) -> int:
    """
    :return: 0 if that cannot be known.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    # proc(5): the name is in parentheses, and may have any character; then state and parent.
    return int(stat.rpartition(")")[2].split()[1])


def _runs(pid: int, primary: int) -> bool:
    """
    Whether a worker has the primary still that it had, and is not an orphan about to end.
    """
    if Path("/proc/self/stat").exists():
        return _parent_of(pid) == primary
    try:
        os.kill(primary, 0)
    except ProcessLookupError:
        return False
    return True

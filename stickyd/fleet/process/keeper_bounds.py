"""
How many relieved workers may keep their clients, and how much memory they may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.fleet.keepers import Keepers
    from stickyd.fleet.worker_limits import WorkerLimits


class KeeperBounds:
    """
    Looks at each heartbeat, and has the longest relieved give its clients away while there are
    too many, or they are too large together.
    """

    _log = Logger()

    def __init__(self, keepers: Keepers, limits: WorkerLimits, slots: Callable[[], int]) -> None:
        """
        :param slots: gives how many slots there are.
        """
        self._keepers = keepers
        self._limits = limits
        self._slots = slots

    def look(self) -> None:
        """
        Called now and then.
        """
        if not self._keepers.homes:
            return
        relieved = [
            keeper
            for keeper in self._keepers
            if keeper.since is not None and not keeper.is_retiring
        ]
        if not relieved:
            return
        relieved.sort(key=lambda keeper: keeper.since or 0.0)
        oldest = relieved[0]
        most = self._limits.leaving * self._slots()
        memory = sum(keeper.worker.memory for keeper in relieved)
        if len(relieved) > most:
            why = f"more than {most} relieved workers (--max-leaving for each slot)"
        elif self._limits.leaving_bytes and memory > self._limits.leaving_bytes:
            why = (
                f"{memory / 2**20:.0f} MiB are resident in {len(relieved)} relieved workers"
                " (--max-leaving-memory)"
            )
        else:
            return
        self._log.warn(
            "Worker {pid} (slot {slot}) gives its clients away before they have left: {why}",
            event="worker.retired-early",
            pid=oldest.worker.pid,
            slot=oldest.home[0],
            why=why,
        )
        self._keepers.retire(oldest)

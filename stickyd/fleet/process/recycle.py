"""
Replacing workers that have served enough, or grown too large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.fleet.slot_workers import STOPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.fleet.process.process import WorkerProcess

#: The part of ``--max-requests`` by which workers differ, so that slots that started
#: together are not replaced together.
JITTER = 0.1


#: Heartbeats until the next attempt to replace a worker, when a successor could not start.
PAUSE_BEATS = 30


class Recycling:
    """
    Looks at each heartbeat, and has a worker reloaded that is past its limit.
    """

    _log = Logger()

    def __init__(
        self,
        most_requests: int,
        most_memory: int,
        random: Callable[[], float],
        reload: Callable[[int], Deferred[list[str]]],
        look_at_keepers: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param most_requests: about how many requests a worker answers; 0 for no limit.
        :param most_memory: how many bytes it may have resident; 0 for no limit.
        :param random: gives a number in [0, 1).
        :param reload: reloads a slot; fires with the reasons why it was not done.
        :param look_at_keepers: called with each heartbeat; ends relieved workers of which there
            are too many.
        """
        self._most_requests = most_requests
        self._most_memory = most_memory
        self._random = random
        self._reload = reload
        self._look_at_keepers = look_at_keepers
        # By pid: the limit of each worker; those that are being replaced; and, where a successor
        # did not start, after how many heartbeats the next attempt is made.
        self._limits: dict[int, float] = {}
        self._told: set[int] = set()
        self._kept: dict[int, int] = {}

    def seen(self, worker: WorkerProcess) -> None:
        """
        Called with each heartbeat of a worker that occupies a slot.
        """
        self._look_at_keepers()
        slot = worker.slot
        if not (self._most_requests or self._most_memory) or worker.pid in self._told:
            return
        if slot is None or getattr(slot.worker, "pid", 0) != worker.pid:
            return
        if self._kept.get(worker.pid, 0):
            self._kept[worker.pid] -= 1
            return
        limit = self._limits.setdefault(
            worker.pid, self._most_requests * (1.0 + JITTER * self._random())
        )
        requests = worker.heartbeats.figures.get("requests", 0)
        memory = worker.heartbeats.figures.get("memory", 0)
        if self._most_requests and requests >= limit:
            self.recycle(worker, "max_requests", f"it has answered {requests:.0f} requests")
        elif self._most_memory and memory > self._most_memory:
            self.recycle(worker, "max_memory", f"{memory / 2**20:.0f} MiB are resident")

    def recycle(self, worker: WorkerProcess, cause: str, why: str) -> None:
        """
        Have a worker that occupies a slot relieved by a fresh one.

        :param cause: for the figures, see
            :attr:`stickyd.figures.slot_figures.SlotFigures.restarts`.
        :param why: for the log.
        """
        if worker.slot is None or worker.pid in self._told:
            return
        self._told.add(worker.pid)
        worker.slot.figures.expect(cause)
        self._log.info(
            "Worker {pid} (slot {slot}) is replaced: {why}",
            event="worker.recycled",
            pid=worker.pid,
            slot=worker.slot.index,
            why=why,
        )
        self._reload(worker.slot.index).addCallback(self._reloaded, worker.pid)

    def _reloaded(self, problems: list[str], pid: int) -> None:
        for problem in problems:
            if not problem.endswith(STOPPED):
                self._log.error(
                    "Not replaced: {problem}", event="worker.not-recycled", problem=problem
                )
        if problems and pid in self._told:
            self._told.discard(pid)
            self._kept[pid] = PAUSE_BEATS

    def forget(self, pid: int) -> None:
        """
        Called when a worker has ended.
        """
        self._limits.pop(pid, None)
        self._kept.pop(pid, None)
        self._told.discard(pid)

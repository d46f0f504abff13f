"""
Telling when the workers that a reload has relieved have left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.slot_table import SlotTable

#: Seconds between two looks.
LOOK_SECONDS = 1.0


class DepartureNotice:
    """
    Says how many old workers finish what they have, and when the last one has left.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, table: SlotTable) -> None:
        self._clock = clock
        self._table = table
        self._call: IDelayedCall | None = None

    def begin(self) -> None:
        """
        A reload is done.
        """
        self.end()
        old = self._old
        if not old:
            return
        seconds = max(map(self._seconds_left, old))
        self._log.info(
            "{workers} old worker{s} finish{es} what cannot be handed over, for {seconds:.0f} s"
            " at most",
            event="reload.old-finish",
            workers=len(old),
            s="" if len(old) == 1 else "s",
            es="es" if len(old) == 1 else "",
            seconds=seconds,
        )
        self._call = self._clock.callLater(LOOK_SECONDS, self._look)

    def end(self) -> None:
        """
        Look no more.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def _old(self) -> list[IWorker]:
        return [each for member in self._table.all_members() for each in member.workers.leaving]

    def _seconds_left(self, worker: IWorker) -> float:
        keeper = self._table.keepers.of(worker)
        if keeper is not None:
            # One that keeps its clients finishes only then.
            return keeper.until - self._clock.seconds()
        return worker.seconds_left or 0.0

    def _look(self) -> None:
        self._call = None
        if self._old:
            self._call = self._clock.callLater(LOOK_SECONDS, self._look)
        else:
            self._log.info("Every old worker has left", event="reload.old-left")

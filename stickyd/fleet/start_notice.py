"""
Telling whoever watches a start what it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.slot_table import SlotTable

#: Seconds until the first word, and between any two after that.
FIRST_SECONDS = 1.0
NEXT_SECONDS = 10.0


class StartNotice:
    """
    Says now and then that the workers still import the application, until each slot has one that
    serves, or has failed.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, table: SlotTable, application: str) -> None:
        """
        :param application: its name.
        """
        self._clock = clock
        self._table = table
        self._application = application
        self._began = 0.0
        self._call: IDelayedCall | None = None

    def begin(self) -> None:
        """
        The first workers have just been started.
        """
        self._began = self._clock.seconds()
        self._call = self._clock.callLater(FIRST_SECONDS, self._tell)

    def end(self) -> None:
        """
        Say nothing any more.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tell(self) -> None:
        self._call = None
        slots = [member.slot for member in self._table.members]
        ready = sum(slot.worker is not None for slot in slots)
        if ready + sum(slot.failed for slot in slots) >= len(slots):
            return
        self._log.info(
            "Importing {application} … {ready} of {slots} workers are ready after {seconds:.0f} s",
            event="start.waits",
            application=self._application,
            ready=ready,
            slots=len(slots),
            seconds=self._clock.seconds() - self._began,
        )
        self._call = self._clock.callLater(NEXT_SECONDS, self._tell)

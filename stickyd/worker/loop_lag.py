"""
How late the reactor is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two looks: a callback that blocks the reactor for as long is always seen.
LOOK_SECONDS = 0.25


class LoopLag:
    """
    Has itself called now and then, and notes how late that is.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._due = 0.0
        self._worst_seconds = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """
        Look, until :meth:`stop`.
        """
        self._due = self._clock.seconds() + LOOK_SECONDS
        self._call = self._clock.callLater(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def take(self) -> float:
        """
        Give how late the reactor was at most since this was asked last, in seconds.
        """
        self._note()
        worst, self._worst_seconds = self._worst_seconds, 0.0
        return worst

    def _look(self) -> None:
        self._note()
        self.start()

    def _note(self) -> None:
        if self._call is not None:
            late = self._clock.seconds() - self._due
            if late > self._worst_seconds:
                self._worst_seconds = late

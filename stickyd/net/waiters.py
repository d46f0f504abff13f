"""
Deferreds that wait for the same thing to happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class Waiters:
    """
    Deferreds that fire together.

    One that begins to wait while the others fire waits for the next time.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        """
        Whether any waits.
        """
        return bool(self._waiting)

    def wait(self) -> Deferred[None]:
        """
        Wait for it.

        :return: fires the next time; it can be cancelled.
        """
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def fire(self) -> None:
        """
        Tell all who wait that it has happened.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def fail(self, reason: Failure | Exception) -> None:
        """
        Tell all who wait that it will not.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(reason)

"""
Log lines about one thing, not more often than every so many seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many subjects are remembered; above that, those are forgotten whose time is over.
MOST_SUBJECTS = 256

_NEVER = float("-inf")


class Throttle:
    """
    Says when a line is due.

    """

    def __init__(self, now: Callable[[], float], quiet_seconds: float) -> None:
        """
        :param now: gives the time in seconds; a monotonic clock's.
        :param quiet_seconds: how long nothing more is said of a subject.
        """
        self._now = now
        self._quiet_seconds = quiet_seconds
        self._told: dict[str, float] = {}

    def due(self, subject: str = "") -> bool:
        """
        Ask whether to say something now; if so, the next time is later.

        :param subject: what it is about; each has a time of its own.
        """
        now = self._now()
        if now - self._told.get(subject, _NEVER) < self._quiet_seconds:
            return False
        if len(self._told) >= MOST_SUBJECTS:
            self._told = {
                other: told
                for other, told in self._told.items()
                if now - told < self._quiet_seconds
            }
        self._told[subject] = now
        return True

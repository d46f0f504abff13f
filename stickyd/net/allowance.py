"""
How many messages of a kind a sender may send: a token bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Allowance:
    """
    So many a second, and so many at once.

    What was not used is kept, up to the burst: a sender that was not listened to for a while
    (this process was suspended) is still heard with what it has sent meanwhile.
    """

    def __init__(self, now: Callable[[], float], per_second: float, burst: int) -> None:
        """
        :param now: gives the time in seconds; a monotonic clock's.
        """
        self._now = now
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._seen = now()

    def take(self, count: int = 1) -> bool:
        """
        Use some of it.

        :return: False if there is not so much left; nothing is used then.
        """
        if self._left < count:
            now = self._now()
            self._left = min(self._burst, self._left + (now - self._seen) * self._per_second)
            self._seen = now
            if self._left < count:
                return False
        self._left -= count
        return True

    def give(self, count: int = 1) -> None:
        """
        Allow so many more, up to what is allowed at once.
        """
        self._left = min(self._burst, self._left + count)

"""
How much of its time the primary spends on what workers print.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: So many seconds for everything else follow each that was spent on output.
REST = 2.0

#: Seconds of rest that are not worth a pause.
LEAST_PAUSE_SECONDS = 0.005


class OutputShare:
    """
    One for all workers: a worker that prints without end is read more slowly, and so waits for
    its pipe to have room, while connections do not wait.
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._free_at = now()
        self._said: dict[str, str] = {}

    def begin(self) -> float:
        """
        Called when output is about to be logged.

        :return: what :meth:`end` is to be given.
        """
        return self._now()

    def is_news(self, event: str, text: str) -> bool:
        """
        Whether no worker has said the same of such an event last: of many that cannot import the
        application one says why.
        """
        said, self._said[event] = self._said.get(event), text
        return said != text

    def end(self, begun: float) -> float:
        """
        Called when some output was logged.

        :return: seconds until more may be; 0.0 for at once.
        """
        now = self._now()
        self._free_at = max(self._free_at, begun) + (now - begun) * (1.0 + REST)
        pause = self._free_at - now
        return pause if pause >= LEAST_PAUSE_SECONDS else 0.0

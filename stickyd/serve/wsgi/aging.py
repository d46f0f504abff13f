"""
Looking at requests that are not over after a while.

Most are over by then, so none has a timer of its own: they stand in a row, and the oldest are
looked at together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness

T = TypeVar("T")


class Aging(Generic[T]):
    """
    Hands items over once they are old enough, in the order in which they came.
    """

    def __init__(
        self, readiness: IReadiness, age_seconds: float, aged: Callable[[T], object]
    ) -> None:
        """
        :param age_seconds: the age at least; at most twice as much.
        :param aged: called with each item.
        """
        self._readiness = readiness
        self._age_seconds = age_seconds
        self._aged = aged
        self._row: deque[T] = deque()
        self._running = False

    def add(self, item: T) -> None:
        """
        Begin to wait.
        """
        self._row.append(item)
        if not self._running:
            self._running = True
            self._readiness.call_later(self._age_seconds, self._hand_over_aged, 0)

    def _hand_over_aged(self, count: int) -> None:
        """
        :param count: how many stood there at the last look.
        """
        row = self._row
        # First of all: an error must not stop the others.
        self._running = len(row) > count
        if self._running:
            self._readiness.call_later(self._age_seconds, self._hand_over_aged, len(row) - count)
        for _ in range(count):
            self._aged(row.popleft())

"""
What is known of one worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.errors import ControlError
from stickyd.figures.page import CLOSED, MOST_AT_ONCE, NUMBERS, OPENED
from stickyd.figures.request_counts import in_flight

if TYPE_CHECKING:
    from collections.abc import Sequence


class WorkerFigures:
    """
    The numbers on a worker's page, as they were seen last, and what it has told.

    :ivar numbers: see :mod:`stickyd.figures.page`.
    :ivar told: the figures of its last heartbeat, see
        :meth:`stickyd.worker.server.Serving.figures`.
    :ivar ready_at: when it became ready, in the reactor's seconds; 0.0 before, and of one that
        another version of the primary has started.
    """

    def __init__(self) -> None:
        self.numbers: Sequence[int] = (0,) * NUMBERS
        self.told: dict[str, float] = {}
        self.ready_at = 0.0

    def see(self, numbers: Sequence[int]) -> list[int]:
        """
        Take note of the numbers as they are now.

        :return: by how much each has grown.
        :raises ControlError: if one has gone back, or grown beyond all measure.
        """
        grown = [new - old for new, old in zip(numbers, self.numbers, strict=True)]
        if min(grown) < 0 or max(grown) > MOST_AT_ONCE:
            where = next(i for i, by in enumerate(grown) if not 0 <= by <= MOST_AT_ONCE)
            raise ControlError(
                f"figure {where} on its page that went from {self.numbers[where]} to"
                f" {numbers[where]}"
            )
        self.numbers = numbers
        return grown

    def hear(self, told: dict[str, float]) -> None:
        """
        Take note of a heartbeat.
        """
        self.told = told

    def ready(self, now: float) -> None:
        """
        The worker has become ready.
        """
        self.ready_at = now

    @property
    def connections(self) -> int | None:
        """
        How many connections are open; None of a worker that does not count them.
        """
        opened = self.numbers[OPENED]
        return max(0, opened - self.numbers[CLOSED]) if opened else None

    @property
    def in_flight(self) -> int:
        """
        How many requests are under way.
        """
        return in_flight(self.numbers)

"""
What a worker says of itself with each heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.affinity.key_counts import Report


class Heartbeats:
    """
    The last heartbeat of one worker, and how many connections it has by that.

    :ivar figures: what it said.
    :ivar accepted: what it said of connections that the worker has accepted by itself.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.accepted: Report | None = None
        self._sent_before = 0

    def heard(self, figures: dict[str, float], accepted: Report | None, sent: int) -> None:
        """
        Called with each one.

        :param sent: how many connections were sent to the worker by then.
        """
        self.figures, self.accepted = figures, accepted
        self._sent_before = sent

    def load(self, sent: int, in_flight: int) -> int:
        """
        Give about how many connections the worker has.

        :param sent: how many were sent to it by now.
        :param in_flight: how many of those it has not acknowledged.
        """
        # What is on its way was mostly sent since the figures, so it is not added to that.
        coming = max(sent - self._sent_before, in_flight)
        return int(self.figures.get("connections", 0)) + coming

"""
Leading for one machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import LoopingCall

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stickyd.leadership.leadership import Leadership

#: Seconds between two signs of life of the loop, at most.
RENEWAL_SECONDS = 1.0


class OwnMachine:
    """
    Leads as soon as the primary says so, as long as the loop turns.
    """

    def __init__(self, clock: IReactorTime, leadership: Leadership, hang_seconds: float) -> None:
        """
        :param hang_seconds: how long the loop may be stuck until the worker must not lead any more.
        """
        self._leadership = leadership
        self._hang_seconds = hang_seconds
        self._renewing = LoopingCall(leadership.renew, hang_seconds)
        self._renewing.clock = clock

    def begin(self, term: int, fleet: str, held: tuple[int, float]) -> None:
        """
        Called when the primary has named this worker.
        """
        self._leadership.begin(term, self._hang_seconds)
        if not self._renewing.running:
            self._renewing.start(min(RENEWAL_SECONDS, self._hang_seconds / 4))

    def end(self, goes_on: Deferred[bool]) -> None:
        """
        Called when it does not lead any more.

        :param goes_on: of no use to it.
        """
        if self._renewing.running:
            self._renewing.stop()

    async def finish(self) -> None:
        """
        Wait until nobody else can be told any more.
        """

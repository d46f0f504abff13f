"""
The one deadline of a connection.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Deadline:
    """
    Calls somebody when it is past.

    It moves with nearly every request, so its timer stays where it is and looks, when it
    fires, whether the deadline has moved on meanwhile.
    """

    __slots__ = ("_due", "_expired", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], object]) -> None:
        """
        :param expired: called once for each deadline that passes.
        """
        self._loop = loop
        self._expired: Callable[[], object] | None = expired
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, seconds: float | None) -> None:
        """
        Set the deadline so many seconds from now, whatever it was before; to none if it is
        :obj:`None`.
        """
        if seconds is None or self._expired is None:
            self._due = inf
            return
        self._due = due = self._loop.time() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timer = self._loop.call_later(seconds, self._timer_fired)

    def stop(self) -> None:
        """
        Set none any more, and forget what to call.
        """
        self._due = inf
        self._expired = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timer_fired(self) -> None:
        self._timer = None
        due = self._due
        if due == inf or self._expired is None:
            return
        left = due - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._timer_fired)
        else:
            self._due = inf
            self._expired()

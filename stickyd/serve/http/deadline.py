"""
The one deadline of a connection.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.http.deadlines import Deadlines


class Deadline:
    """
    Calls back when it has passed, by the timer that all connections of a worker share.

    :ivar deadline: for the timer.
    :ivar bucket: the timer's own.
    """

    __slots__ = ("_deadlines", "_expired", "bucket", "deadline")

    def __init__(self, deadlines: Deadlines, expired: Callable[[], object]) -> None:
        """
        :param expired: called once for each deadline that passes.
        """
        self._deadlines = deadlines
        self._expired: Callable[[], object] | None = expired
        self.deadline = inf
        self.bucket = 0

    def expect(self, seconds: float | None) -> None:
        """
        Pass in so many seconds, whatever was said before; never, if it is :obj:`None` or
        stopped.
        """
        if self._expired is not None:
            self.deadline = inf if seconds is None else self._deadlines.now + seconds
            self._deadlines.hasten(self)

    def postpone(self, seconds: float | None) -> None:
        """
        Pass in so many seconds, which is not earlier than what was said before.
        """
        self.deadline = inf if seconds is None else self._deadlines.now + seconds

    def expire(self) -> None:
        """
        Called by the timer.
        """
        if self._expired is not None:
            self._expired()

    def stop(self) -> None:
        """
        Pass never, and forget what to call.
        """
        self._expired = None
        self._deadlines.discard(self)

"""
A reactor for stores that have a thread, and tests that have no loop.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.task import Clock

from stickyd.sessions.answers import result_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

_T = TypeVar("_T")

#: Seconds after which something hangs.
PATIENCE_SECONDS = 30.0


class ThreadClock(Clock):
    """
    Keeps what a thread has the loop call, until the test looks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.Queue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, call: Callable[..., object], *arguments: Any) -> None:  # noqa: N802
        """
        As of a reactor.
        """
        self._calls.put((call, arguments))

    def turn(self, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """
        Call the next one.
        """
        call, arguments = self._calls.get(timeout=timeout_seconds)
        call(*arguments)

    def settle(self, deferred: Deferred[_T]) -> _T:
        """
        Wait for a Deferred.
        """
        while not deferred.called or deferred.paused:
            self.turn()
        return result_of(deferred)

"""
One part of the application that wants to lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from stickyd.leadership.loop_calls import LoopCalls
    from stickyd.leadership.thread_calls import ThreadCalls


class Subscription:
    """
    What :func:`stickyd.leader.subscribe` returns.  Call it to unsubscribe, from any thread: nothing
    is called any more then, but the end if the beginning was.
    """

    def __init__(
        self, calls: LoopCalls | ThreadCalls, cancel: Callable[[Subscription], object]
    ) -> None:
        self._calls = calls
        self._cancel = cancel
        self._has_begun = False

    def __call__(self) -> None:
        self._cancel(self)

    def begin(self) -> None:
        """
        Called when the process begins to lead.
        """
        if not self._has_begun:
            self._has_begun = True
            self._calls.begin()

    def end(self) -> Future[None] | None:
        """
        Called when it has ended to lead.

        :return: done when all of it is over; None if nothing had begun.
        """
        if not self._has_begun:
            return None
        self._has_begun = False
        return self._calls.end()

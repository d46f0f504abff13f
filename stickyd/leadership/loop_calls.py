"""
What a subscriber does at the beginning and at the end of leadership, in the loop's thread.
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Future
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.leadership.interfaces import Surroundings


class LoopCalls:
    """
    Calls functions, and waits for what they return if that can be waited for.
    """

    _log = Logger()

    def __init__(
        self,
        on_begin: Callable[[], object],
        on_end: Callable[[], object] | None,
        surroundings: Surroundings,
    ) -> None:
        self._on_begin = on_begin
        self._on_end = on_end
        self._surroundings = surroundings
        self._beginning: Deferred[object] = succeed(None)

    def begin(self) -> None:
        """
        Have the beginning done; from any thread.
        """
        self._surroundings.in_loop(self._begin)

    def end(self) -> Future[None]:
        """
        Have the end done, after the beginning: what still runs of that is cancelled.

        :return: done when all of it is over; never fails.
        """
        over: Future[None] = Future()
        self._surroundings.in_loop(self._end, over)
        return over

    def _begin(self) -> None:
        self._beginning = self._called(self._on_begin, "beginning")

    def _end(self, over: Future[None]) -> None:
        def ended(_: object) -> Deferred[object]:
            if self._on_end is None:
                return succeed(None)
            return self._called(self._on_end, "end")

        beginning, self._beginning = self._beginning, succeed(None)
        # First, as afterwards it would cancel the end.
        beginning.cancel()
        beginning.addCallback(ended).addCallback(lambda _: over.set_result(None))

    def _called(self, call: Callable[[], object], what: str) -> Deferred[object]:
        """
        Call a function of the application's.

        :return: fires when it is over, what it has returned too; never fails.
        """
        try:
            result = call()
            if inspect.iscoroutine(result):
                result = self._surroundings.start(result)
            elif asyncio.isfuture(result):
                result = Deferred.fromFuture(result)
        except Exception:  # noqa: BLE001 (the application's own code)
            self._log.failure("The {what} of leadership failed", event="leader.failed", what=what)
            return succeed(None)
        if not isinstance(result, Deferred):
            return succeed(None)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError, asyncio.CancelledError) is None:
                self._log.failure(
                    "The {what} of leadership failed", failure, event="leader.failed", what=what
                )

        return result.addErrback(failed).addCallback(lambda _: None)

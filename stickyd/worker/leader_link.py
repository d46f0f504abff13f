"""
A worker's way to what decides who leads.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall

from stickyd.worker.loading import loop_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from stickyd.leadership.leadership import Leadership
    from stickyd.worker.control import PrimaryLink

#: Seconds between two signs of life of the loop, at most.
RENEWAL_SECONDS = 1.0


class LeaderLink:
    """
    Has the worker lead when the primary says so, and tells it when that has ended.
    """

    def __init__(
        self, reactor: Any, link: PrimaryLink, leadership: Leadership, hang_seconds: float
    ) -> None:
        """
        :param hang_seconds: how long the loop may be stuck until the worker must not lead any more.
        """
        self._reactor = reactor
        self._link = link
        self._leadership = leadership
        self._lease_seconds = hang_seconds
        self._renewing = LoopingCall(leadership.renew, hang_seconds)
        self._renewing.clock = reactor

    def lead(self, term: int) -> None:
        """
        Called when the primary says so.
        """
        self._leadership.begin(term, self._lease_seconds)
        if not self._renewing.running:
            self._renewing.start(min(RENEWAL_SECONDS, self._lease_seconds / 4))

    def finish(self, seconds: float) -> Deferred[None]:
        """
        Lead no more.

        :return: fires when all that was begun is over, at the latest after so many seconds.
        """
        self._leadership.leave()

        def waited(over: Future[None]) -> Deferred[object]:
            waiting: Deferred[object] = Deferred()
            over.add_done_callback(lambda _: self._reactor.callFromThread(waiting.callback, None))
            return waiting

        ended: Deferred[Any] = DeferredList(list(map(waited, self._leadership.unfinished)))
        return ended.addTimeout(seconds, self._reactor).addBoth(lambda _: None)

    # stickyd.leadership.interfaces.Primary

    def in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        self._reactor.callFromThread(call, *arguments)

    def start(self, coroutine: Coroutine[Any, Any, object]) -> Deferred[object]:
        loop = loop_of(self._reactor)
        if loop is None:
            return Deferred.fromCoroutine(coroutine)
        return Deferred.fromFuture(asyncio.ensure_future(coroutine, loop=loop))

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self._reactor.callLater(seconds, call)

    def stand(self, stands: bool) -> None:
        if self._link.is_open:
            self._link.stand(stands)

    def ended(self, term: int) -> None:
        if self._renewing.running:
            self._renewing.stop()
        if self._link.is_open:
            self._link.lead_ended(term)

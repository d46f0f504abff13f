"""
A worker's way to what decides who leads.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, succeed

from stickyd.leadership.desk import leadership
from stickyd.leadership.own_machine import OwnMachine
from stickyd.settings.bus_url import read_bus_url
from stickyd.worker.loading import loop_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from stickyd.leadership.leadership import Leadership
    from stickyd.settings import Settings
    from stickyd.worker.control import PrimaryLink


class Reach(Protocol):
    """
    For which machines a worker leads.
    """

    def begin(self, term: int, fleet: str, held: tuple[int, float]) -> None:
        """
        Called when the primary has named this worker; has it begin, now or later.

        :param fleet: identifies the primary, over upgrades too.
        :param held: the last term for which a worker of it had the lease of all machines, and until
            when by :func:`time.monotonic`; 0 if none had.
        """

    def end(self, goes_on: Deferred[bool]) -> None:
        """
        Called when it does not lead any more, or is not to.

        :param goes_on: fires with whether another worker of this machine goes on; never fails.
        """

    async def finish(self) -> None:
        """
        Wait until everybody can know that.
        """


class LeaderLink:
    """
    Has the worker lead when the primary says so, and tells it when that has ended.
    """

    def __init__(
        self, reactor: Any, link: PrimaryLink, leadership: Leadership, reach: Reach
    ) -> None:
        """
        :param reach: for which machines it leads.
        """
        self._reactor = reactor
        self._link = link
        self._leadership = leadership
        self._reach = reach
        # For which the primary has named us, until it is told that it is over.
        self._term = 0

    def lead(self, term: int, fleet: str, held: tuple[int, float]) -> None:
        """
        Called when the primary says so.
        """
        self._term = term
        self._reach.begin(term, fleet, held)
        if not self._leadership.stands:
            # It was named before the primary heard that it does not want to any more.
            self.ended(0)

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
        ended.addCallback(lambda _: self.start(self._reach.finish()))
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
        if not stands and self._leadership.is_over:
            # It was named, and had not begun.
            self.ended(0)

    def ended(self, term: int) -> None:
        # Another one than that for all machines.
        told, self._term = self._term, 0
        goes_on = self._link.lead_ended(told) if told and self._link.is_open else succeed(False)
        self._reach.end(goes_on)


def leader_reach(reactor: Any, settings: Settings, link: PrimaryLink) -> Reach:
    """
    Find out for which machines a worker leads: for its own, or all those of the bus.
    """

    def tell_held(term: int, until: float) -> None:
        if link.is_open:
            link.lease_held(term, until)

    address = read_bus_url(settings.bus)
    if address is None:
        return OwnMachine(reactor, leadership, settings.hang_timeout)
    # Not above: redis-py need not be there.
    from stickyd.leadership.all_machines import AllMachines

    return AllMachines(address, leadership, settings.hang_timeout, tell_held)

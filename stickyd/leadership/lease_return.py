"""
Giving back the lease of all machines for a worker that has died: the primary's part.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from stickyd.settings.bus_url import read_bus_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from stickyd.leadership.redis_lease import RedisLease
    from stickyd.redis.url import RedisAddress


class LeaseReturn:
    """
    Does so in a thread of the reactor's: that of a primary is none of asyncio's, and this is the
    only time that a primary needs Redis.
    """

    _log = Logger()

    def __init__(self, reactor: Any, bus: Callable[[], str]) -> None:
        """
        :param bus: gives what ``--bus`` says now.
        """
        self._reactor = reactor
        self._bus = bus

    def prepare(self) -> None:
        """
        Load what it needs, before it matters.
        """
        self._in_thread(_load)

    def give_back(self, fleet: str, term: int) -> None:
        """
        Give a lease back, once: if that fails it runs out, as when a machine falls silent.

        :param fleet: who has it; nothing happens if that is somebody else by then.
        :param term: for which; the same.
        """
        address = read_bus_url(self._bus())
        if address is None:
            return  # not any more, since a reload

        def failed(failure: Failure) -> None:
            self._log.info(
                "The lease of all machines' leader cannot be given back: {problem}; others begin"
                " when it has run out",
                event="leader.lease-stays",
                problem=failure.getErrorMessage(),
            )

        self._in_thread(_give_back, address, fleet, term).addErrback(failed)

    def _in_thread(self, call: Callable[..., object], *arguments: object) -> Deferred[object]:
        pool = self._reactor.getThreadPool()
        done: Deferred[object] = deferToThreadPool(self._reactor, pool, call, *arguments)
        return done


def _load() -> Callable[[RedisAddress], RedisLease]:
    # Not above: redis-py need not be there, and most primaries never do this.
    from stickyd.leadership.redis_lease import RedisLease

    return RedisLease


def _give_back(address: RedisAddress, fleet: str, term: int) -> None:
    make_lease = _load()

    async def give_back() -> None:
        lease = make_lease(address)
        try:
            await lease.release(fleet, term)
        finally:
            await lease.close()

    asyncio.run(give_back())

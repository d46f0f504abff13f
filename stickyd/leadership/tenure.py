"""
Holding the lease of all machines, from when the primary has named a worker to when it has ended.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from stickyd.leadership.redis_lease import BROKEN, LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.leadership.leadership import Leadership
    from stickyd.leadership.redis_lease import RedisLease

#: Seconds between two questions for a lease that somebody else has.
ASK_SECONDS = 0.3

_RENEWAL_SECONDS = LEASE_SECONDS / 5

#: Seconds between two renewals of which the primary is told, at least.
_TELLING_SECONDS = 0.5


class Tenure:
    """
    Asks for the lease, leads while it is renewed, and gives it back unless another worker of this
    machine goes on with it.

    It is told to end and never cancelled: whoever does not hear the answer to a question for the
    lease does not know for which term it has it.
    """

    def __init__(
        self,
        lease: RedisLease,
        fleet: str,
        held: tuple[int, float],
        leadership: Leadership,
        hang_seconds: float,
        tell_held: Callable[[int, float], object],
        complain: Callable[[BaseException], object],
    ) -> None:
        """
        :param lease: closed at the end.
        :param fleet: identifies this machine.
        :param held: for which term it has the lease by what its primary knows, and until when by
            :func:`time.monotonic`.
        :param hang_seconds: how long the loop may be stuck until the worker must not lead any more.
        :param tell_held: told for which term the lease is held, and until when.
        :param complain: told why the lease cannot be asked for.
        """
        self._lease = lease
        self._fleet = fleet
        self._held = held
        self._leadership = leadership
        self._hang_seconds = hang_seconds
        self._tell_held = tell_held
        self._complain = complain
        # That of the lease: ours, or that of who led before us here.
        self._term = held[0]
        self._ends = asyncio.Event()
        self._goes_on: Deferred[bool] | None = None

    def end(self, goes_on: Deferred[bool]) -> None:
        """
        Have it end.

        :param goes_on: fires with whether another worker of this machine goes on; never fails.
        """
        self._goes_on = goes_on
        self._ends.set()

    async def run(self) -> None:
        """
        Go from the beginning to the end.
        """
        try:
            until = await self._acquire()
            if not self._ends.is_set():
                self._tell_held(self._term, until)
                self._leadership.begin(self._term, self._seconds_to(until))
                await self._keep()
            await self._give_back()
        finally:
            await self._lease.close()

    async def _acquire(self) -> float:
        """
        :return: until when we have it, unless it has ended meanwhile.
        """
        while not self._ends.is_set():
            held_term = self._held[0] if time.monotonic() < self._held[1] else 0
            try:
                term, until = await self._lease.acquire(self._fleet, held_term)
            except BROKEN as problem:
                self._complain(problem)
                until = ASK_SECONDS
            else:
                if term:
                    self._term = term
                    return until
            await self._pause(min(until, ASK_SECONDS))
        return 0.0

    async def _keep(self) -> None:
        told = 0.0
        while True:
            await self._pause(min(_RENEWAL_SECONDS, self._hang_seconds / 4))
            if self._ends.is_set():
                return
            try:
                until = await self._lease.renew(self._fleet, self._term)
            except BROKEN as problem:
                # It may be back before the lease has run out.
                self._complain(problem)
                continue
            if not until:
                self._term = 0
                self._leadership.give_up()
                return
            if until - told >= _TELLING_SECONDS:
                self._tell_held(self._term, until)
                told = until
            self._leadership.renew(self._seconds_to(until))

    async def _give_back(self) -> None:
        await self._ends.wait()
        assert self._goes_on is not None
        if not await self._goes_on.asFuture(asyncio.get_running_loop()) and self._term:
            with suppress(*BROKEN):  # then it runs out
                await self._lease.release(self._fleet, self._term)

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ends.wait(), seconds)

    def _seconds_to(self, until: float) -> float:
        return min(self._hang_seconds, until - time.monotonic())

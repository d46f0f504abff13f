"""
Leading for all machines that share a Redis.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.leadership.redis_lease import BROKEN, LEASE_SECONDS, RedisLease

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.leadership.leadership import Leadership
    from stickyd.redis.url import RedisAddress

#: Seconds between two questions for a lease that somebody else has.
ASK_SECONDS = 0.3

_RENEWAL_SECONDS = LEASE_SECONDS / 5
_SILENCE_SECONDS = 10.0

#: Seconds between two renewals of which the primary is told, at least.
_TELLING_SECONDS = 0.5


class AllMachines:
    """
    Leads when the primary has said so, as long as it holds the lease.  The loop renews that, so a
    loop that is stuck loses it.
    """

    _log = Logger()

    def __init__(
        self,
        address: RedisAddress,
        leadership: Leadership,
        hang_seconds: float,
        tell_held: Callable[[int, float], object],
    ) -> None:
        """
        :param hang_seconds: how long the loop may be stuck until the worker must not lead any more.
        :param tell_held: told for which term the lease is held, and until when by
            :func:`time.monotonic`.
        """
        self._address = address
        self._tell_held = tell_held
        self._leadership = leadership
        self._hang_seconds = hang_seconds
        self._leading: asyncio.Task[None] | None = None
        # That one, and those that still give their lease up.
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent_until = 0.0

    def begin(self, term: int, fleet: str, held: tuple[int, float]) -> None:
        """
        Called when the primary has named this worker.

        :param term: on this machine; that of all machines comes with the lease.
        """
        task = asyncio.get_running_loop().create_task(self._lead(fleet, held))
        self._leading = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """
        Called when it does not lead any more, or is not to.
        """
        leading, self._leading = self._leading, None
        if leading is not None:
            leading.cancel()

    async def finish(self) -> None:
        """
        Wait until other machines can know that this one does not lead.
        """
        self.end()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _lead(self, fleet: str, held: tuple[int, float]) -> None:
        lease = RedisLease(self._address)
        term = 0
        try:
            term, until = await self._acquired(lease, fleet, held)
            self._tell_held(term, until)
            self._leadership.begin(term, self._seconds_to(until))
            await self._keep(lease, fleet, term)
        finally:
            # In a task that is cancelled this still works, once.
            with suppress(*BROKEN):
                if term:
                    await lease.release(fleet, term)
            await lease.close()

    async def _acquired(
        self, lease: RedisLease, fleet: str, held: tuple[int, float]
    ) -> tuple[int, float]:
        while True:
            held_term = held[0] if time.monotonic() < held[1] else 0
            try:
                term, until = await lease.acquire(fleet, held_term)
            except BROKEN as problem:
                self._complain(problem)
                until = ASK_SECONDS
            else:
                if term:
                    return term, until
            await asyncio.sleep(min(until, ASK_SECONDS))

    async def _keep(self, lease: RedisLease, fleet: str, term: int) -> None:
        told = 0.0
        while True:
            await asyncio.sleep(min(_RENEWAL_SECONDS, self._hang_seconds / 4))
            try:
                until = await lease.renew(fleet, term)
            except BROKEN as problem:
                # It may be back before the lease has run out.
                self._complain(problem)
            else:
                if not until:
                    self._leadership.give_up()
                    return
                if until - told >= _TELLING_SECONDS:
                    self._tell_held(term, until)
                    told = until
                self._leadership.renew(self._seconds_to(until))

    def _seconds_to(self, until: float) -> float:
        return min(self._hang_seconds, until - time.monotonic())

    def _complain(self, problem: BaseException) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE_SECONDS
            self._log.warn(
                "The lease of all machines' leader cannot be asked for at {address}: {problem}",
                event="leader.lease-away",
                address=self._address,
                problem=f"{type(problem).__name__}: {problem}".removesuffix(": "),
            )

"""
Leading for all machines that share a Redis.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from twisted.internet.defer import succeed
from twisted.logger import Logger

from stickyd.leadership.redis_lease import RedisLease
from stickyd.leadership.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.leadership.leadership import Leadership
    from stickyd.redis.url import RedisAddress

_SILENCE_SECONDS = 10.0


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
        self._tenure: Tenure | None = None
        # That of the tenure, and of those that are about to end.
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent_until = 0.0

    def begin(self, term: int, fleet: str, held: tuple[int, float]) -> None:
        """
        Called when the primary has named this worker.

        :param term: on this machine; that of all machines comes with the lease.
        """
        self._tenure = Tenure(
            RedisLease(self._address),
            fleet,
            held,
            self._leadership,
            self._hang_seconds,
            self._tell_held,
            self._complain,
        )
        task = asyncio.get_running_loop().create_task(self._tenure.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self, goes_on: Deferred[bool]) -> None:
        """
        Called when it does not lead any more, or is not to.

        :param goes_on: fires with whether another worker of this machine goes on with the lease,
            which is given back otherwise; never fails.
        """
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            tenure.end(goes_on)

    async def finish(self) -> None:
        """
        Wait until other machines can know that this one does not lead.
        """
        self.end(succeed(False))
        if self._tasks:
            await asyncio.wait(self._tasks)

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

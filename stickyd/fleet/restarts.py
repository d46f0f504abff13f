"""
When the next worker of a slot is started, and when the slot has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.backoff import Backoff
    from stickyd.fleet.worker_limits import WorkerLimits

#: A worker that served this many seconds was sound: its death costs its successor no delay.
SOUND_SECONDS = 5.0


class Restarts:
    """
    The record of one slot's starts and deaths, and the start that it waits for.

    :ivar crashes: how many workers in a row died before they were ready.
    :ivar count: how many workers were started because another one had died.
    :ivar ready_at: when the last worker became ready, in the reactor's seconds; 0.0 if none
        ever did.
    """

    def __init__(self, clock: IReactorTime, backoff: Backoff, limits: WorkerLimits) -> None:
        """
        :param limits: of all slots; may change.
        """
        self._clock = clock
        self._backoff = backoff
        self._limits = limits
        self.crashes = 0
        self.count = 0
        self.ready_at = 0.0
        self._failures = 0
        self._next: IDelayedCall | None = None

    def forget(self) -> None:
        """
        Hold nothing against the slot, and start no worker later.
        """
        self.cancel()
        self.crashes = self._failures = 0

    def served(self) -> None:
        """
        Called when a worker has become ready.
        """
        self.crashes = 0
        self.ready_at = self._clock.seconds()

    def crashed(self) -> None:
        """
        Called when a worker has died before it was ready.
        """
        self.crashes += 1
        self._failures += 1

    def died(self) -> None:
        """
        Called when a worker has died that had served.
        """
        lasted = self._clock.seconds() - self.ready_at
        self._failures = 0 if lasted >= SOUND_SECONDS else self._failures + 1

    @property
    def has_failed(self) -> bool:
        """
        Whether so many crashed in a row that the slot has failed.
        """
        return self.crashes >= self._limits.crashes

    @property
    def delay(self) -> float:
        """
        Seconds until the next start.
        """
        in_vain = self.crashes - self._limits.crashes + 1
        if in_vain > 0:
            return self._backoff.slow_delay(in_vain)
        # The first quick death is forgiven, as one death says nothing of the next.
        return self._backoff.delay(self._failures - 1)

    def start_later(self, delay: float, start: Callable[[], object]) -> None:
        """
        Have a worker started.

        :param delay: in seconds.
        """
        self._next = self._clock.callLater(delay, self._start, start)

    def _start(self, start: Callable[[], object]) -> None:
        self._next = None
        self.count += 1
        start()

    def hasten(self) -> bool:
        """
        Have the start that is waited for be now.

        :return: whether there is one.
        """
        if self._next is None:
            return False
        self._next.reset(0)
        return True

    def cancel(self) -> None:
        """
        Start no worker later.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None

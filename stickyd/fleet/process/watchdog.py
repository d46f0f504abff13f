"""
Noticing that a worker hangs, and ending it with its stacks in the log.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.process.label import WorkerLabel


#: Has a worker write the stacks of all its threads to standard error (faulthandler), which
#: works however stuck the interpreter is.
DUMP_SIGNAL = signal.SIGUSR2

#: Seconds from the stacks to SIGTERM, and from there to SIGKILL.
STEP_SECONDS = 1.0


class Watchdog:
    """
    Watches the heartbeats of one worker, which its own reactor sends: a worker that is
    busy but gives its reactor a turn now and then is alive.

    A primary that was suspended, or whose clock was set, finds all workers late at once, while
    their heartbeats wait to be read.  So a worker is ended only if a second look finds it late
    again.

    :ivar verdict: why the worker was ended, for the log; empty if it was not.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float,
        label: WorkerLabel,
        kill: Callable[[int], object],
    ) -> None:
        """
        :param timeout: seconds without a heartbeat after which the worker hangs.
        :param kill: sends it a signal.
        """
        self._clock = clock
        self._timeout = timeout
        self._label = label
        self._kill = kill
        self._last = 0.0
        self._next: IDelayedCall | None = None
        self.verdict = ""

    def start(self) -> None:
        """
        Watch from now on.
        """
        self._last = self._clock.seconds()
        self._next = self._clock.callLater(self._timeout, self._look)

    def beat(self) -> None:
        """
        Called with each heartbeat.
        """
        self._last = self._clock.seconds()

    @property
    def silent_seconds(self) -> float:
        """
        How long ago the last heartbeat came; 0.0 if nobody watches.
        """
        return 0.0 if self._next is None else max(0.0, self._clock.seconds() - self._last)

    def stop(self) -> None:
        """
        Watch no more: the worker has ended.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        left = self._last + self._timeout - self._clock.seconds()
        # A clock that was set back must not put the next look off for as long.
        wait = min(left, self._timeout) if left > 0 else min(STEP_SECONDS, self._timeout / 4)
        self._next = self._clock.callLater(wait, self._look if left > 0 else self._look_again)

    def _look_again(self) -> None:
        if self._clock.seconds() - self._last < self._timeout:
            self._look()
            return
        self.verdict = f"hung: no heartbeat for {self._timeout:g} s"
        self._log.error(
            "Worker {worker} hangs: no heartbeat for {timeout:g} s. Its stacks follow;"
            " then it is replaced",
            event="worker.hangs",
            worker=self._label,
            timeout=self._timeout,
        )
        self._kill(DUMP_SIGNAL)
        self._next = self._clock.callLater(STEP_SECONDS, self._terminate)

    def _terminate(self) -> None:
        if self._clock.seconds() - self._last <= STEP_SECONDS:
            self._log.info(
                "Worker {worker} is back, and stays",
                event="worker.back",
                worker=self._label,
            )
            self.verdict = ""
            self._look()
            return
        self._kill(signal.SIGTERM)
        self._next = self._clock.callLater(STEP_SECONDS, self._end)

    def _end(self) -> None:
        self._next = None
        self._kill(signal.SIGKILL)

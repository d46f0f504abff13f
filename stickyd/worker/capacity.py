"""
How many connections this worker has room for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.net.descriptors import share_of
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.interfaces import IHost

#: The part of RLIMIT_NOFILE that connections may fill; the rest is the application's, for
#: its files and databases, and keeps the kernel from dropping a descriptor on its way.
HEADROOM = 0.9

#: Seconds until a full worker looks again whether it has room.
FULL_SECONDS = 0.05

#: Seconds between two lines in the log about a full worker.
QUIET_SECONDS = 10.0


class Capacity:
    """
    Counts descriptors against their limit.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, host: IHost, window: int) -> None:
        """
        :param window: how many connections may be on their way to us while we have room.
        """
        self._clock = clock
        self._host = host
        self._most = window
        self._own = 0
        self._limit = 0  # what connections may fill of it, as it was last looked at
        self._watchers: list[Callable[[], None]] = []
        self._starved = self._closed = False
        self._waiting = False
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)

    def count_own(self) -> None:
        """
        Count what is open now, before there are connections: this process itself needs it.
        """
        self._own = _open_descriptors()

    def watch(self, changed: Callable[[], None]) -> None:
        """
        Have ``changed`` called whenever :meth:`window` may say something else than before.
        """
        self._watchers.append(changed)

    @property
    def used(self) -> int:
        """
        About how many descriptors are open.
        """
        return self._own + self._host.descriptors

    def window(self) -> int:
        """
        How many connections may be on their way to us now.
        """
        if self._closed:
            return 0
        taken = self._own + self._host.descriptors
        if taken + self._most <= self._limit and not self._starved:
            return self._most
        return self._window_towards_limit(taken)

    def _window_towards_limit(self, taken: int) -> int:
        """
        Ask the kernel for the limit, which is not done for every connection.
        """
        self._limit = share_of(HEADROOM)
        room = self._limit - taken
        if room > 0 and not self._starved:
            return min(self._most, room)
        self._look_later()
        return 0

    def change_window(self, window: int) -> None:
        """
        Allow more or fewer to be on their way.
        """
        self._most = window
        self._tell()

    def starve(self) -> None:
        """
        Have no room for a moment: the kernel has dropped a descriptor.
        """
        self._starved = True

    def close(self) -> None:
        """
        Have no room from now on.
        """
        self._closed = True
        self._tell()

    def _look_later(self) -> None:
        if self._waiting:
            return
        self._waiting = True
        if self._throttle.due():
            self._log.warn(
                "No more connections for now: {connections} are open, with {descriptors}"
                " descriptors, and the limit of open files is near; raise it (ulimit -n,"
                " LimitNOFILE=)",
                event="worker.full",
                connections=self._host.connections,
                descriptors=self._host.descriptors,
            )
        self._clock.callLater(FULL_SECONDS, self._look)

    def _look(self) -> None:
        self._waiting = False
        self._starved = False
        self._tell()

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()


def _open_descriptors() -> int:
    """
    How many descriptors this process has open: about, as the listing opens one itself.
    """
    return len(os.listdir("/dev/fd"))

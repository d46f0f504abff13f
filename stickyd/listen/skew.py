"""
Noticing that clients cannot be told apart.

Behind a proxy or a NAT many people have one address; then one worker serves them all, and
the others idle.  As nothing fails, nobody would look for it: so the log has a line.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.affinity.key_counts import MOST_KEYS
from stickyd.handoff.frame import BY_KEY
from stickyd.interfaces import IDestination
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.key_counts import Report
    from stickyd.handoff.frame import Handoff

WINDOW_SECONDS: Final = 60.0
"""
Seconds over which shares are counted.
"""

ENOUGH: Final = 50
"""
How many connections of a window are needed to speak of shares.  So many are all counted,
of those after them a sample.
"""

ENOUGH_REQUESTS: Final = 1000
"""
How many requests of a window are needed: somebody who tries the server out makes fewer.
"""

MUCH: Final = 0.6
"""
The share of requests that is too much for one key; it is known about.
"""

EVERY: Final = 16
"""
One connection in so many, about, is in the sample.
"""

QUIET_SECONDS: Final = 600.0
"""
Seconds between two lines in the log.
"""

_OF_KERNEL = "; either takes --steering handoff, as the kernel sees no more than addresses"


@implementer(IDestination)
class SkewWatch:
    """
    Passes connections on, and warns if one key has more than half of them, or most requests.

    Where the kernel steers, the workers tell what they have accepted; who makes their requests
    they tell anyway (:mod:`stickyd.worker.asking_keys`), as a proxy that keeps its connections
    makes few.
    """

    _log = Logger()

    def __init__(
        self, destination: IDestination, clock: IReactorTime, slots: Callable[[], int]
    ) -> None:
        """
        :param slots: how many slots there are; with one there is nothing to spread.
        """
        self._deliver = destination.deliver
        self._clock = clock
        self._slots = slots
        self._until_look = 1
        self._ends = 0.0
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)
        self._total = 0
        self._lag = 0
        self._requests = self._lag_requests = 0
        self._counts: Counter[bytes] = Counter()
        self._asked: Counter[bytes] = Counter()

    def deliver(self, handoff: Handoff) -> None:
        """
        Pass a connection on; see :class:`IDestination`.
        """
        self._until_look -= 1
        if not self._until_look:
            self._look(handoff)
        self._deliver(handoff)

    def told(self, report: Report) -> None:
        """
        Called with what a worker has accepted by itself.
        """
        self._begin_window()
        self._total += report.total
        # One worker's report may be here before those of the others for the same time.
        self._lag = max(self._lag, report.total)
        for key, host, count in report.busiest:
            self._count(key, count, host, _OF_KERNEL)
        self._requests += report.requests
        self._lag_requests = max(self._lag_requests, report.requests)
        for key, host, count in report.asking:
            self._count_requests(key, count, host)

    def _begin_window(self) -> None:
        now = self._clock.seconds()
        if now >= self._ends:
            self._ends = now + WINDOW_SECONDS
            self._total = self._lag = self._requests = self._lag_requests = 0
            self._counts.clear()
            self._asked.clear()

    def _look(self, handoff: Handoff) -> None:
        self._begin_window()
        self._total += 1
        # Not always the same distance, or clients that take turns would not be noticed.
        self._until_look = 1 if self._total < ENOUGH else EVERY // 2 + self._total * 7 % EVERY
        if handoff.key and handoff.slot == BY_KEY:  # else it is not its key that decides
            self._count(handoff.key, 1, handoff.host, "")

    def _count(self, key: bytes, count: int, host: str, more: str) -> None:
        counts = self._counts
        if key in counts or len(counts) < MOST_KEYS:
            counts[key] += count
            surplus = 2 * counts[key] - self._total - self._lag
            # By two standard deviations of a fair coin: two clients alone are no skew.
            if self._total >= ENOUGH and surplus > 2 * self._total**0.5:
                self._warn("new connections", host, counts[key] / self._total, more)

    def _count_requests(self, key: bytes, count: int, host: str) -> None:
        asked = self._asked
        if key in asked or len(asked) < MOST_KEYS:
            asked[key] += count
            # As above: those of the others for the same time may follow.
            all_of_them = self._requests + self._lag_requests
            if self._requests >= ENOUGH_REQUESTS and asked[key] > MUCH * all_of_them:
                self._warn("requests", host, asked[key] / self._requests, "")

    def _warn(self, what: str, host: str, share: float, more: str) -> None:
        if self._slots() < 2 or not self._throttle.due():
            return
        self._log.warn(
            "{share:.0%} of the {what} have the affinity key of {host}, so one worker"
            " serves them. If that is a proxy, name it by --trust, so that the address that it"
            " forwards counts; if many people share the address, tell them apart by a cookie"
            " alone: --affinity cookie:stickyd{more}",
            event="clients.skewed",
            share=share,
            what=what,
            host=host or "the UNIX socket",
            more=more,
        )

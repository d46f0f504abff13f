"""
Noticing that clients cannot be told apart.

Behind a proxy or a NAT many people have one address; then one worker serves them all, and
the others idle.  Nothing fails, so nobody would look for it: hence the line in the log.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.handoff.frame import BY_KEY
from stickyd.interfaces import IDestination

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.handoff.frame import Handoff

WINDOW: Final = 60.0
"""
Seconds over which shares are counted.
"""

ENOUGH: Final = 50
"""
How many connections of a window are needed to speak of shares.  So many are all counted,
of those after them a sample.
"""

EVERY: Final = 16
"""
One connection in so many, about, is in the sample.
"""

MOST_KEYS: Final = 256
"""
How many keys are counted in a window.  One that more than half of the connections have is
surely among the first.
"""

QUIET: Final = 600.0
"""
Seconds between two lines in the log.
"""


@implementer(IDestination)
class SkewWatch:
    """
    Passes connections on, and warns if one key has more than half of them.
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
        self._told = -QUIET
        self._total = 0
        self._counts: Counter[bytes] = Counter()

    def deliver(self, handoff: Handoff) -> None:
        """
        Pass a connection on; see :class:`IDestination`.
        """
        self._until_look -= 1
        if not self._until_look:
            self._look(handoff)
        self._deliver(handoff)

    def _look(self, handoff: Handoff) -> None:
        now = self._clock.seconds()
        if now >= self._ends:
            self._ends = now + WINDOW
            self._total = 0
            self._counts.clear()
        self._total += 1
        # Not always the same distance, or clients who take turns would fool us.
        self._until_look = 1 if self._total < ENOUGH else EVERY // 2 + self._total * 7 % EVERY
        key, counts = handoff.key, self._counts
        if not key or handoff.slot != BY_KEY:
            return  # not its key decides
        if key in counts or len(counts) < MOST_KEYS:
            counts[key] += 1
            surplus = 2 * counts[key] - self._total
            # By two standard deviations of a fair coin: two clients alone are no skew.
            if self._total >= ENOUGH and surplus > 2 * self._total**0.5:
                self._warn(handoff, counts[key] / self._total, now)

    def _warn(self, handoff: Handoff, share: float, now: float) -> None:
        if now - self._told < QUIET or self._slots() < 2:
            return
        self._told = now
        self._log.warn(
            "{share:.0%} of the new connections have the affinity key of {host}, so one worker"
            " serves them. If that is a proxy, name it by --trust, so that the address that it"
            " forwards counts; if many people share the address, tell them apart by a cookie:"
            " --affinity cookie:stickyd,ip",
            share=share,
            host=handoff.host or "the UNIX socket",
        )

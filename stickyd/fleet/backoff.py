"""
How long to wait before the next worker is started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: The longest delay between two tries of a slot that has failed, in caps.
MOST_CAPS = 20.0


@dataclass(frozen=True)
class Backoff:
    """
    Capped exponential back-off with jitter.

    The first death of a worker that had served well costs no delay at all; each further
    one in a row doubles it.  Jitter keeps slots that died together (a machine out of
    memory) from being started together again.

    :ivar first: the delay after the second death in a row, in seconds.
    :ivar longest: the cap, in seconds.
    :ivar random: gives a number in [0, 1), as :func:`random.random` does.
    """

    first: float
    longest: float
    random: Callable[[], float]

    def delay(self, failures: int) -> float:
        """
        The delay before the next start, in seconds.

        :param failures: how many starts in a row did not last, at least 0.
        :return: 0.0 for no failure, else between half and all of
            ``min(longest, first * 2 ** (failures - 1))``.
        """
        if failures <= 0:
            return 0.0
        return self._jittered(self.first, failures - 1, self.longest)

    def slow_delay(self, tries: int) -> float:
        """
        The delay before a slot that has failed is tried again, in seconds.

        :param tries: how many starts were in vain since just before it failed, at least 1.
        :return: between half and all of ``longest * 2 ** (tries - 1)``, and of at most
            :data:`MOST_CAPS` times ``longest``.
        """
        return self._jittered(self.longest, tries - 1, MOST_CAPS * self.longest)

    def _jittered(self, first: float, doublings: int, longest: float) -> float:
        # 2.0 ** 1024 overflows; no cap is that many doublings away.
        ceiling = min(longest, first * 2.0 ** min(doublings, 64))
        return ceiling * (0.5 + 0.5 * self.random())

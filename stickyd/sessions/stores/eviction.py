"""
Which session gives way when a store is full.

Whoever keeps no cookie gets a new session with each request, so a crawler could push every
session out that is idle for a while.  So there are two lines: sessions that have been used
once, and those that have been used again.  The first gives way as long as it has more than its
share, which is what keeps a place for newcomers whose second request is on its way.  This is a
segmented LRU cache (Karedla, Love and Wherry, 1994); everything takes constant time.
"""

from __future__ import annotations

from collections import OrderedDict

SHARE = 5
"""
One place in so many is for sessions that have been used once.
"""


class EvictionOrder:
    """
    The ids of sessions, in the order in which they give way.
    """

    def __init__(self) -> None:
        # Least recently used first.  The first of a plain dict, whose first were all taken
        # out, is found by going over all their places.
        self._once: OrderedDict[bytes, None] = OrderedDict()
        self._again: OrderedDict[bytes, None] = OrderedDict()

    def add(self, uid: bytes, used_again: bool) -> None:
        """
        Put an id last in its line.

        :param uid: is in none.
        :param used_again: whether it has been used after the request that made it.
        """
        (self._again if used_again else self._once)[uid] = None

    def use(self, uid: bytes) -> None:
        """
        Note that a session is used again.
        """
        if uid in self._again:
            self._again.move_to_end(uid)
        else:
            del self._once[uid]
            self._again[uid] = None

    def remove(self, uid: bytes) -> bool:
        """
        Take an id out.

        :return: whether it had been used again.
        """
        if uid in self._again:
            del self._again[uid]
            return True
        del self._once[uid]
        return False

    def next(self, stays: bytes) -> bytes:
        """
        Tell which session gives way.

        :param stays: the id that the others make room for; there is another one.
        """
        once, again = len(self._once), len(self._again)
        lines = [self._once, self._again]
        if SHARE * once <= once + again:
            lines.reverse()
        return next(uid for line in lines for uid in line if uid != stays)

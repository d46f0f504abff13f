"""
A timer wheel: which of many ids are due, without a timer for each.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil, inf


class TimerWheel:
    """
    Keeps ids in buckets by the time when they are due.  Who puts off what an id stands
    for leaves it where it is, and puts it in again when it comes up: so putting off,
    which happens at every request, costs nothing here.
    """

    def __init__(self, grain: float = 8.0) -> None:
        """
        :param grain: the width of a bucket in seconds; an id comes up to this much late.
        """
        self._grain = grain
        self._buckets: dict[int, set[bytes]] = {}
        self._ticks: list[int] = []  # a heap of the buckets' numbers

    def put(self, uid: bytes, due: float) -> int | None:
        """
        Put an id in.

        :param due: when, in seconds; ``inf`` for never.
        :return: which bucket it is in, for :meth:`remove`.
        """
        if due == inf:
            return None
        tick = ceil(due / self._grain)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            heappush(self._ticks, tick)
        bucket.add(uid)
        return tick

    def remove(self, uid: bytes, tick: int | None) -> None:
        """
        Take an id out, if it is still in that bucket.
        """
        bucket = None if tick is None else self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(uid)

    def pop(self, now: float) -> bytes | None:
        """
        Take out one id that is due.

        :param now: the time in seconds.
        :return: :obj:`None` if there is none.
        """
        while self._ticks and self._ticks[0] * self._grain <= now:
            bucket = self._buckets[self._ticks[0]]
            if bucket:
                return bucket.pop()
            del self._buckets[heappop(self._ticks)]
        return None

"""
For how long a client has taken nothing of what waits for it.
"""

from __future__ import annotations


class StallWatch:
    """
    Remembers since when several things have not moved.

    They are looked at now and then, so the time is that since the first look that found them
    as they are.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}

    def seconds(self, key: int, waits: bool, progress: int, now: float) -> float:
        """
        Look at one.

        :param waits: whether anything of it waits for the client.
        :param progress: a number that is another one when it has moved.
        :return: for how long it has not.
        """
        if not waits:
            self._seen.pop(key, None)
            return 0.0
        seen = self._seen.get(key)
        if seen is None or seen[0] != progress:
            self._seen[key] = progress, now
            return 0.0
        return now - seen[1]

    def forget(self, key: int) -> None:
        """
        Look at it no more.
        """
        self._seen.pop(key, None)

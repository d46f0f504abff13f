"""
How often a client may do what costs it nothing and us something.
"""

from __future__ import annotations


class Allowance:
    """
    A token bucket.
    """

    def __init__(self, most: int, a_second: float, now: float) -> None:
        """
        :param most: how often at once.
        :param a_second: how many are allowed again in each second.
        """
        self._most = most
        self._a_second = a_second
        self._left = float(most)
        self._since = now

    def take(self, now: float) -> bool:
        """
        Take one.

        :return: :obj:`False` if there is none left.
        """
        # A clock may be set back.
        passed = max(0.0, now - self._since)
        self._since = now
        self._left = min(self._most, self._left + passed * self._a_second)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give(self, count: int = 1) -> None:
        """
        Allow so many more, up to what is allowed at once.
        """
        self._left = min(self._most, self._left + count)

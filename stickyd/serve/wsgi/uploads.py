"""
Applications that were called before the body of their request was whole.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Upload(Protocol):
    """
    A request whose body is still coming.
    """

    def begin_upload(self) -> bool:
        """
        Call the application now.

        :return: :obj:`False` if that makes no sense any more.
        """


class Uploads:
    """
    Bounds how many threads may wait for bodies: a slow client must not cost one that others
    need.  Whoever finds no room is served when its body is whole, or somebody else's is.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._waiting: deque[Upload] = deque()

    @property
    def full(self) -> bool:
        """
        Whether there are enough.
        """
        return self._count >= self._most

    def enter(self, upload: Upload) -> bool:
        """
        Count one more.

        :return: :obj:`False` if there are enough; it is begun later then.
        """
        if self._count < self._most:
            self._count += 1
            return True
        if self._most:
            self._waiting.append(upload)
        return False

    def leave(self) -> None:
        """
        Count one less, and begin the next.
        """
        self._count -= 1
        while self._waiting:
            if self._waiting.popleft().begin_upload():
                self._count += 1
                return

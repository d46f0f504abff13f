"""
A response in pieces, on its way from the application's thread to the loop.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stickyd.serve.wsgi.response import ResponseHead

    #: The head with the first piece, the piece, and what follows it: see
    #: :data:`stickyd.serve.wsgi.call.MORE`.
    Piece = tuple[ResponseHead | None, bytes, int]

#: A thread that has put this much more than its client took waits until it is a quarter.
HIGH_WATER_BYTES = 131072


class Pieces:
    """
    Holds them, and has the thread wait while the client is behind.

    Each count is changed by one side only, and the queue by both at its two ends; so no lock
    is needed but the one on which the thread waits.

    :ivar closed: whether the response is over.
    """

    __slots__ = ("_put_bytes", "_queue", "_room", "_taken_bytes", "closed")

    def __init__(self) -> None:
        self._queue: deque[Piece] = deque()
        self._put_bytes = 0  # only the application's thread changes it
        self._taken_bytes = 0  # only the loop does
        self._room: Any = None  # the lock on which the thread waits
        self.closed = False

    # In the application's thread.

    def put(self, head: ResponseHead | None, piece: bytes, kind: int) -> None:
        """
        Add a piece; dropped if the response is over.
        """
        if not self.closed:
            self._put_bytes += len(piece)
            self._queue.append((head, piece, kind))

    def wait_for_room(self) -> None:
        """
        Wait until the client has taken enough of what was put, or nobody takes it any more.
        """
        while self._crowded():
            lock = threading.Lock()
            lock.acquire()
            self._room = lock
            # Again: the loop may have made room before it could see the lock.
            if self._crowded():
                lock.acquire()
            self._room = None

    def _crowded(self) -> bool:
        return self._put_bytes - self._taken_bytes > HIGH_WATER_BYTES and not self.closed

    # In the loop.

    def __bool__(self) -> bool:
        """
        Whether there is any.
        """
        return bool(self._queue)

    def take(self) -> Piece:
        """
        Take the first.
        """
        taken = self._queue.popleft()
        self._taken_bytes += len(taken[1])
        return taken

    def make_room(self) -> None:
        """
        Wake the thread if it waits, and need not any more.
        """
        room = self._room
        if room is not None and (
            self.closed or self._put_bytes - self._taken_bytes <= HIGH_WATER_BYTES // 4
        ):
            self._room = None
            room.release()

    def close(self) -> None:
        """
        Take no more: the response is over.
        """
        self.closed = True
        self._queue.clear()
        self.make_room()

"""
What waits in one channel of a channel layer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import Future


class Letter(NamedTuple):
    """
    A message.

    :ivar expires: when it is no longer wanted, by the monotonic clock, in seconds.
    :ivar data: what it says, encoded.
    """

    expires: float
    data: bytes


class Mailbox:
    """
    The messages of a channel, oldest first, and the coroutines that wait for one.

    They may run in several event loops, so whoever calls holds the layer's lock.
    """

    def __init__(self, capacity: int) -> None:
        """
        :param capacity: how many messages may wait.
        """
        self._capacity = capacity
        self._letters: deque[Letter] = deque()
        self._waiting: deque[Future[None]] = deque()
        self._room: Future[None] | None = None
        #: Whether nobody has taken anything for so long that it is not waited for any more.
        self.is_stalled = False

    @property
    def is_idle(self) -> bool:
        """
        Whether nothing is in it, and nobody waits for something.
        """
        return not self._letters and not self._waiting

    @property
    def waiting(self) -> int:
        """
        How many coroutines wait for which there is no message yet.
        """
        return len(self._waiting)

    @property
    def room(self) -> Future[None]:
        """
        Fires in the running event loop, which is the one that asks always, when a message is
        taken.
        """
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def is_full(self, now: float) -> bool:
        """
        Whether no message more has room.
        """
        if len(self._letters) >= self._capacity:
            self.drop_expired(now)
        return len(self._letters) >= self._capacity

    def put(self, letter: Letter) -> None:
        """
        Add a message, and wake whoever waits longest.
        """
        self._letters.append(letter)
        self._wake()

    def take(self, now: float) -> Letter | None:
        """
        Take the oldest message that is still wanted.
        """
        self.drop_expired(now)
        self.is_stalled = False
        if self._room is not None:
            _fire(self._room)
            self._room = None
        return self._letters.popleft() if self._letters else None

    def drop_expired(self, now: float) -> None:
        """
        Forget messages that are no longer wanted.
        """
        while self._letters and self._letters[0].expires <= now:
            self._letters.popleft()

    def join(self) -> Future[None]:
        """
        Wait for a message, in the running event loop; then :meth:`leave`.
        """
        waiter: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    def leave(self, waiter: Future[None]) -> None:
        """
        Wait no longer, whether or not something came.
        """
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif self._letters:
            # It was woken for one that it may not have taken.
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            if _fire(self._waiting.popleft()):
                return


def _fire(waiter: Future[None]) -> bool:
    """
    Fire it, from whatever thread.

    :return: whether its loop still runs.
    """

    def fire() -> None:
        if not waiter.done():
            waiter.set_result(None)

    try:
        waiter.get_loop().call_soon_threadsafe(fire)
    except RuntimeError:  # the loop is closed
        return False
    return True

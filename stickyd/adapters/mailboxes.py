"""
The mailboxes of one channel layer, in one process.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from stickyd.adapters.mailbox import Letter, Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

#: All mailboxes are looked through for what is no longer wanted once in this part of the time
#: that a message is wanted.
SWEEPS_PER_EXPIRY = 10


class Mailboxes:
    """
    One for each channel in which something waits, or for which somebody does.  Any thread, and
    any event loop, may use them.

    :ivar boxes: by channel.
    """

    def __init__(self, expiry_seconds: float, capacity: Callable[[str], int]) -> None:
        """
        :param expiry_seconds: how long a message is wanted.
        :param capacity: how many messages may wait in a channel.
        """
        self.boxes: dict[str, Mailbox] = {}
        self._expiry_seconds = expiry_seconds
        self._capacity = capacity
        self._lock = threading.Lock()
        self._sweep_at = 0.0

    def letter(self, data: bytes) -> Letter:
        """
        A message that is new now.
        """
        return Letter(time.monotonic() + self._expiry_seconds, data)

    def put(self, channel: str, letter: Letter, always: bool = False) -> bool:
        """
        Put a message into its channel.

        :param always: whether there is no bound.
        :return: whether it had room.
        """
        with self._lock:
            box = self._box(channel)
            if not always and box.is_full(time.monotonic()):
                return False
            box.put(letter)
            return True

    def put_if_awaited(self, channel: str, letter: Letter) -> bool:
        """
        Put a message into its channel if somebody waits there for it.
        """
        with self._lock:
            box = self.boxes.get(channel)
            if box is None or not box.waiting:
                return False
            box.put(letter)
            return True

    def take(self, channel: str) -> Letter | None:
        """
        Take the oldest message of a channel, if there is one for which nobody waits.
        """
        with self._lock:
            box = self.boxes.get(channel)
            letter = None if box is None or box.waiting else box.take(time.monotonic())
            self._tidy(channel)
            return letter

    async def receive(self, channel: str, waits: Callable[[int], object]) -> bytes:
        """
        Take the oldest message of a channel, or wait for one.

        :param waits: called with 1 when we begin to wait, and with -1 when we do not any more.
        """
        waiter = None
        self.sweep()
        with self._lock:
            box = self._box(channel)
            letter = box.take(time.monotonic())
            if letter is None:
                waiter = box.join()
            else:
                self._tidy(channel)
        if waiter is None:
            assert letter is not None
            return letter.data
        waits(1)
        try:
            while True:
                await waiter
                with self._lock:
                    letter = box.take(time.monotonic())
                    if letter is not None:
                        return letter.data
                    # Somebody else was faster, and it may have been tidied away.
                    box = self._box(channel)
                    waiter = box.join()
        finally:
            with self._lock:
                box.leave(waiter)
                self._tidy(channel)
            waits(-1)

    def sweep(self) -> None:
        """
        Forget what is no longer wanted, if that was not done lately.
        """
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._expiry_seconds / SWEEPS_PER_EXPIRY
        with self._lock:
            for channel, box in list(self.boxes.items()):
                box.drop_expired(now)
                self._tidy(channel)

    def waited_for(self) -> list[tuple[str, int]]:
        """
        The channels for which coroutines wait, and how many do.
        """
        with self._lock:
            return [(channel, box.waiting) for channel, box in self.boxes.items() if box.waiting]

    def clear(self) -> None:
        """
        Forget all messages.
        """
        with self._lock:
            for channel, box in list(self.boxes.items()):
                box.drop_expired(float("inf"))
                self._tidy(channel)

    def _box(self, channel: str) -> Mailbox:
        box = self.boxes.get(channel)
        if box is None:
            box = self.boxes[channel] = Mailbox(self._capacity(channel))
        return box

    def _tidy(self, channel: str) -> None:
        box = self.boxes.get(channel)
        if box is not None and box.is_idle:
            del self.boxes[channel]

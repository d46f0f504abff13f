"""
Messages that came by the bus, on their way into mailboxes.

Theory of operation.  What other workers have sent comes in batches, all of which is here before a
consumer had its turn; so a mailbox that is full then is not one that nobody reads.  It is waited
for until something is taken from it, and everything that came later waits behind, in order.  Whose
mailbox nobody touches for a second is waited for no more: it loses what has no room, as the
contract of channel layers says, until it takes something.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stickyd.adapters.mailbox import Letter
    from stickyd.adapters.mailboxes import Mailboxes

#: Seconds that a full mailbox is waited for.
PATIENCE_SECONDS = 1.0

#: How much waits here at most.
MOST_MESSAGES = 10_000
MOST_BYTES = 64 * 1024 * 1024


class Delivery(NamedTuple):
    """
    A message for some channels.

    :ivar what: whose it is: a group, or a channel.
    """

    channels: Sequence[str]
    letter: Letter
    what: str


class Inbox:
    """
    Puts what comes into mailboxes, no faster than they are emptied.
    """

    def __init__(self, mailboxes: Mailboxes, lost: Callable[[str, int, int], object]) -> None:
        """
        :param lost: told whose message had no room, in how many of its channels, and how many
            they are.
        """
        self._mailboxes = mailboxes
        self._lost = lost
        self._waiting: deque[Delivery] = deque()
        self._waiting_bytes = 0
        self._pump: asyncio.Task[None] | None = None

    def take(self, delivery: Delivery) -> None:
        """
        Take what came; in the thread of the event loop, if one runs there.
        """
        if self._waiting:
            self._keep(delivery)
            return
        full = [name for name in delivery.channels if not self._put(name, delivery.letter)]
        if not full:
            return
        left = delivery._replace(channels=full)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._lose(delivery, len(full))
            return
        self._keep(left)
        if self._pump is None:
            self._pump = loop.create_task(self._empty())

    def close(self) -> None:
        """
        Forget what waits.
        """
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()

    def _put(self, channel: str, letter: Letter) -> bool:
        return self._mailboxes.put(channel, letter)

    def _keep(self, delivery: Delivery) -> None:
        size = len(delivery.letter.data)
        if len(self._waiting) >= MOST_MESSAGES or self._waiting_bytes + size > MOST_BYTES:
            self._lose(delivery, len(delivery.channels))
            return
        self._waiting.append(delivery)
        self._waiting_bytes += size

    def _lose(self, delivery: Delivery, lost: int) -> None:
        self._lost(delivery.what, lost, len(delivery.channels))

    async def _empty(self) -> None:
        try:
            while self._waiting:
                first = self._waiting[0]
                lost = 0
                for channel in first.channels:
                    lost += not await self._put_in_time(channel, first.letter)
                if lost:
                    self._lose(first, lost)
                if self._waiting:
                    self._waiting.popleft()
                    self._waiting_bytes -= len(first.letter.data)
        finally:
            self._pump = None

    async def _put_in_time(self, channel: str, letter: Letter) -> bool:
        while not self._put(channel, letter):
            box = self._mailboxes.boxes.get(channel)
            if box is None:
                continue
            if box.is_stalled:
                return False
            try:
                await asyncio.wait_for(box.room, PATIENCE_SECONDS)
            except asyncio.TimeoutError:
                box.is_stalled = True
        return True

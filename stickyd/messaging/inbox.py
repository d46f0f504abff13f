"""
The messages that somebody listens to, until they are taken.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.messaging.message import Message

#: How many messages may wait for whoever listens, and how much of data, unless it says so.
INBOX_MESSAGES = 10_000
INBOX_BYTES = 16 * 1024 * 1024

#: Seconds between two lines in the log about what is lost on one channel.
_QUIET_SECONDS = 10.0

_throttle = Throttle(time.monotonic, _QUIET_SECONDS)


class Inbox:
    """
    A bounded queue from the thread that delivers to the one that listens.

    :ivar lost: how many messages found no room.
    :ivar closed: whether no more come.
    """

    _log = Logger()

    def __init__(self, most_messages: int) -> None:
        """
        :param most_messages: how many may wait.
        """
        self._most = most_messages
        self._waiting: deque[Message] = deque()
        self._size_bytes = 0
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None
        self.lost = 0
        self.closed = False

    def put(self, message: Message) -> None:
        """
        Keep a message, if there is room.
        """
        with self._lock:
            size_bytes = self._size_bytes + len(message.data)
            if len(self._waiting) >= self._most or (size_bytes > INBOX_BYTES and self._waiting):
                self.lost += 1
                told = _throttle.due(message.channel)
                wake = None
            else:
                self._waiting.append(message)
                self._size_bytes = size_bytes
                told = False
                wake, self._wake = self._wake, None
        if told:
            self._log.warn(
                "Whoever listens to {channel!r} is too slow: it has lost {lost} messages so far",
                event="bus.listener-lost",
                channel=message.channel,
                lost=self.lost,
            )
        if wake is not None:
            wake()

    def take(self) -> Message | None:
        """
        Take the oldest message, if there is one.
        """
        with self._lock:
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._size_bytes -= len(message.data)
            return message

    def wait(self, wake: Callable[[], object]) -> bool:
        """
        Have a call made, in whatever thread, when there is a message, or will be none.

        :return: whether it will be made; else one of both is so already.
        """
        with self._lock:
            if self._waiting or self.closed:
                return False
            self._wake = wake
            return True

    def close(self) -> None:
        """
        Let what waits be taken, but nothing more come.
        """
        with self._lock:
            self.closed = True
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

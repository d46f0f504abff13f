"""
Who waits, in other processes, for messages of channels that everybody may receive from.
"""

from __future__ import annotations

import threading
from collections import deque

#: How many are remembered for each channel, and for how many channels.
MOST_WANTS = 1000
MOST_CHANNELS = 10_000


class Wants:
    """
    The processes that have said that they wait, in that order.
    """

    def __init__(self) -> None:
        self._wants: dict[str, deque[str]] = {}
        self._lock = threading.Lock()

    def add(self, channel: str, address: str) -> None:
        """
        Take note that a process waits for one message more.
        """
        with self._lock:
            wants = self._wants.get(channel)
            if wants is None:
                if len(self._wants) >= MOST_CHANNELS:
                    return
                wants = self._wants[channel] = deque(maxlen=MOST_WANTS)
            wants.append(address)

    def remove(self, channel: str, address: str) -> None:
        """
        Take note that a process waits for one less.
        """
        with self._lock:
            wants = self._wants.get(channel, ())
            if address in wants:
                self._wants[channel].remove(address)
                self._tidy(channel)

    def pop(self, channel: str) -> str | None:
        """
        Take whoever has waited longest for a channel, if anybody does.
        """
        with self._lock:
            wants = self._wants.get(channel)
            if wants is None:
                return None
            address = wants.popleft()
            self._tidy(channel)
            return address

    def clear(self) -> None:
        """
        Forget all.
        """
        with self._lock:
            self._wants.clear()

    def _tidy(self, channel: str) -> None:
        if not self._wants[channel]:
            del self._wants[channel]

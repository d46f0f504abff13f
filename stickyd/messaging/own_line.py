"""
The bus of a process that is no worker: all subscribers are in it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from zope.interface import implementer

from stickyd.confirmation import Confirmation
from stickyd.messaging.interfaces import IBusLine

if TYPE_CHECKING:
    from stickyd.messaging.interfaces import Deliver


@implementer(IBusLine)
class OwnLine:
    """
    Delivers in the thread that publishes, before ``publish`` returns; what is published
    meanwhile, by a subscriber or another thread, comes after it.
    """

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._delivering = False
        self._lock = threading.Lock()

    def publish(self, name: bytes, data: bytes) -> None:
        with self._lock:
            self._waiting.append((name, data))
            if self._delivering:
                return
            self._delivering = True
        while True:
            with self._lock:
                if not self._waiting:
                    self._delivering = False
                    return
                name, data = self._waiting.popleft()
            try:
                self._deliver(name, data)
            except BaseException:
                # The thread is interrupted: whoever publishes next goes on.
                with self._lock:
                    self._delivering = False
                raise

    def subscribe(self, name: bytes) -> None:
        """
        Nobody has to be told.
        """

    def unsubscribe(self, name: bytes) -> None:
        """
        Nobody has to be told.
        """

    def sync(self) -> Confirmation:
        synced = Confirmation()
        synced.settle()
        return synced

"""
A worker's way to the workers of its own machine and to those of others.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from zope.interface import implementer

from stickyd.confirmation import Confirmation
from stickyd.messaging.frame import Kind, encode
from stickyd.messaging.interfaces import IBusLine

if TYPE_CHECKING:
    from stickyd.messaging.redis_way import RedisWay
    from stickyd.messaging.worker_line import WorkerLine


@implementer(IBusLine)
class SharedLine:
    """
    Says everything to the primary, and publishes by way of Redis too.
    """

    def __init__(self, line: WorkerLine, way: RedisWay) -> None:
        self._line = line
        self._way = way

    def publish(self, name: bytes, data: bytes) -> None:
        self._line.publish(name, data)
        self._way.publish(encode(Kind.PUBLISH, name, data))

    def subscribe(self, name: bytes) -> None:
        self._line.subscribe(name)

    def unsubscribe(self, name: bytes) -> None:
        self._line.unsubscribe(name)

    def sync(self) -> Confirmation:
        together = Confirmation()
        # The last of them: other machines are heard, or cannot be for now.
        parts = self._line.sync(), self._way.sync(), self._way.ready()
        lock = threading.Lock()
        left = len(parts)
        first: Exception | None = None

        def settled(problem: Exception | None) -> None:
            nonlocal left, first
            with lock:
                left -= 1
                first = first or problem
                over = left == 0
            if over:
                together.settle(first)

        for part in parts:
            part.when_settled(settled)
        return together

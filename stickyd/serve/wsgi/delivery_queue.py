"""
The way back from the threads into the loop.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable


class Deliverable(Protocol):
    """
    What has something for the loop.
    """

    def deliver(self) -> object:
        """
        Called in the loop, once for each time that it was put.
        """


class DeliveryQueue:
    """
    Collects what is for the loop, and wakes it once for all of it.
    """

    _log = Logger()

    def __init__(self, call_from_thread: Callable[[Callable[[], object]], object]) -> None:
        """
        :param call_from_thread: has something called in the loop.
        """
        self._call_from_thread = call_from_thread
        self._waiting: deque[Deliverable] = deque()
        self._awake = False

    def put(self, item: Deliverable) -> None:
        """
        Have something delivered when the loop is woken; from any thread.
        """
        self._waiting.append(item)

    def wake(self) -> None:
        """
        Have the loop woken if there is something for it; from any thread.
        """
        if self._waiting and not self._awake:
            self._awake = True
            self._call_from_thread(self._deliver_woken)

    def _deliver_woken(self) -> None:
        # First of all: what is put from here on wakes the loop again.
        self._awake = False
        self.deliver()

    def deliver(self) -> None:
        """
        Deliver what there is; in the loop.
        """
        waiting = self._waiting
        for _ in range(len(waiting)):
            try:
                waiting.popleft().deliver()
            except Exception:  # noqa: BLE001 - one response's error is not the others'
                self._log.failure(
                    "A response could not be delivered.", event="internal.response-lost"
                )

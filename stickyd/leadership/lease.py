"""
How long a leader may believe that it leads, without its loop.

A worker whose loop is stuck is going to be killed for it (``--hang-timeout``), and then another one
leads.  Before that it has given up by itself: :meth:`Lease.holds` compares with a monotonic clock,
and a thread, which needs no loop, tells when the time is over.  So a thread of the application that
goes on while the loop is stuck, and one that is woken with the whole process after a suspension,
learn that they do not lead before anybody else does.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Lease:
    """
    Runs out unless the loop renews it.
    """

    def __init__(self, expired: Callable[[], object]) -> None:
        """
        :param expired: called in a thread when it has run out.
        """
        self._expired = expired
        self._until = 0.0
        self._changed = threading.Condition()
        self._watches = False

    @property
    def holds(self) -> bool:
        """
        Whether it has not run out yet; from any thread.
        """
        return time.monotonic() < self._until

    def renew(self, seconds: float) -> None:
        """
        Let it hold for so long from now on.
        """
        with self._changed:
            asleep = not self._until
            self._until = time.monotonic() + seconds
            if not self._watches:
                self._watches = True
                threading.Thread(target=self._watch, name="leader lease", daemon=True).start()
            elif asleep:
                self._changed.notify()

    def end(self) -> None:
        """
        Have it over; nobody is told.
        """
        with self._changed:
            self._until = 0.0

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._until)
                left = self._until - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                self._until = 0.0
            self._expired()

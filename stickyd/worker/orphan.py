"""
No orphan ever stays, whatever the application does when the primary dies; and what a stuck
worker is doing can be asked.

The reactor learns of the primary's death by the control channel's end of file, and
finishes in good order.  A worker whose reactor is stuck would not: so a thread, which
needs no reactor, waits for the same event.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.worker.stacks import StacksDoor

#: Seconds that a worker has to end what must be done once: the workers of a new primary lead no
#: sooner than after twice that (:data:`stickyd.fleet.election.SETTLE_SECONDS`).
LEADER_SECONDS = 1.0

#: Seconds that a worker gets beyond the deadline it knows of.
GRACE_SECONDS = 2.0


class OrphanWatch:
    """
    Kills this process if it has not exited in time after its primary died; and has its stacks
    told meanwhile.

    :ivar patience: seconds that the orderly way may take; 0.0 before the worker serves,
        when there is nothing to finish.
    """

    def __init__(
        self,
        descriptor: int,
        stacks: StacksDoor,
        give_up_within: Callable[[float], bool] = lambda seconds: True,
    ) -> None:
        """
        :param descriptor: a duplicate of the control channel, which stays open for good.
        :param stacks: tells what the threads are doing.
        :param give_up_within: ends what must be done once; returns whether that is over in so
            many seconds.
        """
        self.patience = 0.0
        self._stacks = stacks
        self._descriptor = descriptor
        self._give_up_within = give_up_within

    def allow(self, seconds: float) -> None:
        """
        Let the orderly way take so long.
        """
        self.patience = seconds

    def start(self) -> None:
        """
        Watch from now on, without keeping the process alive.
        """
        threading.Thread(target=self._watch, name="orphan watch", daemon=True).start()

    def _watch(self) -> None:
        hangup = select.poll()
        # No events asked for: POLLHUP is always reported (poll(2)), data never wakes us.
        hangup.register(self._descriptor, 0)
        asked = self._stacks.open()
        if asked is not None:
            hangup.register(asked, select.POLLIN)
        while all(descriptor == asked for descriptor, _ in hangup.poll()):
            self._stacks.answer()
        if self._give_up_within(LEADER_SECONDS):
            time.sleep(self.patience + GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

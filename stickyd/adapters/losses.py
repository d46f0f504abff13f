"""
What found no room in its channel.
"""

from __future__ import annotations

import logging
import time

from stickyd.net.throttle import Throttle

_log = logging.getLogger("stickyd.channels")

#: Seconds between two lines about one group or channel.
QUIET_SECONDS = 10.0


class Losses:
    """
    Counts, and tells of, messages that channels have missed.

    :ivar lost: how many, in all.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._throttle = Throttle(time.monotonic, QUIET_SECONDS)

    def add(self, what: str, lost: int, channels: int) -> None:
        """
        Take note of a message.

        :param what: whose it was: a group or a channel.
        :param lost: how many of its channels have missed it.
        :param channels: how many it has here.
        """
        self.lost += lost
        if self._throttle.due(what):
            _log.info("%d of %d channels over capacity in %s", lost, channels, what)

"""
Noticing which clients make most of a worker's requests, without counting each.

A proxy that keeps its connections makes few, and many requests on them; so it is not seen where
connections are counted.
"""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from stickyd.affinity.client_identity import BY_KEY
from stickyd.figures.page import BEGUN

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.affinity.key_counts import Counted
    from stickyd.interfaces import IHost

#: Heartbeats from one look to the next, which takes time for each open connection.
LOOK_BEATS: Final = 10

#: How many keys are told.
_TOLD = 3


class AskingKeys:
    """
    Shares out the requests of a while among the keys of the connections that are open at its end.
    """

    def __init__(
        self, now: Callable[[], float], host: IHost, page: memoryview, heartbeat: float
    ) -> None:
        """
        :param now: gives the time, in seconds.
        :param page: where the worker counts its requests.
        :param heartbeat: seconds from one heartbeat to the next.
        """
        self._interval = LOOK_BEATS * heartbeat
        self._now = now
        self._host = host
        self._page = page
        self._next = now() + self._interval
        self._begun = page[BEGUN]

    def take(self) -> tuple[int, Counted]:
        """
        Look, if it is time to.

        :return: how many requests there were since the last time, and of the keys that had the
            most: key, address, about how many requests; 0 and nothing if it is not time.
        """
        if self._now() < self._next:
            return 0, ()
        self._next = self._now() + self._interval
        begun = self._page[BEGUN]
        requests, self._begun = begun - self._begun, begun
        if not requests:
            return 0, ()
        counts: Counter[bytes] = Counter()
        hosts: dict[bytes, str] = {}
        for handoff in (connection.handoff for connection in self._host.served()):
            # Of one that somebody named it is not the key that decides.
            if handoff is not None and handoff.key and handoff.slot == BY_KEY:
                counts[handoff.key] += 1
                hosts[handoff.key] = handoff.host
        everybody = self._host.connections
        return requests, tuple(
            (key, hosts[key], requests * count // everybody)
            for key, count in nlargest(_TOLD, counts.items(), key=lambda item: item[1])
            if count <= everybody
        )

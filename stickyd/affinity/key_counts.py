"""
Counting the connections that workers accept themselves, for the primary's eyes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

MOST_KEYS: Final = 256
"""
How many keys are counted between two reports.  One that more than half of the connections
have is surely among the first.
"""

_TOLD = 3


@dataclass(frozen=True)
class Report:
    """
    What came since the report before.

    :ivar total: connections.
    :ivar busiest: of the keys that had the most: key, somebody's address, connections.
    """

    total: int
    busiest: tuple[tuple[bytes, str, int], ...]

    def to_json(self) -> str:
        """
        The report as text, for the control channel.
        """
        return json.dumps([self.total, [(k.hex(), host, n) for k, host, n in self.busiest]])

    @classmethod
    def from_json(cls, text: str) -> Report:
        """
        The opposite of :meth:`to_json`.
        """
        total, busiest = json.loads(text)
        return cls(total, tuple((bytes.fromhex(key), host, n) for key, host, n in busiest))


class KeyCounts:
    """
    Counts connections by key; bounded.
    """

    def __init__(self) -> None:
        self._total = 0
        self._counts: dict[bytes, int] = {}
        self._hosts: dict[bytes, str] = {}

    def add(self, key: bytes, host: str) -> None:
        """
        Count a connection.
        """
        self._total += 1
        counts = self._counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < MOST_KEYS:
            counts[key] = 1
            self._hosts[key] = host

    def take(self) -> Report | None:
        """
        Begin anew.

        :return: what was counted; :obj:`None` if nothing was.
        """
        if not self._total:
            return None
        most = nlargest(_TOLD, self._counts.items(), key=lambda item: item[1])
        report = Report(self._total, tuple((key, self._hosts[key], n) for key, n in most))
        self._total = 0
        self._counts.clear()
        self._hosts.clear()
        return report

"""
Counting the connections that workers accept themselves, for the primary to see.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, Final

MOST_KEYS: Final = 256
"""
How many keys are counted between two reports.  One that more than half of the connections
have is surely among the first.
"""

_TOLD = 3

#: What a report may say, which comes from another process.
_MOST_COUNTED = 2**53
_LONGEST_KEY_BYTES = 512
_LONGEST_HOST = 64


Counted = tuple[tuple[bytes, str, int], ...]


@dataclass(frozen=True)
class Report:
    """
    What came since the report before.

    :ivar total: connections.
    :ivar busiest: of the keys that had the most: key, somebody's address, connections.
    :ivar requests: requests; 0 where they were not looked at.
    :ivar asking: of the keys whose connections had the most requests: key, address, requests.
    """

    total: int
    busiest: Counted
    requests: int = 0
    asking: Counted = ()

    def to_json(self) -> str:
        """
        The report as text, for the control channel.
        """
        plain: list[object] = [self.total, _plain(self.busiest)]
        if self.requests:
            plain += [self.requests, _plain(self.asking)]
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """
        The opposite of :meth:`to_json`, of a text that may be anything.

        :raises ValueError: if it is no report; the message says what is wrong.
        """
        try:
            total, busiest, requests, asking = [*json.loads(text), 0, ()][:4]
            counted, asked = _read(busiest), _read(asking)
        except (TypeError, ValueError, RecursionError):
            raise ValueError("no total and list of keys, hosts and counts") from None
        if max(len(counted), len(asked)) > _TOLD:
            raise ValueError(f"{max(len(counted), len(asked))} keys, more than {_TOLD}")
        numbers = (total, requests, *(n for _, _, n in (*counted, *asked)))
        if not all(type(n) is int and 0 <= n <= _MOST_COUNTED for n in numbers):
            raise ValueError(f"a count that is no number from 0 to {_MOST_COUNTED}")
        for key, host, _ in (*counted, *asked):
            if (
                len(key) > _LONGEST_KEY_BYTES
                or not isinstance(host, str)
                or len(host) > _LONGEST_HOST
            ):
                raise ValueError("a key or a host that is too long")
        return cls(total, counted, requests, asked)


def _plain(counted: Counted) -> list[tuple[str, str, int]]:
    return [(key.hex(), host, n) for key, host, n in counted]


def _read(plain: list[list[Any]]) -> tuple[tuple[bytes, Any, Any], ...]:
    return tuple((bytes.fromhex(key), host, n) for key, host, n in plain)


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

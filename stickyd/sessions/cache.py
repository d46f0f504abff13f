"""
The sessions that a worker keeps although nobody uses them now, so that their clients' next
requests ask no store.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.sessions.live import LiveSession

OVERHEAD_BYTES = 2_048
"""
What one counts beside its data: the objects that it consists of (measured: 1.3 to 1.9 KiB).
"""


class CacheMode(enum.Enum):
    """
    What is kept is used for (``--session-cache``).
    """

    TRUST = "trust"
    """It is used as it is where it cannot have changed."""

    VERIFY = "verify"
    """Its version is compared each time."""

    OFF = "off"
    """Nothing: each request reads its session."""


@dataclass(frozen=True)
class CachePolicy:
    """
    What is kept, and for what.

    :ivar max_count: how many sessions at most.
    :ivar max_bytes: how large they are together at most.
    :ivar grace_seconds: how old one may be that is used while the store is away.
    """

    mode: CacheMode = CacheMode.TRUST
    max_count: int = 100_000
    max_bytes: int = 256 * 1024 * 1024
    grace_seconds: float = 10.0


class SessionCache:
    """
    At most so many sessions, and so large; those unused for the longest time make room.

    :ivar size_bytes: what they count.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, tuple[LiveSession, int]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, name: bytes, live: LiveSession) -> None:
        """
        Keep a session, as it is used now.
        """
        kept = self._kept.get(name)
        size = OVERHEAD_BYTES + live.data.size_bytes
        if kept is not None and kept[0] is live and kept[1] == size:
            self._kept.move_to_end(name)
            return
        self.drop(name)
        self._kept[name] = (live, size)
        self.size_bytes += size
        while len(self._kept) > self._max_count or self.size_bytes > self._max_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self.size_bytes -= freed

    def drop(self, name: bytes) -> None:
        """
        Keep a session no longer, if it was kept.
        """
        kept = self._kept.pop(name, None)
        if kept is not None:
            self.size_bytes -= kept[1]

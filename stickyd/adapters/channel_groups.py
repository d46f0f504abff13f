"""
Which channels are in which groups.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Members:
    """
    The members of groups, each with the time when it came.

    The lock is held while whoever listens is told, so that it hears of a group's first and last
    member in their order.
    """

    def __init__(
        self,
        expiry_seconds: float,
        first: Callable[[str], object] = lambda group: None,
        last: Callable[[str], object] = lambda group: None,
    ) -> None:
        """
        :param expiry_seconds: how long a channel is in a group that it does not leave.
        :param first: told of a group that has a member now.
        :param last: told of a group that has none any more.
        """
        self._expiry_seconds = expiry_seconds
        self._first = first
        self._last = last
        self._groups: dict[str, dict[str, float]] = {}
        self._lock = threading.RLock()

    def add(self, group: str, channel: str) -> None:
        """
        Add a channel to a group, or have it stay there longer.
        """
        with self._lock:
            members = self._groups.get(group)
            if members is None:
                members = self._groups[group] = {}
                self._first(group)
            members.pop(channel, None)
            members[channel] = time.monotonic()

    def discard(self, group: str, channel: str) -> None:
        """
        Take a channel out of a group, if it is in there.
        """
        with self._lock:
            members = self._groups.get(group)
            if members is not None and members.pop(channel, None) is not None and not members:
                del self._groups[group]
                self._last(group)

    def of(self, group: str) -> list[str]:
        """
        The members of a group.
        """
        with self._lock:
            members = self._groups.get(group)
            if members is None:
                return []
            # They are in the order in which they came.
            limit = time.monotonic() - self._expiry_seconds
            if next(iter(members.values())) > limit:
                return list(members)
            for channel, came in list(members.items()):
                if came <= limit:
                    self.discard(group, channel)
            return list(members)

    def all(self) -> list[tuple[str, str]]:
        """
        Every group with each of its members.
        """
        with self._lock:
            return [(group, name) for group, members in self._groups.items() for name in members]

    def clear(self) -> None:
        """
        Forget all.
        """
        with self._lock:
            for group, channel in self.all():
                self.discard(group, channel)

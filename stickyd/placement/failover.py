"""
Placement while some slots cannot be used: failed, or drained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from stickyd.interfaces import IPlacement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


@implementer(IPlacement)
class Failover:
    """
    A placement over all slots that never chooses one that is not available.

    Keys of available slots stay where they are; the keys of each other one are spread over
    the available ones, the same key always to the same slot.  Primary and workers
    compute it alike from the same few numbers.

    :ivar slots: how many slots there are, available or not.
    :ivar available: the indices of those that are available, ascending; at least one.
    :ivar usual: gives the slot of a key when all of them are available.
    """

    def __init__(
        self, make_placement: Callable[[int], IPlacement], slots: int, available: Collection[int]
    ) -> None:
        self.slots = slots
        usable = frozenset(available)
        self.available = sorted(usable)
        self.usual = make_placement(slots).slot_of
        self._second = make_placement(len(self.available)).slot_of
        self._is_available = usable.__contains__
        if len(usable) == slots:
            # The usual case: spare each connection the look.
            self.slot_of = self.usual  # type: ignore[method-assign]

    def slot_of(self, key: bytes) -> int:
        """
        Choose among the available slots; see :class:`IPlacement`.
        """
        slot = self.usual(key)
        if self._is_available(slot):
            return slot
        # By a key of its own: among fewer slots, rendezvous would give all of this slot's
        # clients the same index again, and so one neighbour all of its load.
        # The prefix may never change: each other process computes with it too.
        return self.available[self._second(b"stand-in:" + key)]

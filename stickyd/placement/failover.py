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
    A placement over all slots that never chooses one which does not stand.

    Keys of standing slots stay where they are; the keys of each other one are spread over
    those that stand, the same key always to the same stand-in.  Primary and workers
    compute it alike from the same few numbers.

    :ivar slots: how many slots there are, standing or not.
    :ivar standing: the indices of those that stand, ascending; at least one.
    :ivar usual: gives the slot of a key when all of them stand.
    """

    def __init__(
        self, make_placement: Callable[[int], IPlacement], slots: int, standing: Collection[int]
    ) -> None:
        self.slots = slots
        self.standing = sorted(standing)
        self.usual = make_placement(slots).slot_of
        self._second = make_placement(len(self.standing)).slot_of
        self._stands = frozenset(standing)
        if len(self._stands) == slots:
            # The usual case: spare each connection the look.
            self.slot_of = self.usual  # type: ignore[method-assign]

    def slot_of(self, key: bytes) -> int:
        """
        Choose among the slots that stand; see :class:`IPlacement`.
        """
        slot = self.usual(key)
        if slot in self._stands:
            return slot
        # By a key of its own: among fewer slots, rendezvous would give all of this slot's
        # clients the same index again, and so one neighbour all of its load.
        return self.standing[self._second(b"stand-in:" + key)]

"""
What a worker knows of the slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.affinity.client_identity import home_of
from stickyd.placement.choose import LEAST, placement_in_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class SlotMap:
    """
    How clients are placed, as far as a worker can know it.

    :ivar slot: the worker's own; -1 for a spare.
    :ivar slots: how many there are; 0 until the primary has told.
    :ivar changes: how often that has changed.
    :ivar generation: the worker's own; 0 where no worker keeps its clients.
    :ivar keyed: whether some clients are kept by other workers that are known by their keys, so
        that only the primary can tell whose a key is.
    :ivar knows_keys: whether a key alone says where its client belongs; with ``least``
        only the primary knows.
    """

    def __init__(self, slot: int, placement: str) -> None:
        """
        :param placement: the setting.
        """
        self.slot = slot
        self.slots = self.changes = 0
        self._available: Sequence[int] = ()
        self.generation = 0
        self.keyed = False
        self._keepers: frozenset[tuple[int, int]] = frozenset()
        self.knows_keys = placement != LEAST
        self._placement = placement
        self._usable: frozenset[int] = frozenset()
        self.slot_of: Callable[[bytes], int] = lambda key: self.slot

    def update(self, slots: int, available: Sequence[int]) -> None:
        """
        Called when the primary tells how clients are placed from now on.

        :param available: of all slots, the available ones; if none is, nothing changes, as
            there is no better place for anybody.
        """
        if available:
            self.slots, self._available = slots, available
            self.changes += 1
            self._usable = frozenset(available)
            self.slot_of = self.placement(slots, available)

    def placement(self, slots: int, available: Sequence[int]) -> Callable[[bytes], int]:
        """
        The function from key to slot that there would be with these slots.
        """
        return placement_in_worker(self._placement, slots, available, self.slot).slot_of

    def note_keepers(self, keepers: Sequence[int], keyed: bool) -> None:
        """
        Called when the primary tells who keeps clients.

        :param keepers: slot and generation of each such worker, in turns.
        """
        self._keepers = frozenset(zip(keepers[::2], keepers[1::2], strict=True))
        self.keyed = keyed
        self.changes += 1

    def occupy_as(self, generation: int) -> None:
        """
        Be of that generation in the slot; 0 where no worker keeps its clients.
        """
        self.generation = generation

    def look_again(self) -> None:
        """
        Have nothing count that was found out about requests until now.
        """
        self.changes += 1

    def keeps(self, slot: int, generation: int) -> bool:
        """
        See :class:`stickyd.affinity.resolve.Keeping`.
        """
        return (slot, generation) in self._keepers

    def keeper_of_id(self, identifier: bytes) -> tuple[int, int] | None:
        """
        Only the primary knows.
        """
        return None

    def occupy(self, slot: int) -> None:
        """
        Called when a spare is given its slot.
        """
        self.slot = slot
        self.update(self.slots, self._available)

    def is_available(self, slot: int) -> bool:
        """
        Whether clients may be placed on a slot.
        """
        return slot in self._usable

    def home_of(self, identity: bytes) -> int:
        """
        The slot of a client; see :func:`stickyd.affinity.client_identity.home_of`.
        """
        return home_of(identity, self.slot_of, self.is_available)

"""
What a worker knows of the slots.
"""

from __future__ import annotations

from stickyd.affinity.client_identity import slot_identity
from stickyd.placement.failover import Failover
from stickyd.placement.rendezvous import Rendezvous
from stickyd.worker.slot_map import SlotMap

KEYS = [b"key%d" % number for number in range(50)]


def test_keys_are_placed_as_the_primary_does() -> None:
    """
    With the same few numbers worker and primary find the same slot.
    """
    places = SlotMap(1, "rendezvous")
    places.update(4, [0, 1, 3])
    primary = Failover(Rendezvous, 4, [0, 1, 3])
    assert [places.slot_of(key) for key in KEYS] == [primary.slot_of(key) for key in KEYS]
    assert [places.is_available(slot) for slot in range(5)] == [True, True, False, True, False]
    assert places.home_of(slot_identity(3, b"k")) == 3
    assert places.home_of(slot_identity(2, b"k")) == primary.slot_of(b"k")


def test_nothing_is_known_at_first() -> None:
    """
    Until it is told, everything is the worker's own; and when no slot is available, nothing
    changes, as there is no better place.
    """
    places = SlotMap(2, "rendezvous")
    assert places.slots == 0
    assert {places.slot_of(key) for key in KEYS} == {2}
    places.update(3, [0, 1, 2])
    before = [places.slot_of(key) for key in KEYS]
    places.update(3, [])
    assert [places.slot_of(key) for key in KEYS] == before
    assert places.slots == 3


def test_spare_learns_its_slot() -> None:
    """
    With ``least`` all that comes to a slot belongs there, also once a spare has taken it.
    """
    places = SlotMap(-1, "least")
    places.update(3, [0, 1, 2])
    places.occupy(2)
    assert {places.slot_of(key) for key in KEYS} == {2}
    assert not places.knows_keys
    assert SlotMap(0, "modulo").knows_keys

"""
Identities: where clients stay, and where they go.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.client_identity import home_of, slot_identity
from stickyd.handoff.frame import BY_KEY, Handoff
from stickyd.placement.rendezvous import Rendezvous

SLOT_OF = Rendezvous(8).slot_of


@given(slot=st.integers(0, 255), key=st.binary(max_size=40))
def test_client_stays_while_its_slot_is_available(slot: int, key: bytes) -> None:
    """
    Whatever its key says, a client belongs to the slot that its identity names.
    """
    assert home_of(slot_identity(slot, key), SLOT_OF, lambda each: each == slot) == slot


@given(slot=st.integers(0, 255), key=st.binary(min_size=1, max_size=40))
def test_key_counts_when_the_slot_is_gone(slot: int, key: bytes) -> None:
    """
    When it is not available any more, the client goes where its key belongs.
    """
    assert home_of(slot_identity(slot, key), SLOT_OF, lambda _: False) == SLOT_OF(key)


@given(slot=st.integers(0, 255))
def test_clients_without_a_key_leave_together(slot: int) -> None:
    """
    Those of a gone slot who have no key go where the identity itself belongs.
    """
    identity = slot_identity(slot, b"")
    assert home_of(identity, SLOT_OF, lambda _: False) == SLOT_OF(identity)


@given(key=st.binary(min_size=1, max_size=40).filter(lambda key: not key.startswith(b"\0slot")))
def test_other_identities_are_keys(key: bytes) -> None:
    """
    An identity that pins nobody is a key.
    """
    assert home_of(key, SLOT_OF, lambda _: True) == SLOT_OF(key)


@given(rest=st.binary(max_size=20))
def test_no_identity_is_an_error(rest: bytes) -> None:
    """
    What a client makes of the mark has some slot.
    """
    assert home_of(b"\0slot " + rest, SLOT_OF, lambda slot: slot < 8) in range(8)


def test_identity_of_a_connection() -> None:
    """
    A connection that was placed by its key has the key as identity, any other its slot too.
    """
    assert Handoff(0, "h", 1, b"key", slot=BY_KEY).identity == b"key"
    assert Handoff(0, "h", 1, b"key", slot=3).identity == slot_identity(3, b"key")

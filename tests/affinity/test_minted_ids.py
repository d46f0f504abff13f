"""
Tests of ids that route themselves.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.minted_ids import LONGEST_ID, MintedIds, is_prefix
from stickyd.affinity.token import Signer

OLD = b"an old secret, long enough"
NEW = b"a new secret, long enough"
IDS = MintedIds([NEW])
SIGNER = Signer([NEW], node="web1")
NODES = st.from_regex(r"[a-z0-9]{0,12}", fullmatch=True)
PREFIXES = st.from_regex(r"[A-Za-z0-9._~-]{0,12}", fullmatch=True)


@given(PREFIXES, st.integers(0, 65535), NODES)
def test_round_trip(prefix: str, slot: int, node: str) -> None:
    """
    An id begins with its prefix, names its place in the clear, and is unreserved in a URL.
    """
    assert is_prefix(prefix)
    value = IDS.mint(prefix, slot, node)
    assert value.startswith(prefix)
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", value)
    assert len(value) <= LONGEST_ID
    assert f".{slot}-{node}." in value if node else f".{slot}." in value
    assert IDS.place_of(value.encode()) == (slot, node)
    assert MintedIds([NEW]).place_of(value.encode()) == (slot, node)


def test_longest() -> None:
    """
    There is room for more in the place: six characters.
    """
    assert len(IDS.mint("p" * 12, 255, "n" * 12)) == LONGEST_ID - 6
    assert len({IDS.mint("", 1, "") for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["a" * 13, "a b", "a/b", "caf\u00e9", "a%", "a\n", "a;", "a,"])
def test_no_prefix(text: str) -> None:
    """
    What a URL, a header or a cookie could not carry is none.
    """
    assert not is_prefix(text)


@pytest.mark.parametrize(
    "value", [IDS.mint("room.1-", 3, "web1"), IDS.mint("", 0, "")], ids=["whole", "short"]
)
def test_any_change_is_noticed(value: str) -> None:
    """
    An id with a character changed, added or taken away is none of ours.
    """
    good = value.encode()
    for position in range(len(good)):
        kept = good[position : position + 1]
        for byte in (b"1", b"x", b"", b"\n", b".", b"-", kept + b"!", kept + kept):
            changed = good[:position] + byte + good[position + 1 :]
            if changed != good:
                assert IDS.place_of(changed) is None
    for changed in (good + b"A", good + b"\n", b" " + good, good * 2, good.swapcase()):
        assert IDS.place_of(changed) is None


@given(
    st.one_of(
        st.binary(), st.integers(0, 99).map(lambda slot: b"r" * 12 + b".%d." % slot + b"A" * 16)
    )
)
def test_any_bytes_are_none_of_ours(value: bytes) -> None:
    """
    What we did not sign names no place, and is never an error.
    """
    assert IDS.place_of(value) is None


def test_secrets_are_replaced_without_a_break() -> None:
    """
    The first secret signs, all verify, and a dropped one is forgotten.
    """
    before, between, after = Signer([OLD]), Signer([NEW, OLD]), Signer([NEW])
    old = MintedIds([OLD]).mint("", 1, "").encode()
    assert (before.slot_of_minted(old), between.slot_of_minted(old)) == (1, 1)
    assert after.slot_of_minted(old) is None
    after.verify_also([OLD])
    assert after.slot_of_minted(old) == 1


def test_other_tokens_are_apart() -> None:
    """
    A cookie's value and a stamped id are no minted ids, nor the other way round.
    """
    minted = IDS.mint("", 3, "").encode()
    assert SIGNER.slot_of(minted) is None
    assert SIGNER.unstamp(minted) is None
    assert IDS.place_of(SIGNER.mint(3).encode()) is None
    assert IDS.place_of(SIGNER.stamp(b"i" * 12, 3)) is None


@pytest.mark.parametrize(("node", "slot"), [("web1", 2), ("", 2), ("web2", None)])
def test_ids_of_another_machine(node: str, slot: int | None) -> None:
    """
    They are none of ours; those that name no machine are everybody's.
    """
    assert SIGNER.slot_of_minted(IDS.mint("", 2, node).encode()) == slot

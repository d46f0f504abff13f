"""
Rendezvous placement: what it computes, how evenly, and how little a resize moves.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from math import sqrt
from random import Random
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from stickyd.errors import SettingError
from stickyd.interfaces import IPlacement
from stickyd.placement.rendezvous import Rendezvous, bidding, fold, slot_constant

KEYS = 100_000

# Written down from the first release.  A change here moves the clients of every running
# installation: add to it, never alter it.
GOLDEN_SIZES = (1, 2, 3, 8, 64, 256)
GOLDEN: dict[bytes, tuple[int, list[int]]] = {
    bytes.fromhex("7f000001"): (0xABACF0D7, [0, 0, 0, 4, 45, 166]),
    bytes.fromhex("0a000001"): (0xDC023979, [0, 0, 0, 3, 25, 139]),
    bytes.fromhex("cb007107"): (0x73980C69, [0, 0, 0, 6, 20, 124]),
    bytes.fromhex("ffffffff"): (0xDBB23942, [0, 0, 2, 7, 43, 43]),
    bytes.fromhex("00000000"): (0xD97E5ED1, [0, 1, 1, 3, 46, 196]),
    bytes.fromhex("20010db8000000000000000000000000"): (0x354360B1, [0, 1, 1, 3, 60, 255]),
    bytes.fromhex("20010db8000100020000000000000000"): (0x7A0AE4D6, [0, 0, 2, 2, 17, 17]),
    bytes.fromhex("00000000000000000000000000000001"): (0x72C1793A, [0, 1, 1, 1, 37, 133]),
    b"a": (0xC235EC7C, [0, 0, 0, 7, 39, 39]),
    b"a\0": (0xCB6AB1F8, [0, 0, 0, 0, 36, 96]),
    b"abcde": (0xBEE30305, [0, 1, 1, 1, 34, 186]),
    b"5f1d7a84-session-of-alice": (0x20B98661, [0, 0, 0, 5, 49, 202]),
}


def reference_slot(key: bytes, slots: int) -> int:
    """
    The definition in the module's docstring, one word and one slot at a time.
    """

    def product(word: int, factor: int) -> int:
        return (word * factor) % 2**32

    def scramble(word: int) -> int:
        word = product(word, 0x7FEB352D)
        word = product(word ^ (word >> 15), 0x846CA68B)
        return word ^ (word >> 16)

    word = len(key)
    while key:
        word = scramble(word ^ int.from_bytes(key[:4].ljust(4, b"\0"), "big"))
        key = key[4:]
    best, winner = -1, -1
    for slot in range(slots):
        own = ((slot + 1) * 0x9E3779B9) % 2**32
        bid = product(word ^ scramble(own ^ (own >> 16)), 0x7FEB352D)
        bid = product(bid ^ (bid >> 15), 0x846CA68B)
        if bid > best:
            best, winner = bid, slot
    return winner


def sequential_ipv4(number: int, _random: Random) -> bytes:
    """
    The addresses from 10.0.0.0 on.
    """
    return pack(">I", 0x0A000000 + number)


def random_ipv4(_number: int, random: Random) -> bytes:
    """
    Any address at all.
    """
    return random.randbytes(4)


def sequential_ipv6_networks(number: int, _random: Random) -> bytes:
    """
    The /64 networks of one provider's block, as the default prefix leaves them.
    """
    return pack(">IIQ", 0x20010DB8, number, 0)


def random_ipv6_networks(_number: int, random: Random) -> bytes:
    """
    Networks of 2000::/3, as the default prefix leaves them.
    """
    return pack(">QQ", 1 << 61 | random.getrandbits(61), 0)


def whole_ipv6(number: int, _random: Random) -> bytes:
    """
    Hosts of one network, counted up: a prefix of 128.
    """
    return pack(">QQ", 0x20010DB8_00010002, number)


def shares(keys: list[bytes], most: int) -> dict[int, list[int]]:
    """
    Count each slot's keys for every number of slots up to ``most``.

    The winner among the first N slots is the last record of the first N bids, so one
    pass over the bids of ``most`` slots serves every N.
    """
    bids_of = bidding(most)
    gained = [[0] * most for _ in range(most + 2)]
    for key in keys:
        bids = bids_of(fold(key))
        high = 0
        while True:
            bar = bids[high]
            higher = next((i for i in range(high + 1, most) if bids[i] > bar), most)
            gained[high + 1][high] += 1
            gained[higher + 1][high] -= 1
            if higher == most:
                break
            high = higher
    totals = accumulate(gained, lambda sums, row: [a + b for a, b in zip(sums, row, strict=True)])
    return {slots: row[:slots] for slots, row in enumerate(totals) if 1 <= slots <= most}


def critical_chi_square(freedom: int) -> float:
    """
    The value that chi-square passes by chance once in 31,600 times (z = 4).

    By Wilson and Hilferty's approximation, which is within 1 % there from 2 degrees on;
    at 1 degree it is 15.6 where 15.9 is exact.
    """
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 4 * sqrt(spread)) ** 3)


@pytest.mark.parametrize(
    "population",
    [
        sequential_ipv4,
        random_ipv4,
        sequential_ipv6_networks,
        random_ipv6_networks,
        whole_ipv6,
    ],
)
def test_addresses_spread_evenly(population: Callable[[int, Random], bytes]) -> None:
    """
    100,000 addresses fill 2 to 64 slots as evenly as dice would.
    """
    random = Random(20_260_714)
    keys = [population(number, random) for number in range(KEYS)]
    for slots, counts in shares(keys, 64).items():
        if slots == 1:
            continue
        assert sum(counts) == KEYS
        expected = KEYS / slots
        chi_square = sum((count - expected) ** 2 for count in counts) / expected
        assert chi_square < critical_chi_square(slots - 1), (slots, chi_square)


def test_shares_counts_what_slot_of_answers() -> None:
    """
    The one-pass count that the evenness test stands on is the count of slot_of itself.
    """
    keys = [sequential_ipv4(number, Random(0)) for number in range(500)]
    for slots, counts in shares(keys, 64).items():
        placement = Rendezvous(slots)
        answers = [placement.slot_of(key) for key in keys]
        assert counts == [answers.count(slot) for slot in range(slots)]


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 16, 63, 64, 255])
def test_one_slot_more_moves_its_share_and_no_other_key(slots: int) -> None:
    """
    From N to N+1 slots, 1/(N+1) of the keys move (within 4 deviations), all to slot N.
    """
    before, after = Rendezvous(slots), Rendezvous(slots + 1)
    keys = [sequential_ipv4(number, Random(0)) for number in range(10_000)]
    moved = [key for key in keys if before.slot_of(key) != after.slot_of(key)]
    assert {after.slot_of(key) for key in moved} == {slots}
    expected = len(keys) / (slots + 1)
    assert abs(len(moved) - expected) < 4 * sqrt(expected)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=70), st.integers(1, 256))
def test_slot_of_is_the_documented_function(key: bytes, slots: int) -> None:
    """
    Bidding in lanes of a wide integer gives what the definition gives word by word.
    """
    assert Rendezvous(slots).slot_of(key) == reference_slot(key, slots)


@pytest.mark.parametrize("key", GOLDEN)
def test_golden_vectors(key: bytes) -> None:
    """
    A released key never moves: not by a new version, not on another machine.
    """
    folded, winners = GOLDEN[key]
    assert fold(key) == folded
    assert [Rendezvous(slots).slot_of(key) for slots in GOLDEN_SIZES] == winners


def test_slot_constants_are_fixed_and_distinct() -> None:
    """
    A slot's constant hangs on its index alone, and no two slots share one.
    """
    golden = [0x01FCE552, 0x04F8D29E, 0xE9C234C1, 0x63CBE55C]
    assert [slot_constant(slot) for slot in (0, 1, 63, 255)] == golden
    assert len({slot_constant(slot) for slot in range(256)}) == 256


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_two_slots_bid_the_same(folded: int) -> None:
    """
    There is never a tie, so nothing hangs on how one would be broken.
    """
    assert len(set(bidding(256)(folded))) == 256


def test_length_and_padding_count() -> None:
    """
    Keys that differ only in trailing zero bytes are different keys.
    """
    assert len({fold(b"a" + bytes(zeros)) for zeros in range(12)}) == 12


@pytest.mark.parametrize("slots", [-1, 0, 257])
def test_refuses_a_number_of_slots_it_cannot_do(slots: int) -> None:
    """
    Outside 1 to 256 slots the operator is told the range.
    """
    with pytest.raises(SettingError, match=f"{slots} slots.*1 to 256"):
        Rendezvous(slots)


def test_what_it_remembers_is_bounded() -> None:
    """
    A flood of keys cannot grow the memo without end, and each instance has its own.
    """
    first, second = Rendezvous(2), Rendezvous(2)
    for number in range(70_000):
        first.slot_of(pack(">I", number))
    sizes = [getattr(each.slot_of, "cache_info")().currsize for each in (first, second)]  # noqa: B009 - typed as a plain callable
    assert sizes == [65_536, 0]


def test_provides_iplacement() -> None:
    """
    Rendezvous keeps the contract of IPlacement.
    """
    placement = Rendezvous(5)
    assert verifyObject(IPlacement, placement)
    assert placement.slots == 5

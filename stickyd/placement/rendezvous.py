"""
Rendezvous hashing over slots, in arithmetic that the kernel can do too.

Every slot bids for every key, and the highest bid wins.  A slot's bid depends on the
key and on the slot's own index only, so one slot more takes its share of the keys
from all others and moves no other key (Thaler and Ravishankar, "Using name-based
mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998).

The function, on unsigned 32-bit words where every operation is modulo 2**32::

    mix(x)      x *= 0x7feb352d;  x ^= x >> 15;  x *= 0x846ca68b;  x ^= x >> 16
    fold(key)   h = the key's length in bytes
                for each big-endian word of the key, the last one padded with zeros:
                    h = mix(h ^ word)
    bid(h, i)   mix(h ^ slot_constant(i)) without its last step
    slot(key)   the i < slots whose bid(fold(key), i) is the highest

Each step of a bid can be undone and no two constants are equal, so no two slots ever
bid the same.
:mod:`stickyd.placement.bpf` compiles the same to classic BPF.  The constants are those
of Chris Wellons' ``lowbias32`` (https://nullprogram.com/blog/2018/07/31/).  None of
this may ever change: it would move every client of every running installation.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, Final

from zope.interface import implementer

from stickyd.errors import SettingError
from stickyd.interfaces import IPlacement

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SLOTS: Final = 256
WORD_MASK: Final = 0xFFFFFFFF
FIRST_FACTOR: Final = 0x7FEB352D
FIRST_SHIFT: Final = 15
SECOND_FACTOR: Final = 0x846CA68B
SECOND_SHIFT: Final = 16

# 2**32 divided by the golden ratio: its multiples are spread evenly.
_GOLDEN = 0x9E3779B9

# A cached answer costs a twentieth of a computed one at 8 slots; this many keys of 16 bytes
# take about 13 MB.
_REMEMBERED_KEYS = 65_536


def require_slots(slots: int) -> None:
    """
    Check the number of slots.

    :raises SettingError: if it is not 1 to 256.
    """
    if not 1 <= slots <= MOST_SLOTS:
        raise SettingError(
            f"{slots} slots: rendezvous placement takes 1 to {MOST_SLOTS}; "
            "use a number of workers in that range, or another placement"
        )


def mix(word: int) -> int:
    """
    Scramble one word; a bijection, so different words stay different.
    """
    word = word * FIRST_FACTOR & WORD_MASK
    word ^= word >> FIRST_SHIFT
    word = word * SECOND_FACTOR & WORD_MASK
    return word ^ word >> SECOND_SHIFT


def fold(key: bytes) -> int:
    """
    Reduce a key of any length to one word.
    """
    word = len(key)
    for (part,) in iter_unpack(">I", key + bytes(-len(key) % 4)):
        word = mix(word ^ part)
    return word


def slot_constant(slot: int) -> int:
    """
    Give the word that tells one slot's bids from another's.
    """
    multiple = (slot + 1) * _GOLDEN & WORD_MASK
    return mix(multiple ^ multiple >> SECOND_SHIFT)


def bidding(slots: int) -> Callable[[int], tuple[int, ...]]:
    """
    Make the function from a folded key to the bids of all slots.

    The slots bid all at once, as the 64-bit lanes of one wide integer: four times as
    fast as a loop at 64 slots.  A product of two 32-bit words fits its lane, so no lane
    spills into the next.
    """
    ones = sum(1 << 64 * slot for slot in range(slots))
    constants = sum(slot_constant(slot) << 64 * slot for slot in range(slots))
    low_halves = ones * WORD_MASK
    length = 8 * slots
    # "4x" drops the high half of each lane: the last modulo 2**32.
    lanes = Struct("<" + "I4x" * slots)

    def bids(folded: int) -> tuple[int, ...]:
        wide = (folded * ones ^ constants) * FIRST_FACTOR & low_halves
        # The shift brings bits of the next lane down; the mask takes them out again.
        wide ^= wide >> FIRST_SHIFT & low_halves
        return lanes.unpack((wide * SECOND_FACTOR).to_bytes(length, "little"))

    return bids


@implementer(IPlacement)
class Rendezvous:
    """
    The default placement: even, and stable when slots are added or removed at the tail.

    An address is a key of 4 bytes (IPv4) or 16 (IPv6), in network order, with the bits
    beyond the prefix zero; kernel steering and handoff steering agree on these.

    :ivar slot_of: see :meth:`stickyd.interfaces.IPlacement.slot_of`.  An attribute and
        not a method, so that a key that was asked for lately costs one look-up in C.
    """

    def __init__(self, slots: int) -> None:
        """
        Compute the constants of ``slots`` slots.

        :param slots: how many slots there are, 1 to 256: a classic BPF program has at
            most 4,096 instructions, and a slot takes twelve.
        :raises SettingError: if ``slots`` is outside that range.
        """
        require_slots(slots)
        self.slots = slots
        bids = bidding(slots)

        def choose(key: bytes) -> int:
            offered = bids(fold(key))
            return offered.index(max(offered))

        self.slot_of: Callable[[bytes], int] = lru_cache(_REMEMBERED_KEYS)(choose)

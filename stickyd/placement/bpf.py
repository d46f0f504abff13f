"""
Rendezvous placement as a classic BPF program, for a group of ``SO_REUSEPORT`` sockets.

The kernel runs it on each SYN; the result is the index of the listening socket that
gets the connection (socket(7), ``SO_ATTACH_REUSEPORT_CBPF``).  It computes what
:mod:`stickyd.placement.rendezvous` defines, from the packet's source address.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from stickyd.errors import SettingError
from stickyd.placement.rendezvous import (
    FIRST_FACTOR,
    FIRST_SHIFT,
    SECOND_FACTOR,
    SECOND_SHIFT,
    WORD_MASK,
    require_slots,
    slot_constant,
)

MOST_INSTRUCTIONS: Final = 4096
"""
``BPF_MAXINSNS`` of <linux/bpf_common.h>.
"""

# Operation codes of <linux/bpf_common.h>; A is the accumulator, X the index register,
# M the sixteen words of scratch memory, k the instruction's own constant.
LOAD_PACKET: Final = 0x20  # A = the big-endian word at offset k of the packet
LOAD_CONSTANT: Final = 0x00  # A = k
LOAD_MEMORY: Final = 0x60  # A = M[k]
LOAD_X_MEMORY: Final = 0x61  # X = M[k]
STORE: Final = 0x02  # M[k] = A
COPY_TO_X: Final = 0x07  # X = A
AND: Final = 0x54  # A &= k
XOR: Final = 0xA4  # A ^= k
XOR_X: Final = 0xAC  # A ^= X
MULTIPLY: Final = 0x24  # A *= k
SHIFT_RIGHT: Final = 0x74  # A >>= k
JUMP: Final = 0x05  # skip k instructions
JUMP_EQUAL: Final = 0x15  # skip `jt` instructions if A == k, else `jf`
JUMP_GREATER_X: Final = 0x2D  # skip `jt` instructions if A > X, else `jf`
RETURN: Final = 0x16  # the result is A

NETWORK_HEADER: Final = 0xFFF00000
"""
``SKF_NET_OFF`` of <linux/filter.h>: offsets from here count from the IP header.  Those
from 0 would count from the TCP header's end, where the kernel has the packet by then.
"""

_IPV4_SOURCE = NETWORK_HEADER + 12  # RFC 791, section 3.1
_IPV6_SOURCE = NETWORK_HEADER + 8  # RFC 8200, section 3

# What the words of scratch memory hold.
_FOLDED, _HIGHEST_BID, _WINNER = range(3)

_LAYOUT = Struct("=HBBI")  # struct sock_filter, in the machine's byte order


class Instruction(NamedTuple):
    """
    One ``struct sock_filter``.
    """

    code: int
    k: int = 0
    jt: int = 0
    jf: int = 0

    def pack(self) -> bytes:
        """
        Give the eight bytes that the kernel reads.
        """
        return _LAYOUT.pack(self.code, self.jt, self.jf, self.k)


def compile_program(slots: int, ipv4_prefix: int, ipv6_prefix: int) -> list[Instruction]:
    """
    Compile the placement of a client's network on ``slots`` slots.

    An IPv4-mapped IPv6 source counts as the IPv4 address that it carries.  An IPv4 client
    of a dual-stack socket needs no such care: its packets are IPv4.

    :param slots: 1 to 256.
    :param ipv4_prefix: how many leading bits of an IPv4 address count, 0 to 32.
    :param ipv6_prefix: how many leading bits of an IPv6 address count, 0 to 128.
    :return: at most :data:`MOST_INSTRUCTIONS` instructions, twelve for each slot.
    :raises SettingError: if an argument is outside its range.
    """
    require_slots(slots)
    for name, prefix, longest in (("IPv4", ipv4_prefix, 32), ("IPv6", ipv6_prefix, 128)):
        if not 0 <= prefix <= longest:
            raise SettingError(f"an {name} prefix length is 0 to {longest}, not {prefix}")

    ipv4 = [_keep(ipv4_prefix), Instruction(XOR, 4), *_mix()]
    load_ipv4 = [Instruction(LOAD_PACKET, _IPV4_SOURCE)]
    plain_ipv6 = [*_fold_ipv6(ipv6_prefix), Instruction(JUMP, len(load_ipv4) + len(ipv4))]
    mapped_ipv6 = _when_mapped(plain_ipv6, load_ipv4)
    ipv6 = mapped_ipv6 + plain_ipv6
    return [
        Instruction(LOAD_PACKET, NETWORK_HEADER),
        Instruction(SHIFT_RIGHT, 28),
        Instruction(JUMP_EQUAL, 4, jt=len(ipv6)),
        *ipv6,
        *load_ipv4,
        *ipv4,
        *_choose(slots),
    ]


def _mix() -> list[Instruction]:
    """
    Compute ``A = mix(A)``.
    """
    return [
        *_bid(),
        Instruction(COPY_TO_X),
        Instruction(SHIFT_RIGHT, SECOND_SHIFT),
        Instruction(XOR_X),
    ]


def _bid() -> list[Instruction]:
    """
    Compute ``A = mix(A)`` without its last step.
    """
    return [
        Instruction(MULTIPLY, FIRST_FACTOR),
        Instruction(COPY_TO_X),
        Instruction(SHIFT_RIGHT, FIRST_SHIFT),
        Instruction(XOR_X),
        Instruction(MULTIPLY, SECOND_FACTOR),
    ]


def _keep(bits: int) -> Instruction:
    """
    Clear all but the first ``bits`` of the word in A; all of them if ``bits`` is negative.
    """
    return Instruction(AND, WORD_MASK << 32 - min(max(bits, 0), 32) & WORD_MASK)


def _when_mapped(plain: list[Instruction], load_ipv4: list[Instruction]) -> list[Instruction]:
    """
    Jump to the IPv4 part with the address in A if the source is in ``::ffff:0:0/96``.

    Else go on with what follows, which is ``plain``; the IPv4 part comes after it and
    after ``load_ipv4``.
    """
    leave = [
        Instruction(LOAD_PACKET, _IPV6_SOURCE + 12),
        Instruction(JUMP, len(plain) + len(load_ipv4)),
    ]
    tests: list[Instruction] = []
    for offset, word in ((8, 0xFFFF), (4, 0), (0, 0)):  # back to front: each skips the rest
        tests = [
            Instruction(LOAD_PACKET, _IPV6_SOURCE + offset),
            Instruction(JUMP_EQUAL, word, jf=len(tests) + len(leave)),
            *tests,
        ]
    return tests + leave


def _fold_ipv6(prefix: int) -> list[Instruction]:
    """
    Compute ``A = fold(address)`` over the four words of an IPv6 source address.
    """
    program = [Instruction(LOAD_CONSTANT, 16)]
    for index in range(4):
        program += [
            Instruction(STORE, _FOLDED),
            Instruction(LOAD_PACKET, _IPV6_SOURCE + 4 * index),
            _keep(prefix - 32 * index),
            Instruction(LOAD_X_MEMORY, _FOLDED),
            Instruction(XOR_X),
            *_mix(),
        ]
    return program


def _choose(slots: int) -> list[Instruction]:
    """
    Return the slot that bids highest for the folded key in A.
    """
    program = [
        Instruction(STORE, _FOLDED),
        Instruction(LOAD_CONSTANT, 0),
        Instruction(STORE, _HIGHEST_BID),
        Instruction(STORE, _WINNER),  # slot 0, even if its bid is 0 and exceeds nothing
    ]
    for slot in range(slots):
        program += [
            Instruction(LOAD_MEMORY, _FOLDED),
            Instruction(XOR, slot_constant(slot)),
            *_bid(),
            Instruction(LOAD_X_MEMORY, _HIGHEST_BID),
            Instruction(JUMP_GREATER_X, jf=3),
            Instruction(STORE, _HIGHEST_BID),
            Instruction(LOAD_CONSTANT, slot),
            Instruction(STORE, _WINNER),
        ]
    return [*program, Instruction(LOAD_MEMORY, _WINNER), Instruction(RETURN)]

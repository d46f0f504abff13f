"""
The BPF program against the placement that it was compiled from.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise
from random import Random
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyd.affinity.address import IpKey
from stickyd.errors import SettingError
from stickyd.placement import bpf
from stickyd.placement.bpf import Instruction, compile_program
from stickyd.placement.rendezvous import Rendezvous
from tests.bpf_machine import machine


def run(program: list[Instruction], packet: bytes) -> int:
    """
    Interpret a program as the kernel does, refusing what its checker refuses.
    """
    a = x = position = 0
    memory: dict[int, int] = {}
    while True:
        code, k, jt, jf = program[position]
        position += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            offset = k - 0xFFF00000
            assert 0 <= offset <= len(packet) - 4
            a = int.from_bytes(packet[offset : offset + 4], "big")
        elif code == 0x00:  # BPF_LD | BPF_IMM
            a = k
        elif code == 0x60:  # BPF_LD | BPF_MEM; a word that was never stored is an error
            a = memory[k]
        elif code == 0x61:  # BPF_LDX | BPF_MEM
            x = memory[k]
        elif code == 0x02:  # BPF_ST
            assert k < 16
            memory[k] = a
        elif code == 0x07:  # BPF_MISC | BPF_TAX
            x = a
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            a &= k
        elif code == 0xA4:  # BPF_ALU | BPF_XOR | BPF_K
            a ^= k
        elif code == 0xAC:  # BPF_ALU | BPF_XOR | BPF_X
            a ^= x
        elif code == 0x24:  # BPF_ALU | BPF_MUL | BPF_K
            a = a * k % 2**32
        elif code == 0x74:  # BPF_ALU | BPF_RSH | BPF_K
            assert k < 32
            a >>= k
        elif code == 0x05:  # BPF_JMP | BPF_JA
            position += k
        elif code == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            position += jt if a == k else jf
        elif code == 0x2D:  # BPF_JMP | BPF_JGT | BPF_X
            position += jt if a > x else jf
        else:
            assert code == 0x16, f"unknown instruction {code:#x}"  # BPF_RET | BPF_A
            return a


def packet_from(address: IPv4Address | IPv6Address) -> bytes:
    """
    A SYN's IP header with this source address, and noise everywhere else.
    """
    if address.version == 4:
        return b"\x45" + b"\xa5" * 11 + address.packed + b"\x5a" * 24
    return b"\x60" + b"\xa5" * 7 + address.packed + b"\x5a" * 36


def key_of(address: IPv4Address | IPv6Address, ipv4_prefix: int, ipv6_prefix: int) -> bytes:
    """
    The affinity key of a client: its network's address, packed.
    """
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    return ip_network((address, prefix), strict=False).network_address.packed


MAPPED = st.integers(0, 2**32 - 1).map(lambda number: IPv6Address(0xFFFF << 32 | number))
# One word of ::ffff:a.b.c.d is wrong: a test of the mapped prefix that looks at too
# little would take these for IPv4.
NEARLY_MAPPED = st.builds(
    lambda number, shift: IPv6Address((0xFFFF << 32 | number) ^ 1 << shift),
    st.integers(0, 2**32 - 1),
    st.integers(32, 127),
)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), MAPPED, NEARLY_MAPPED)


@settings(deadline=None)
@given(ADDRESSES, st.integers(1, 256), st.integers(0, 32), st.integers(0, 128))
def test_the_program_is_the_placement(
    address: IPv4Address | IPv6Address, slots: int, ipv4_prefix: int, ipv6_prefix: int
) -> None:
    """
    For every address, prefix and number of slots the kernel's answer is slot_of's.
    """
    program = compile_program(slots, ipv4_prefix, ipv6_prefix)
    expected = Rendezvous(slots).slot_of(key_of(address, ipv4_prefix, ipv6_prefix))
    assert run(program, packet_from(address)) == expected
    assert machine(program)(packet_from(address)) == expected


#: How many addresses, and the slots and prefixes that all of them, or their beginning, are
#: placed with.
ADDRESS_COUNT = 100_000
PLACED = [
    (4, 32, 64, ADDRESS_COUNT),
    (8, 24, 56, ADDRESS_COUNT),
    (16, 32, 128, ADDRESS_COUNT),
    (1, 32, 64, 5000),
    (2, 1, 1, 5000),
    (3, 8, 32, 5000),
    (5, 31, 127, 5000),
    (64, 16, 48, 5000),
    (256, 32, 64, 5000),
]


def random_addresses(count: int) -> list[IPv4Address | IPv6Address]:
    """
    Draw addresses, always the same: of each three one IPv4, one IPv6, one IPv4-mapped, and
    of these each eighth with one bit of the mapping wrong.
    """
    random = Random(5)
    addresses: list[IPv4Address | IPv6Address] = []
    while len(addresses) < count:
        addresses += [IPv4Address(random.getrandbits(32)), IPv6Address(random.getrandbits(128))]
        nearly = 0 if random.randrange(8) else 1 << random.randrange(32, 128)
        addresses.append(IPv6Address((0xFFFF << 32 | random.getrandbits(32)) ^ nearly))
    return addresses[:count]


def test_100000_random_addresses() -> None:
    """
    The kernel's program and the primary's key and placement agree on 100,000 addresses of all
    kinds, for several numbers of slots and prefixes, and every slot gets its share.
    """
    addresses = random_addresses(ADDRESS_COUNT)
    hosts = [(str(address), packet_from(address)) for address in addresses]
    for slots, ipv4_prefix, ipv6_prefix, count in PLACED:
        run_fast = machine(compile_program(slots, ipv4_prefix, ipv6_prefix))
        key = IpKey(ipv4_prefix, ipv6_prefix)
        slot_of = Rendezvous(slots).slot_of
        shares: Counter[int] = Counter()
        for host, packet in hosts[:count]:
            slot = run_fast(packet)
            assert slot == slot_of(key.key_of(host)), (host, slots, ipv4_prefix, ipv6_prefix)
            shares[slot] += 1
        if count == ADDRESS_COUNT:
            assert min(shares[slot] for slot in range(slots)) > count / slots * 0.9


@pytest.mark.parametrize("ipv6_prefix", range(129))
def test_each_ipv6_prefix(ipv6_prefix: int) -> None:
    """
    Each IPv6 prefix length, those at the edges of words too, cuts where it should.
    """
    program = compile_program(64, 32, ipv6_prefix)
    placement = Rendezvous(64)
    for number in (2**128 - 1, 0x20010DB8_DEADBEEF_CAFEF00D_12345678):
        address = IPv6Address(number)
        expected = placement.slot_of(key_of(address, 32, ipv6_prefix))
        assert run(program, packet_from(address)) == expected


@pytest.mark.parametrize("ipv4_prefix", range(33))
def test_each_ipv4_prefix(ipv4_prefix: int) -> None:
    """
    Each IPv4 prefix length cuts where it should.
    """
    program = compile_program(64, ipv4_prefix, 64)
    placement = Rendezvous(64)
    for text in ("255.255.255.255", "203.0.113.77"):
        address = ip_address(text)
        expected = placement.slot_of(key_of(address, ipv4_prefix, 64))
        assert run(program, packet_from(address)) == expected


def test_programs_fit_into_the_kernel() -> None:
    """
    Up to 256 slots a program keeps below the kernel's limit, at twelve a slot.
    """
    lengths = [len(compile_program(slots, 32, 64)) for slots in range(1, 257)]
    assert {after - before for before, after in pairwise(lengths)} == {12}
    assert lengths[-1] <= 4096
    assert lengths[63] < 900


@pytest.mark.parametrize("slots", [1, 2, 64, 256])
def test_every_jump_lands_inside_and_a_return_ends_it(slots: int) -> None:
    """
    The kernel's checker refuses a jump past the end and a program that does not return.
    """
    program = compile_program(slots, 32, 64)
    for position, instruction in enumerate(program[:-1]):
        farthest = max(instruction.jt, instruction.jf)
        assert farthest < 256
        if instruction.code == bpf.JUMP:
            farthest = instruction.k
        assert position + 1 + farthest < len(program)
    assert program[-1].code == bpf.RETURN


def test_an_instruction_packs_as_the_kernel_reads_it() -> None:
    """
    The kernel's struct sock_filter is a 16-bit code, two 8-bit jumps and a 32-bit constant.
    """
    packed = Instruction(0x15, k=0x01020304, jt=5, jf=6).pack()
    assert packed == pack("=HBBI", 0x15, 5, 6, 0x01020304)


@pytest.mark.parametrize(
    ("slots", "ipv4_prefix", "ipv6_prefix", "reason"),
    [
        (0, 32, 64, "0 slots"),
        (257, 32, 64, "257 slots"),
        (2, -1, 64, "IPv4 prefix length is 0 to 32, not -1"),
        (2, 33, 64, "IPv4 prefix length is 0 to 32, not 33"),
        (2, 32, -1, "IPv6 prefix length is 0 to 128, not -1"),
        (2, 32, 129, "IPv6 prefix length is 0 to 128, not 129"),
    ],
)
def test_refuses_what_it_cannot_compile(
    slots: int, ipv4_prefix: int, ipv6_prefix: int, reason: str
) -> None:
    """
    A number outside its range is an operator's error that names the range.
    """
    with pytest.raises(SettingError, match=reason):
        compile_program(slots, ipv4_prefix, ipv6_prefix)

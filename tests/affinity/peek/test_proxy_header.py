"""
Tests of the PROXY protocol parser.
"""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.peek.need import Need
from stickyd.affinity.peek.proxy_header import (
    V1_LONGEST_BYTES,
    V2_LONGEST_BYTES,
    Header,
    ProxyHeaderError,
    announced,
    parse_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 40000, 443)
# Computed apart from our code, most significant bit first, polynomial 0x1EDC6F41.
CRC32C_OF_EXAMPLE = bytes.fromhex("39426bbf")
HELLO = b"GET / HTTP/1.1\r\n\r\n"


def v2(block: bytes = b"", command: int = 0x21, family: int = 0x11) -> bytes:
    """
    Build a version 2 header.
    """
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    """
    Build a TLV.
    """
    return struct.pack("!BH", kind, len(value)) + value


def feed(data: bytes) -> Header:
    """
    Parse byte by byte, check every Need on the way, and compare with the whole.
    """
    whole = parse_header(data)
    awaited = 1
    for size in range(len(data) + 1):
        result = parse_header(data[:size])
        if isinstance(result, Header):
            assert size == result.length
            assert result == whole
            return result
        assert result.more >= 1
        assert size + result.more >= awaited
        awaited = size + result.more
        assert isinstance(whole, Header)
        assert awaited <= whole.length
    raise AssertionError("the header is not complete")


EXAMPLES = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n": (
        ("192.0.2.7", 40000),
        ("198.51.100.1", 443),
    ),
    b"PROXY TCP6 2001:DB8::7 2001:db8:0::1 0 65535\r\n": (
        ("2001:db8::7", 0),
        ("2001:db8::1", 65535),
    ),
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 1 2\r\n": (
        ("192.0.2.7", 1),
        ("198.51.100.1", 2),
    ),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n": (None, None),
    v2(IPV4): (("192.0.2.7", 40000), ("198.51.100.1", 443)),
    v2(IPV4 + tlv(0x04, b"") + tlv(0xEA, b"\x01vpce")): (
        ("192.0.2.7", 40000),
        ("198.51.100.1", 443),
    ),
    v2(bytes(15) + b"\1" + bytes(15) + b"\2" + b"\0\1\0\2", family=0x21): (("::1", 1), ("::2", 2)),
    v2(bytes(10) + b"\xff\xff" + IPV4[:4] + bytes(20), family=0x21): (
        ("192.0.2.7", 0),
        ("::", 0),
    ),
    v2(bytes(216) + tlv(0x04, b"\0\0"), family=0x31): (None, None),
    v2(b"", command=0x20, family=0x00): (None, None),
    v2(b"whatever", command=0x20): (None, None),
    v2(b"whatever", family=0x00): (None, None),
    v2(b"whatever", family=0x10): (None, None),
}


@pytest.mark.parametrize(("facts", "secure"), [(b"\1", True), (b"\0", False), (b"\7", True)])
def test_fault_41_tls_before_the_proxy_is_told(facts: bytes, secure: bool) -> None:
    """
    Whether the client speaks TLS with the proxy is what the TLV of type 0x20 says.
    """
    header = parse_header(v2(IPV4 + tlv(0x20, facts + bytes(4) + tlv(0x21, b"TLSv1.3"))))
    assert isinstance(header, Header)
    assert header.secure is secure


@pytest.mark.parametrize("data", EXAMPLES)
def test_examples(data: bytes) -> None:
    """
    Every form of the header is read alike, whole or byte by byte, and whatever follows.
    """
    expected = Header(len(data), *EXAMPLES[data])
    assert feed(data) == expected
    assert parse_header(data + HELLO) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HELLO, "does not begin"),
        (b"PROXZ", "does not begin"),
        (b"\r\n\r\nGET", "does not begin"),
        (b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", "not a PROXY line"),
        (b"PROXY \r\n        ", "not a PROXY line"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", "not a PROXY line"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", "not a PROXY line"),
        (b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", "not a PROXY line"),
        (b"PROXY TCP4 ::1 2.2.2.2 1 2\r\n", "'::1' is not an IPv4 address"),
        (b"PROXY TCP6 1.1.1.1 ::1 1 2\r\n", "'1.1.1.1' is not an IPv6 address"),
        (b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n", "'fe80::1%1' is not an IPv6 address"),
        (b"PROXY TCP4 1.1.1.1 example 1 2\r\n", "'example' is not an IPv4 address"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", "'65536' is not a TCP port"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", "'01' is not a TCP port"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", "'-1' is not a TCP port"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 \xb2 2\r\n", "is not a TCP port"),
        (b"PROXY UNKNOWN " + b"f" * 92, "longer than 107"),
        (b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "longer than 107"),
        (v2(IPV4, command=0x11), "version 1, command 1"),
        (v2(IPV4, command=0x22), "version 2, command 2"),
        (v2(IPV4, family=0x41), "family 4, transport 1"),
        (v2(IPV4, family=0x13), "family 1, transport 3"),
        (v2(bytes(V2_LONGEST_BYTES - 15)), "4097 bytes is longer than 4096"),
        (v2(IPV4[:-1]), "shorter than its addresses"),
        (v2(bytes(215), family=0x31), "shorter than its addresses"),
        (v2(IPV4 + b"\x04"), "runs over the end"),
        (v2(IPV4 + b"\x04\x00"), "runs over the end"),
        (v2(IPV4 + b"\x04\x00\x01"), "runs over the end"),
        (v2(IPV4 + tlv(0x03, bytes(4))), "checksum"),
        (v2(IPV4 + tlv(0x20, b"\1\0\0\0")), "of TLS is too short"),
        (v2(IPV4 + tlv(0x03, b"")), "checksum"),
    ],
)
def test_errors(data: bytes, reason: str) -> None:
    """
    What the format forbids is refused with the reason, and never parsed as a header.
    """
    with pytest.raises(ProxyHeaderError, match=reason):
        parse_header(data)


def test_errors_come_as_soon_as_they_are_certain() -> None:
    """
    A wrong beginning is refused at its first wrong byte, not after a timeout.
    """
    for data in (b"G", b"PX", b"\r\n\r\n\r", b"\n"):
        with pytest.raises(ProxyHeaderError):
            parse_header(data)
    assert isinstance(parse_header(v2(bytes(V2_LONGEST_BYTES - 16))[:-1]), Need)


def test_longest_line_is_complete() -> None:
    """
    A line of exactly 107 bytes, the format's limit, is a header.
    """
    line = b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n"
    assert len(line) == V1_LONGEST_BYTES
    assert parse_header(line) == Header(V1_LONGEST_BYTES)


def test_checksum_of_another_implementation() -> None:
    """
    A CRC32c is verified as the format wants it: over the header with zeros in its place.
    """
    checked = v2(IPV4 + tlv(0x03, CRC32C_OF_EXAMPLE))
    assert parse_header(checked) == Header(len(checked), *EXAMPLES[v2(IPV4)])
    kind = 16 + len(IPV4)  # a TLV of another kind is no checksum
    for position in (*range(16, kind), *range(kind + 1, len(checked))):
        damaged = bytearray(checked)
        damaged[position] ^= 0x10
        with pytest.raises(ProxyHeaderError):
            parse_header(bytes(damaged))


def test_announced() -> None:
    """
    A PROXY header is told from other beginnings at the first byte that decides it.
    """
    for data in (b"PROXY TCP4", v2(IPV4)):
        assert announced(data) is True
    for data in (b"", b"PROXY", b"P", SIGNATURE[:-1], b"\r"):
        assert announced(data) is None
    for data in (HELLO, b"POST", b"\x16", b"\r\n\r\n\x01"):
        assert announced(data) is False


@given(
    st.ip_addresses(),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([0x01, 0x04, 0xEE]), st.binary(max_size=40)),
            st.tuples(st.just(0x20), st.binary(min_size=5, max_size=40)),
        )
    ),
)
def test_both_versions_agree(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address,
    destination: ipaddress.IPv4Address | ipaddress.IPv6Address,
    source_port: int,
    destination_port: int,
    tlvs: list[tuple[int, bytes]],
) -> None:
    """
    The same connection told in version 1 and in version 2 is the same connection.
    """
    if source.version != destination.version:
        destination = source
    ports = struct.pack("!HH", source_port, destination_port)
    block = source.packed + destination.packed + ports + b"".join(tlv(*each) for each in tlvs)
    second = v2(block, family=0x11 if source.version == 4 else 0x21)
    first = (
        f"PROXY TCP{source.version} {source} {destination} {source_port} {destination_port}\r\n"
    ).encode()
    one, two = feed(first), feed(second)
    assert (one.source, one.destination) == (two.source, two.destination)
    assert two.source is not None
    assert two.source[1] == source_port
    assert (one.length, two.length) == (len(first), len(second))


@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda rest: b"PROXY " + rest),
        st.binary(max_size=60).map(lambda rest: b"PROXY TCP6 " + rest + b"\r\n"),
        st.builds(v2, st.binary(max_size=300), st.integers(0, 255), st.integers(0, 255)),
        st.binary(max_size=80).map(lambda rest: v2(IPV4 + rest)),
    )
)
def test_any_bytes(data: bytes) -> None:
    """
    Any beginning gives a header, a need or our own error; once decided, more bytes change nothing.
    """
    decided: Header | None = None
    refused = False
    for size in range(len(data) + 1):
        try:
            result = parse_header(data[:size])
        except ProxyHeaderError:
            assert decided is None
            refused = True
            continue
        assert not refused
        if isinstance(result, Need):
            assert decided is None
            assert 1 <= result.more <= V2_LONGEST_BYTES
        else:
            assert decided in (None, result)
            assert result.length <= size
            decided = result

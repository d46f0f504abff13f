"""
Tests of the ``ip`` key.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.address import (
    UNIX_KEY,
    IpKey,
    TextKey,
    parse_address,
    parse_ip_key,
    parse_text_key,
    presented,
)
from stickyd.errors import SettingError


def test_ipv4_key_is_the_packed_address() -> None:
    """
    By default every IPv4 address is a key of its own, of 4 bytes.
    """
    assert IpKey().key_of("192.0.2.7") == b"\xc0\x00\x02\x07"


def test_ipv6_key_is_the_packed_64() -> None:
    """
    By default an IPv6 address counts with its first 64 bits, the rest is zero.
    """
    expected = bytes.fromhex("20010db8000100020000000000000000")
    assert IpKey().key_of("2001:db8:1:2:aaaa:bbbb:cccc:dddd") == expected
    assert IpKey().key_of("2001:db8:1:2::1") == expected


def test_mapped_address_is_the_ipv4_address() -> None:
    """
    A client has one key, whether a dual-stack or an IPv4 socket accepted it.
    """
    for key in (IpKey(), IpKey(24)):
        for mapped in ("::ffff:192.0.2.7", "::FFFF:c000:207", "0:0:0:0:0:ffff:192.0.2.7"):
            assert key.key_of(mapped) == key.key_of("192.0.2.7")


def test_prefix_lengths_mask() -> None:
    """
    Bits behind the prefix length do not count.
    """
    key = IpKey(24, 48)
    assert key.key_of("192.0.2.7") == b"\xc0\x00\x02\x00"
    assert key.key_of("2001:db8:1:2::1") == bytes.fromhex("20010db80001") + bytes(10)


def test_scope_id_does_not_count() -> None:
    """
    A link-local address with a scope id has the key of the address alone.
    """
    assert IpKey(32, 128).key_of("fe80::1%eth0") == IpKey(32, 128).key_of("fe80::1")


def test_unix_peers_share_one_key() -> None:
    """
    A UNIX-socket peer has no address: all have one key, which no address has.
    """
    assert IpKey().key_of("") == TextKey().key_of("") == UNIX_KEY
    assert len(UNIX_KEY) not in (4, 16)


@pytest.mark.parametrize("key", [IpKey(), TextKey()])
def test_host_that_is_no_address(key: IpKey | TextKey) -> None:
    """
    Asking for the key of something else than an address is the caller's error.
    """
    with pytest.raises(ValueError, match="example"):
        key.key_of("example.org")


@given(st.ip_addresses(v=4), st.integers(1, 32))
def test_ipv4_key_agrees_with_ip_network(address: ipaddress.IPv4Address, prefix: int) -> None:
    """
    The key is the network address, for every address and prefix length.
    """
    network = ipaddress.ip_network((address, prefix), strict=False)
    assert IpKey(prefix).key_of(str(address)) == network.network_address.packed
    assert IpKey(prefix).key_of(f"::ffff:{address}") == network.network_address.packed
    assert TextKey(prefix).key_of(str(address)) == str(network.network_address).encode()


@given(st.ip_addresses(v=6), st.integers(1, 128))
def test_ipv6_key_agrees_with_ip_network(address: ipaddress.IPv6Address, prefix: int) -> None:
    """
    The key is the network address, for every address and prefix length.
    """
    if address.ipv4_mapped is None:
        network = ipaddress.ip_network((address, prefix), strict=False)
        assert IpKey(32, prefix).key_of(str(address)) == network.network_address.packed
        expected = str(network.network_address).encode()
        assert TextKey(None, prefix).key_of(str(address)) == expected


def test_memo_is_bounded_and_used() -> None:
    """
    The same host is parsed once, and the memo cannot grow without limit.
    """
    key = IpKey()
    assert key.key_of("192.0.2.7") is key.key_of("192.0.2.7")
    info = key.key_of.cache_info()  # type: ignore[attr-defined]  # lru_cache's own attribute
    assert info.hits == 1
    assert info.maxsize is not None


@pytest.mark.parametrize("host", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "fe80::1%eth0"])
def test_text_key_is_what_the_socket_reports(host: str) -> None:
    """
    Without prefix lengths the modulo placement hashes the text that Node would.
    """
    assert TextKey().key_of(host) == host.encode()


def test_text_key_masks_only_the_family_with_a_length() -> None:
    """
    A length for IPv4 leaves IPv6 as it is reported; mapped addresses are IPv4.
    """
    key = TextKey(24)
    assert key.key_of("192.0.2.7") == b"192.0.2.0"
    assert key.key_of("::ffff:192.0.2.7") == b"192.0.2.0"
    assert key.key_of("2001:db8::7") == b"2001:db8::7"


@pytest.mark.parametrize(
    ("text", "ip_key", "text_key"),
    [
        ("ip", IpKey(32, 64), TextKey()),
        ("ip/24", IpKey(24, 64), TextKey(24)),
        ("ip/24/56", IpKey(24, 56), TextKey(24, 56)),
    ],
)
def test_parse(text: str, ip_key: IpKey, text_key: TextKey) -> None:
    """
    Lengths that are not given have the defaults, and the text form round-trips.
    """
    assert parse_ip_key(text) == ip_key
    assert parse_text_key(text) == text_key
    assert parse_ip_key(str(ip_key)) == ip_key
    assert str(text_key) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ip/33", "IPv4 prefix length is 1 to 32, not 33"),
        ("ip/24/129", "IPv6 prefix length is 1 to 128, not 129"),
        ("ip/0", "one worker serves them all; write 1 to 32"),
        ("ip/24/0", "one worker serves them all; write 1 to 128"),
        ("ip/", "write ip, ip/24"),
        ("ip/x", "write ip, ip/24"),
        ("ip/24,64", "write ip, ip/24"),
        ("ip/24/56/1", "write ip, ip/24"),
        ("ip/\u0663", "write ip, ip/24"),
        ("ip\n", "write ip, ip/24"),
    ],
)
def test_parse_complains_in_one_line(text: str, message: str) -> None:
    """
    A bad length is refused with the entry, the reason and what to write instead.
    """
    for parse in (parse_ip_key, parse_text_key):
        with pytest.raises(SettingError) as caught:
            parse(text)
        assert message in str(caught.value)
        assert repr(text) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:db8:ffff::7", "2001:db8:ffff::7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
        ("ffff:", "ffff:"),
    ],
)
def test_presented(host: str, expected: str) -> None:
    """
    The application sees an IPv4 client as IPv4, and everything else unchanged.
    """
    assert presented(host) == expected


@given(st.text())
def test_presented_takes_anything(host: str) -> None:
    """
    Text that is no address passes unchanged.
    """
    try:
        parse_address(host)
    except ValueError:
        assert presented(host) == host
    else:
        assert parse_address(presented(host)) == parse_address(host)

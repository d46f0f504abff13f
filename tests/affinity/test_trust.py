"""
Tests of the networks of ``--trust``.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.trust import Networks
from stickyd.errors import SettingError


def test_networks_hold_their_addresses() -> None:
    """
    An address belongs if a network, or the very address, is listed.
    """
    networks = Networks.parse("10.0.0.0/8, ::1")
    assert "10.1.2.3" in networks
    assert "::1" in networks
    assert "11.0.0.1" not in networks
    assert "::2" not in networks


def test_mapped_addresses_are_ipv4() -> None:
    """
    A proxy on a dual-stack socket is trusted by its IPv4 network, however that is written.
    """
    for text in ("10.0.0.0/8", "::ffff:10.0.0.0/104"):
        assert "::ffff:10.1.2.3" in Networks.parse(text)
        assert "10.1.2.3" in Networks.parse(text)
        assert "::ffff:11.1.2.3" not in Networks.parse(text)
    assert "::ffff:10.1.2.3" not in Networks.parse("::/0")
    assert "1:2:3:4:5:6:7:8" in Networks.parse("1:2:3:4:5:6:7:8")


def test_scope_id_is_tolerated() -> None:
    """
    A link-local proxy is trusted by its network, whichever interface it comes by.
    """
    assert "fe80::1%eth0" in Networks.parse("fe80::/10")


def test_unix_is_trusted_by_name_only() -> None:
    """
    A UNIX-socket peer is trusted if and only if ``unix`` is listed.
    """
    assert "" in Networks.parse("unix")
    assert "" not in Networks.parse("0.0.0.0/0,::/0")


def test_empty_list_trusts_nobody() -> None:
    """
    The default trusts nobody and is false.
    """
    for networks in (Networks(), Networks.parse(""), Networks.parse([])):
        assert not networks
        assert "127.0.0.1" not in networks
        assert "" not in networks
    assert Networks.parse("unix")
    assert Networks.parse("::1")


def test_a_list_will_do_and_round_trips() -> None:
    """
    TOML gives a list; the text form parses to an equal value.
    """
    networks = Networks.parse(["10.0.0.0/8", " ::1 ", "unix"])
    assert networks == Networks.parse("10.0.0.0/8,::1,unix")
    assert Networks.parse(str(networks)) == networks


@given(st.text())
def test_any_host_may_be_asked(host: str) -> None:
    """
    Text that is no address is not trusted, even where every address is.
    """
    everybody = Networks.parse("0.0.0.0/0,::/0")
    assert (host in everybody) in (True, False)
    assert f"{host}!" not in everybody or "%" in host


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("10.1.2.3/8", "write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address"),
        ("2001:db8::1/32", "write 2001:db8::/32 for the network"),
        ("10.0.0.0/33", "'33' is not an IPv4 prefix length, which is 0 to 32"),
        ("::1/129", "'129' is not an IPv6 prefix length, which is 0 to 128"),
        ("10.0.0.0/", "'' is not an IPv4 prefix length"),
        ("*", "write 0.0.0.0/0,::/0,unix"),
        ("Localhost", "write 127.0.0.0/8,::1"),
        ("proxy.example", "neither an address nor a network nor 'unix'"),
    ],
)
def test_complaints(entry: str, message: str) -> None:
    """
    A bad entry is refused with its text, the setting, and the nearest that would do.
    """
    with pytest.raises(SettingError) as caught:
        Networks.parse(f"::1,{entry}", "--proxy-from")
    assert str(caught.value).startswith(f"--proxy-from: {entry!r}")
    assert message in str(caught.value)

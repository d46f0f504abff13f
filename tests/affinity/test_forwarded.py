"""
Tests of ``X-Forwarded-For`` and ``Forwarded``.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.forwarded import MOST_HOPS, Origin, origin_of
from stickyd.affinity.trust import Networks

TRUST = Networks.parse("10.0.0.0/8,fd00::/8,unix")


def client_of(name: str, *values: str, peer: str = "10.0.0.1") -> str | None:
    """
    Ask for the client behind a trusted peer, by one kind of header.
    """
    headers = [(name.encode(), value.encode("latin-1")) for value in values]
    return origin_of(peer, headers, TRUST).client


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7, 10.0.0.2,10.0.0.3"], "192.0.2.7"),
        (["6.6.6.6", "192.0.2.7", "10.0.0.2"], "192.0.2.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["2001:DB8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, ::ffff:10.0.0.2"], "192.0.2.7"),
        (["192.0.2.7, , ,"], "192.0.2.7"),
        (["192.0.2.7, rubbish, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.7, unknown"], None),
        (["192.0.2.7, fe80::1%eth0"], None),
        (["192.0.2.777"], None),
        (["[192.0.2.7]"], None),
        (["192.0.2.7:"], None),
        (["unix:"], None),
        ([""], None),
        ([" \t,"], None),
    ],
)
def test_x_forwarded_for(values: list[str], expected: str | None) -> None:
    """
    The client is the first untrusted address from the right, up to a malformed element.
    """
    assert client_of("x-forwarded-for", *values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["for=192.0.2.7"], "192.0.2.7"),
        (["For=192.0.2.7;proto=http;by=203.0.113.43"], "192.0.2.7"),
        (["proto=http; FOR=192.0.2.7"], "192.0.2.7"),
        (["for=192.0.2.7, for=10.0.0.2"], "192.0.2.7"),
        (["for=6.6.6.6", "for=192.0.2.7", "for=10.0.0.2"], "192.0.2.7"),
        (['for="[2001:DB8::7]:4711"'], "2001:db8::7"),
        (['for="[2001:db8::7]"'], "2001:db8::7"),
        (['for="192.0.2.7:_hidden"'], "192.0.2.7"),
        (['for="192.0.\\2.7"'], "192.0.2.7"),
        (['for="[::ffff:192.0.2.7]"'], "192.0.2.7"),
        (['for=192.0.2.7;by="a,b;c\\",d"'], "192.0.2.7"),
        (['for=6.6.6.6, for=192.0.2.7;by="a, for=10.0.0.9", for=10.0.0.2'], "192.0.2.7"),
        (["for=192.0.2.7,, for=10.0.0.2,"], "192.0.2.7"),
        ([";for=192.0.2.7;;"], "192.0.2.7"),
        (['for="evil, for=192.0.2.7'], "192.0.2.7"),
        (['for=6.6.6.6;x="evil, for="[2001:db8::7]"'], "2001:db8::7"),
        (['for=6.6.6.6, evil", for=10.0.0.2'], "10.0.0.2"),
        (["for=192.0.2.7, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        (["for=unknown"], None),
        (["for=_hidden"], None),
        (["for=192.0.2.7, proto=https"], None),
        (["for=192.0.2.7;for=192.0.2.8"], None),
        (["for=192.0.2.7 ;proto=http"], None),
        (["for = 192.0.2.7"], None),
        (["for=[2001:db8::7]"], None),
        (['for="2001:db8::7"'], None),
        (["for=192.0.2.7:80"], None),
        (["for="], None),
        (['for=""'], None),
        (["192.0.2.7"], None),
        (["for=192.0.2.7", '"'], None),
        (["for=192.0.2.7", ""], "192.0.2.7"),
        (['for=192.0.2.7;by="' + "," * 8 + '"'], "192.0.2.7"),
        (['for=192.0.2.7;by="' + "," * 9 + '"'], None),
    ],
)
def test_forwarded(values: list[str], expected: str | None) -> None:
    """
    The same walk by RFC 7239: quoted strings, brackets, ports and hidden identifiers.
    """
    assert client_of("forwarded", *values) == expected


def test_only_trusted_peers_are_heard() -> None:
    """
    From a peer outside the networks neither the address nor the scheme counts.
    """
    headers = [(b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-proto", b"https")]
    assert origin_of("11.0.0.1", headers, TRUST) == Origin()
    for peer in ("10.0.0.1", "::ffff:10.0.0.1", "fd00::1", ""):
        assert origin_of(peer, headers, TRUST) == Origin("192.0.2.7", "https")


def test_no_header() -> None:
    """
    Without these headers nothing is said, and other headers are not looked at.
    """
    assert origin_of("10.0.0.1", [(b"host", b"192.0.2.7")], TRUST) == Origin()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("x-forwarded-proto", "HTTPS")], "https"),
        ([("x-forwarded-proto", "http, https")], "https"),
        ([("x-forwarded-proto", "http"), ("x-forwarded-proto", "wss")], "wss"),
        ([("x-forwarded-proto", "http:")], None),
        ([("x-forwarded-proto", "")], None),
        ([("forwarded", "proto=http, proto=https;for=_x")], "https"),
        ([("forwarded", "proto=https, for=10.0.0.2")], "https"),
        ([("forwarded", "proto=https, for=192.0.2.7")], None),
        ([("forwarded", 'proto="ht tp"')], None),
        ([("forwarded", "proto=https"), ("x-forwarded-proto", "https")], "https"),
        ([("forwarded", "for=10.0.0.2"), ("x-forwarded-proto", "https")], "https"),
    ],
)
def test_proto(headers: list[tuple[str, str]], expected: str | None) -> None:
    """
    The scheme is what the farthest trusted proxy says, in lower case.
    """
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    origin = origin_of("10.0.0.1", pairs, TRUST)
    assert origin.proto == expected
    assert not origin.conflict


@pytest.mark.parametrize(
    ("addresses", "schemes", "expected"),
    [
        ("192.0.2.7, 10.0.0.2", "https, http", "https"),
        ("192.0.2.7, 10.0.0.2", "http, https", "http"),
        ("192.0.2.7, 10.0.0.2", "https", "https"),
        ("192.0.2.7, 10.0.0.2", "gopher, https, http", "https"),
        ("192.0.2.7, 10.0.0.3, 10.0.0.2", "https, http, http", "https"),
        ("192.0.2.7, 10.0.0.3, 10.0.0.2", "https, http", "https"),
        ("unknown, 10.0.0.2", "https, http", "https"),
        ("10.0.0.9, 10.0.0.2", "https, http", "https"),
        # What the client itself has written counts for nothing.
        ("10.0.0.2, 192.0.2.7", "https, http", "http"),
        ("192.0.2.7", "https, http", "http"),
        ("10.0.0.2, rubbish", "https, http", "http"),
        ("", "https, http", "http"),
    ],
)
def test_fault_41_lists_of_schemes(addresses: str, schemes: str, expected: str) -> None:
    """
    Fault 41: of the schemes that several trusted proxies name, the one counts that the client
    spoke, not the one between the proxies; in both kinds of header, in one line and in several.
    """
    said = [part.strip() for part in addresses.split(",")]
    named = [part.strip() for part in schemes.split(",")]
    plain = [(b"x-forwarded-for", b"%b" % addresses.encode())] if addresses else []
    lines = [(b"x-forwarded-for", part.encode()) for part in said]
    for pairs in (plain, lines):
        schemed = [*pairs, (b"x-forwarded-proto", schemes.encode())]
        assert origin_of("10.0.0.1", schemed, TRUST).proto == expected
        schemed = [*pairs, *((b"x-forwarded-proto", part.encode()) for part in named)]
        assert origin_of("10.0.0.1", schemed, TRUST).proto == expected
    if len(said) == len(named) and said != [""]:
        elements = [f"for={host};proto={scheme}" for host, scheme in zip(said, named, strict=True)]
        forwarded = [(b"forwarded", ", ".join(elements).encode())]
        assert origin_of("10.0.0.1", forwarded, TRUST).proto == expected


def test_disagreement_counts_for_nobody() -> None:
    """
    A client that adds the kind of header its proxy does not set cannot choose its address.
    """
    proxied = (b"x-forwarded-for", b"192.0.2.7")
    for forged in (b"for=6.6.6.6", b"for=unknown", b"rubbish"):
        origin = origin_of("10.0.0.1", [proxied, (b"forwarded", forged)], TRUST)
        assert origin == Origin(None, None, conflict=True)
    hidden = [(b"x-forwarded-for", b"unix:"), (b"forwarded", b"for=6.6.6.6")]
    assert origin_of("10.0.0.1", hidden, TRUST) == Origin(None, None, conflict=True)
    schemes = [(b"x-forwarded-proto", b"http"), (b"forwarded", b"for=192.0.2.7;proto=https")]
    assert origin_of("10.0.0.1", [proxied, *schemes], TRUST) == Origin("192.0.2.7", None, True)
    agreed = [proxied, (b"forwarded", b"for=192.0.2.7")]
    assert origin_of("10.0.0.1", agreed, TRUST) == Origin("192.0.2.7", None)


@pytest.mark.parametrize(
    ("name", "element"), [("x-forwarded-for", "10.0.0.2"), ("forwarded", "for=10.0.0.2")]
)
def test_endless_chains_end(name: str, element: str) -> None:
    """
    A chain longer than any real one is cut, whether in one header or in many.
    """
    client = "for=192.0.2.7" if name == "forwarded" else "192.0.2.7"
    longest = [element] * (MOST_HOPS - 1)
    assert client_of(name, ",".join([client, *longest])) == "192.0.2.7"
    assert client_of(name, ",".join([client, element, *longest])) == "10.0.0.2"
    assert client_of(name, client, *longest) == "192.0.2.7"
    assert client_of(name, client, element, *longest) == "10.0.0.2"


TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
PIECES = st.lists(
    st.sampled_from(
        ["for=", "proto=", '"', "\\", ",", ";", " ", "10.0.0.2", "192.0.2.7", "[fd00::1]", ":80"]
    ),
    max_size=24,
).map("".join)


@given(st.sampled_from(["x-forwarded-for", "forwarded"]), st.lists(TEXT | PIECES, max_size=4))
def test_any_text(name: str, values: list[str]) -> None:
    """
    Any header gives an address in its canonical text, or none; never an error.
    """
    client = client_of(name, *values)
    assert client is None or str(ipaddress.ip_address(client)) == client


@given(TEXT | PIECES)
def test_left_of_the_client_nothing_counts(forged: str) -> None:
    """
    Whatever a client sends, quotes included, the proxies' own elements are read the same.
    """
    for tail in ("192.0.2.7, 10.0.0.2", "2001:db8::7"):
        expected = tail.split(",")[0]
        assert client_of("x-forwarded-for", f"{forged}, {tail}") == expected
    for tail in ("for=192.0.2.7, for=10.0.0.2", 'for=192.0.2.7;by="_a,b";proto=http'):
        assert client_of("forwarded", f"{forged}, {tail}") == "192.0.2.7"
        assert client_of("forwarded", forged, tail) == "192.0.2.7"


@given(
    st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_quoted_strings_round_trip(texts: list[str]) -> None:
    """
    A parameter may be any quoted text, commas and quotes too, and the element stays one.
    """
    texts = [text.replace(",", "", max(0, text.count(",") - 2)) for text in texts]
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    element = ";".join(f"x{number}={each}" for number, each in enumerate(quoted))
    assert client_of("forwarded", f"for=6.6.6.6, {element};for=192.0.2.7") == "192.0.2.7"

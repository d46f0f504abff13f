"""
Tests of the list of ``--affinity``.
"""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.address import IpKey, TextKey, parse_text_key
from stickyd.affinity.keys import CookieKey, HeaderKey, PathKey, QueryKey
from stickyd.affinity.peek.client_hello import SniKey
from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.spec import Affinity, Key, LearnKey, MintedKey, StampKey, parse_affinity
from stickyd.errors import SettingError

KEYS: dict[str, Key] = {
    "ip": IpKey(),
    "ip/24": IpKey(24),
    "ip/24/56": IpKey(24, 56),
    "cookie:stickyd": CookieKey("stickyd"),
    "header:X-User": HeaderKey("X-User"),
    "query:user id": QueryKey("user id"),
    "query:a:b": QueryKey("a:b"),
    "path:/room/([^/]+)": PathKey("/room/([^/]+)"),
    "path:/(?:a|b:c)/(.)": PathKey("/(?:a|b:c)/(.)"),
    "sni": SniKey(),
    "stamp:Mcp-Session-Id": StampKey(HeaderKey("Mcp-Session-Id")),
    "learn:header:X-Session": LearnKey(HeaderKey("X-Session")),
    "learn:cookie:session": LearnKey(CookieKey("session")),
    "learn:query:sid": LearnKey(QueryKey("sid")),
    "minted:header:Mcp-Param-Basket": MintedKey(HeaderKey("Mcp-Param-Basket")),
    "minted:query:room": MintedKey(QueryKey("room")),
    "minted:cookie:game": MintedKey(CookieKey("game")),
    "minted:path:/a:b/([^/]+)": MintedKey(PathKey("/a:b/([^/]+)")),
}


@pytest.mark.parametrize("entry", KEYS)
def test_every_kind(entry: str) -> None:
    """
    Each kind of entry is parsed, in a text and in a list, and reads as it was written.
    """
    for value in (entry, f" {entry} ", [entry]):
        affinity = parse_affinity(value)
        assert affinity == Affinity((KEYS[entry],))
        assert parse_affinity(str(affinity)) == affinity
    if not entry.startswith("ip"):
        assert str(KEYS[entry]) == entry


def test_order_is_kept() -> None:
    """
    The keys come in the order of the list.
    """
    affinity = parse_affinity("cookie:stickyd,header:X-User,ip")
    assert affinity.keys == (CookieKey("stickyd"), HeaderKey("X-User"), IpKey())
    assert affinity.warnings == ()
    assert str(affinity) == "cookie:stickyd,header:X-User,ip/32/64"


def test_commas_in_a_regex() -> None:
    """
    A comma in an entry is escaped in a text, stands as it is in a list, and round-trips.
    """
    expected = (PathKey("/([a-z]{2,3})/x,y"), IpKey())
    assert parse_affinity(r"path:/([a-z]{2\,3})/x\,y,ip").keys == expected
    assert parse_affinity(["path:/([a-z]{2,3})/x,y", "ip"]).keys == expected
    assert parse_affinity(str(Affinity(expected))).keys == expected


def test_modulo_hashes_the_text() -> None:
    """
    For the modulo placement the ip entry is the key that Node would hash.
    """
    assert parse_affinity("cookie:a,ip/24", parse_text_key).keys[1] == TextKey(24)


def test_minted_ids_are_read_from_their_source() -> None:
    """
    A stamped and a learned id are read where the list says.
    """
    head = Head(b"GET", b"/?sid=q", [(b"mcp-session-id", b"h"), (b"cookie", b"s=c")])
    assert StampKey(HeaderKey("Mcp-Session-Id")).key_of(head) == b"h"
    assert LearnKey(QueryKey("sid")).key_of(head) == b"q"
    assert LearnKey(CookieKey("s")).key_of(head) == b"c"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("coookie:x", "'coookie:x': there is no kind 'coookie'; did you mean cookie?"),
        ("Header:X-User,ip", "did you mean header? Write for example header:X-User"),
        ("QUERY:x", "did you mean query?"),
        ("ipp", "did you mean ip? Write for example ip"),
        ("jwt:sub", "'jwt:sub' is no key; write one of ip, sni, cookie, header"),
        ("ip,,sni", "'' is no key"),
        ("", "'' is no key"),
        ("ip:24", "write ip, ip/24"),
        ("ip/99", "not 99"),
        ("sni:example", "write sni"),
        ("cookie", "lacks its name; write cookie:stickyd"),
        ("header:", "write header:X-User"),
        ("path:", "write path:/room/([^/]+)"),
        ("path:/room", "captures nothing"),
        ("stamp:Mcp Session", "'Mcp Session' is not a name of a header or a cookie"),
        ("header:X-\u00dcser", "is not a name"),
        ("cookie:a=b", "'a=b' is not a name"),
        ("learn:X-Session", "'learn:X-Session'; write learn:cookie:session"),
        ("learn:header:", "write learn:cookie:session"),
        ("learn:path:/(.)", "write learn:cookie:session"),
        ("learn:cookie:a b", "'a b' is not a name"),
        ("minted", "lacks its name; write minted:header:Mcp-Param-Basket"),
        ("minted:room", "'minted:room'; write minted:header:Mcp-Param-Basket, minted:query:room"),
        ("minted:path:", "or minted:path:/upload/([^/]+)"),
        ("minted:path:/room", "'minted:path:/room' captures nothing; put parentheses"),
        (
            "minted:path:/(",
            "'minted:path:/(': missing ), unterminated subpattern at position 1; write for",
        ),
        ("minted:header:a b", "'a b' is not a name"),
        ("mint:header:a", "did you mean minted? Write for example minted:header:Mcp-Param-Basket"),
    ],
)
def test_complaints(value: str, message: str) -> None:
    """
    A bad entry is refused in one line, with its text and what to write instead.
    """
    with pytest.raises(SettingError) as caught:
        parse_affinity(value)
    assert str(caught.value).startswith("--affinity: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_list() -> None:
    """
    A list without entries would stick nobody, and is refused.
    """
    with pytest.raises(SettingError, match="the list is empty; write ip"):
        parse_affinity([])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("header:mcp-session-id,ip", ["write stamp:Mcp-Session-Id"]),
        ("query:sid", ["write learn:query:sid"]),
        ("cookie:session,ip", ["a cookie of this name is set by Flask, Quart and Starlette"]),
        ("learn:cookie:session,ip", []),
        ("cookie:TWISTED_SESSION", ["a cookie of this name is set by twisted.web"]),
        ("cookie:sid,header:sid,learn:query:sid,stamp:Mcp-Session-Id,ip", []),
        ("ip,cookie:stickyd", ["what follows ip/32/64 is never asked; put ip/32/64 last"]),
        ("cookie:a,cookie:a,cookie:b", ["cookie:a is listed twice"]),
        ("header:X-A,header:x-a,header:x-b", ["header:x-a is listed twice"]),
        ("ip,ip", ["put ip/32/64 last", "ip/32/64 is listed twice"]),
    ],
)
def test_warnings(value: str, expected: list[str]) -> None:
    """
    What is allowed but will not do what it seems to is told, each in a line.
    """
    lines = parse_affinity(value).warnings
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line
        assert line.startswith("--affinity: ")
        assert "\n" not in line


ENTRIES = st.sampled_from(
    [*KEYS, "path:", "learn:", "cookie:", ",", "\\,", "\\", "(", ")", ":", "x"]
)


@given(st.one_of(st.text(), st.lists(ENTRIES).map("".join), st.lists(st.text())))
def test_any_text(value: str | list[str]) -> None:
    """
    Any list is parsed or refused with the operator's error, and what is parsed round-trips.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # re warns of odd sets in an expression
        try:
            affinity = parse_affinity(value)
        except SettingError:
            return
        assert parse_affinity(list(map(str, affinity.keys))).keys == affinity.keys

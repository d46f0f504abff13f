"""
Tests of the keys that stand in a request.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.keys import CookieKey, HeaderKey, PathKey, QueryKey
from stickyd.affinity.peek.http1 import Head
from stickyd.errors import SettingError


def head(target: bytes = b"/", *headers: tuple[bytes, bytes]) -> Head:
    """
    Make a head.
    """
    return Head(b"GET", target, list(headers))


def test_header() -> None:
    """
    The header's name is compared without case; the first value that is not empty counts.
    """
    request = head(b"/", (b"x-user", b""), (b"x-user", b"Ann"), (b"x-user", b"Bob"))
    assert HeaderKey("X-User").key_of(request) == b"Ann"
    assert HeaderKey("x-users").key_of(request) is None
    assert HeaderKey("X-User").key_of(head(b"/", (b"x-user", b""))) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"sid=abc"], b"abc"),
        ([b"a=b; sid=abc; c=d"], b"abc"),
        ([b"a=b;sid = abc ;c=d"], b"abc"),
        ([b"sid=first; sid=second"], b"first"),
        ([b"a=b", b"sid=abc"], b"abc"),
        ([b'sid="abc"'], b"abc"),
        ([b'sid="a"b"'], b'a"b'),
        ([b'sid="'], b'"'),
        ([b"sid=a=b=="], b"a=b=="),
        ([b"SID=abc"], None),
        ([b"xsid=abc"], None),
        ([b"sid"], None),
        ([b"sid; sid=abc"], b"abc"),
        ([b"sid="], None),
        ([b'sid=""'], None),
        ([b'a="; sid=abc; "'], b"abc"),
        ([b"sid=\xff"], b"\xff"),
        ([b""], None),
        ([], None),
    ],
)
def test_cookie(values: list[bytes], expected: bytes | None) -> None:
    """
    Cookies are read as RFC 6265 has them: split at semicolons, first match, quotes off.
    """
    request = head(b"/", (b"x-cookie", b"sid=no"), *((b"cookie", value) for value in values))
    assert CookieKey("sid").key_of(request) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/?sid=abc", b"abc"),
        (b"/socket.io/?EIO=4&transport=polling&sid=a%2Fb+c", b"a/b c"),
        (b"/?%73id=abc", b"abc"),
        (b"/?sid=first&sid=second", b"first"),
        (b"/?a=?&sid=b=c", b"b=c"),
        (b"/?sid=%ff%zz\xfe", b"\xff%zz\xfe"),
        (b"http://example/?sid=abc", b"abc"),
        (b"/?sid=&sid=abc", None),
        (b"/?sid", None),
        (b"/?SID=abc", None),
        (b"/sid=abc", None),
        (b"*", None),
    ],
)
def test_query(target: bytes, expected: bytes | None) -> None:
    """
    The parameter is percent-decoded, name and value; the first counts.
    """
    assert QueryKey("sid").key_of(head(target)) == expected


@given(st.text(min_size=1), st.text(min_size=1))
def test_query_takes_any_text(name: str, value: str) -> None:
    """
    Whatever a form may send under whatever name is found again.
    """
    try:
        target = "/?x&" + urlencode([(name, value)])
    except UnicodeEncodeError:  # a lone surrogate, which no client can send
        return
    if name != "x":
        assert QueryKey(name).key_of(head(target.encode())) == value.encode()


@pytest.mark.parametrize(
    ("pattern", "target", "expected"),
    [
        ("/room/([^/]+)", b"/room/blue", b"blue"),
        ("/room/([^/]+)", b"/room/blue/chat?x=/room/red", b"blue"),
        ("/room/([^/]+)", b"/room/a%2Fb/c", b"a/b"),
        ("/room/([^/]+)", b"/room/caf%C3%A9", b"caf\xc3\xa9"),
        ("/room/([^/]+)", b"/room/a+b", b"a+b"),
        ("/room/([^/]+)", b"http://example/room/blue?x", b"blue"),
        ("/room/([^/]+)", b"//room/blue", None),
        ("/room/([^/]+)", b"/hall/room/blue", None),
        ("/room/([^/]*)", b"/room/", None),
        ("/(a)?b", b"/b", None),
        (".*/id/([0-9]+)", b"/x/y/id/12", b"12"),
        ("/r/(?P<who>x)(y)", b"/r/xy", b"x"),
        ("/caf\u00e9/(.)", b"/caf\xc3\xa9/x", b"x"),
        ("(.+)", b"example:443", None),
        ("(.+)", b"*", None),
        ("(.+)", b"http://example", None),
        ("(.+)", b"http://[/x", None),
    ],
)
def test_path(pattern: str, target: bytes, expected: bytes | None) -> None:
    """
    The first group is taken of the path as sent, from its beginning, and then decoded.
    """
    assert PathKey(pattern).key_of(head(target)) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/room/[^/]+", "captures nothing; put parentheses"),
        ("/room/(", "missing ), unterminated subpattern"),
        ("(a{99999999999999999999})", "write for example"),
        ("(" * 5000 + ")" * 5000, "write for example"),
    ],
)
def test_bad_expressions(pattern: str, message: str) -> None:
    """
    An expression that does not compile, or captures nothing, is the operator's error.
    """
    with pytest.raises(SettingError) as caught:
        PathKey(pattern)
    assert str(caught.value).startswith(f"--affinity: 'path:{pattern}'")
    assert message in str(caught.value)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_request(target: bytes, value: bytes) -> None:
    """
    Whatever stands in a request, a key is some bytes or None.
    """
    request = head(target, (b"cookie", value), (b"x-user", value))
    for key in (HeaderKey("x-user"), CookieKey("a"), QueryKey("a"), PathKey("(.*)")):
        assert key.key_of(request) != b""
    found = QueryKey("k").key_of(head(b"/?" + b"k=" + quote_from_bytes(value, "").encode()))
    assert (found or b"") == value
    assert (PathKey("/(.*)").key_of(head(b"/" + quote(value, "").encode())) or b"") == value


def test_arguments_that_are_not_utf_8() -> None:
    """
    Bytes of the command line that are no UTF-8 stand for themselves.
    """
    argument = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert QueryKey(argument).key_of(head(b"/?caf%e9=x")) == b"x"
    assert PathKey(f"/{argument}/(.)").key_of(head(b"/caf\xe9/x")) == b"x"


def test_text_form() -> None:
    """
    A key reads as its entry of ``--affinity``, and equals another of the same entry.
    """
    assert str(HeaderKey("X-User")) == "header:X-User"
    assert str(CookieKey("sid")) == "cookie:sid"
    assert str(QueryKey("sid")) == "query:sid"
    assert str(PathKey("/(.)")) == "path:/(.)"
    assert PathKey("/(.)") == PathKey("/(.)") != PathKey("/(..)")
    assert HeaderKey("X-User") == HeaderKey("x-user") != HeaderKey("x-users")
    assert CookieKey("sid") == CookieKey("sid") != CookieKey("SID")


@given(
    st.text(st.sampled_from("ab=&+%26c7é"), max_size=40),
    st.sampled_from(["a", "b c", "b+c", "é", ""]),
)
def test_query_reads_as_the_standard_library_does(query: str, name: str) -> None:
    """
    The first parameter of the name is the one that :func:`urllib.parse.parse_qsl` gives.
    """
    target = b"/?" + query.encode()
    pairs = parse_qsl(target[2:].decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    wanted = name.encode().decode("latin-1")
    values = [value.encode("latin-1") for other, value in pairs if other == wanted]
    assert QueryKey(name).key_of(Head(b"GET", target, [])) == ((values or [b""])[0] or None)

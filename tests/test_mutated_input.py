"""
A million damaged heads, PROXY headers, ClientHellos and values, and what they cost.

Whatever stands in them, there is an answer or one of our own refusals, in bounded time, and
however it is cut the same one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import partial
from itertools import product
from random import Random
from time import thread_time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.forwarded import origin_of
from stickyd.affinity.keys import CookieKey, QueryKey
from stickyd.affinity.peek.client_hello import Hello, HelloError, NotTLSError, parse_client_hello
from stickyd.affinity.peek.first_bytes import NEITHER, FirstBytes, Seen, TooLongError
from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.peek.need import Need, PeekError
from stickyd.affinity.peek.proxy_header import (
    V2_LONGEST_BYTES,
    ProxyHeaderError,
    announced,
    parse_header,
)
from stickyd.affinity.resolve import Resolver
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.trust import Networks
from stickyd.serve.http.head import FieldBlocks, RequestError
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.reader import Reader
from tests.mutation import (
    COOKIES,
    HEADS,
    PIECES,
    PROXY_HEADERS,
    SIGNER,
    STAMPS,
    VALUES,
    Mutator,
    client_hellos,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Judge = Callable[[bytes], object]

#: CPU seconds that no input may take: some ten thousand times what one takes, and a tenth of
#: what a pattern that goes back and forth takes with so many bytes.
MOST_SECONDS = 1.0

#: How long inputs are: as a head may be, by default.
LONGEST = HTTPLimits().head_bytes

TRUST = Networks.parse("10.0.0.0/8,fd00::/8")
PROXY = "10.0.0.1"
RESOLVER = Resolver(
    parse_affinity(
        "cookie:stickyd,stamp:Mcp-Session-Id,learn:cookie:session,learn:query:sid,"
        "header:X-User,query:user,path:/room/([^/]+),sni,ip"
    ),
    SIGNER,
    lambda slot: slot < 4,
    TRUST,
)


def is_canonical(host: str | None) -> bool:
    """
    Whether a host is an address as we write it, or none.
    """
    return host is None or str(ipaddress.ip_address(host)) == host


# What is asked of each kind of input.  The result is the outcome, to be compared; anything
# but the refusals that are caught here is an error.


def judge_head(data: bytes) -> object:
    """
    Look at a connection's first bytes as the primary does, and place it; and compare with
    what the worker reads.
    """
    read = as_worker(data)
    try:
        found = FirstBytes(True, True, LONGEST).feed(data)
    except TooLongError:
        return TooLongError
    if isinstance(found, Need):
        assert 1 <= found.more <= LONGEST
        return Need
    outcome = found, verdict = found, RESOLVER.resolve(PROXY, found.head, found.hello)
    assert [verdict.slot, verdict.key, verdict.learned].count(None) == 2
    assert verdict.slot is None or 0 <= verdict.slot < 4
    assert len(RESOLVER.handoff_key(verdict, PROXY, found.head)) <= 256
    head = found.head
    if head is not None and read is not None:
        assert (read.method, read.target) == (head.method, head.target)
        assert read.headers == head.headers
    return PeekError if found == NEITHER else outcome


def as_worker(data: bytes) -> Head | None:
    """
    Read a head as the worker does.
    """
    reader = Reader(FieldBlocks(HTTPLimits()))
    reader.feed(data)
    try:
        return reader.head if reader.read_head() else None
    except RequestError:
        return None


def judge_proxy_header(data: bytes) -> object:
    """
    Take a PROXY header.
    """
    begins = announced(data)
    try:
        result = parse_header(data)
    except ProxyHeaderError:
        assert not data or begins is not None
        return ProxyHeaderError
    assert begins is not False
    if isinstance(result, Need):
        assert 1 <= result.more <= V2_LONGEST_BYTES
        return Need
    assert result.length <= len(data)
    for address in (result.source, result.destination):
        if address is not None:
            assert is_canonical(address[0])
            assert 0 <= address[1] < 65536
    return result


def judge_hello(data: bytes) -> object:
    """
    Find the server name.
    """
    try:
        result = parse_client_hello(data)
    except (HelloError, NotTLSError) as refusal:
        return type(refusal)
    if isinstance(result, Need):
        assert 1 <= result.more <= 16389
        return Need
    return result


def judge_value(data: bytes) -> object:
    """
    Read a value as what it may be: a token, a stamp, a chain of proxies, cookies, a query.
    """
    slot = SIGNER.slot_of(data)
    assert slot is None or any(is_resigned(data, cookie) for cookie in COOKIES)
    stamped = SIGNER.unstamp(data)
    assert stamped is None or any(is_resigned(data, stamp) for stamp in STAMPS)
    origins = [
        origin_of(PROXY, [(name, data)], TRUST) for name in (b"x-forwarded-for", b"forwarded")
    ]
    for origin in origins:
        assert is_canonical(origin.client)
        assert origin.proto is None or origin.proto == origin.proto.lower()
    head = Head(b"GET", b"/?" + data, [(b"cookie", data)])
    keys = CookieKey("stickyd").key_of(head), QueryKey("user").key_of(head)
    return slot, stamped, origins, keys


def is_resigned(token: bytes, real: bytes) -> bool:
    """
    Whether a token is a real one, but for the two bits that its last digit has over.
    """
    return token[:-1] == real[:-1]


# What comes byte by byte.


def head_by_bytes(data: bytes) -> object:
    """
    The outcome of :func:`judge_head`, when the primary sees one byte more at a time.
    """
    first = FirstBytes(True, True, LONGEST)
    for size in range(1, len(data) + 1):
        found = first.feed(data[:size])
        if isinstance(found, Seen):
            verdict = RESOLVER.resolve(PROXY, found.head, found.hello)
            return PeekError if found == NEITHER else (found, verdict)
    return Need


def by_bytes(judge: Judge, data: bytes) -> object:
    """
    The first outcome of ever longer beginnings that decides.
    """
    for size in range(len(data)):
        outcome = judge(data[:size])
        if outcome is not Need:
            return outcome
    return judge(data)


class Kind:
    """
    A kind of input.

    :ivar share: how many of a million.
    """

    def __init__(
        self, share: int, seeds: list[bytes], judge: Judge, in_bytes: Judge | None = None
    ) -> None:
        self.share = share
        self.seeds = seeds
        self.judge = judge
        self.in_bytes = partial(by_bytes, judge) if in_bytes is None else in_bytes


KINDS: dict[str, Callable[[], Kind]] = {
    "heads": lambda: Kind(400_000, HEADS, judge_head, head_by_bytes),
    "PROXY headers": lambda: Kind(250_000, PROXY_HEADERS, judge_proxy_header),
    "ClientHellos": lambda: Kind(200_000, client_hellos(), judge_hello),
    # No part of a value is looked at before all of it is there.
    "values": lambda: Kind(150_000, VALUES, judge_value, judge_value),
}

#: One in so many is also judged byte by byte.
SAMPLE = 50


def judge_many(name: str, count: int, seed: int) -> Counter[str]:
    """
    Judge so many mutations.

    :return: how often there was what kind of outcome.
    """
    kind = KINDS[name]()
    mutator = Mutator(Random(seed), kind.seeds)
    outcomes: Counter[str] = Counter()
    slowest, what = 0.0, b""
    for number in range(count):
        data = mutator.next()
        begun = thread_time()
        outcome = kind.judge(data)
        taken = thread_time() - begun
        if taken > slowest:
            slowest, what = taken, data
        outcomes[getattr(outcome, "__name__", "answer")] += 1
        if number % SAMPLE == 0 and len(data) < 4096:
            assert kind.in_bytes(data) == outcome, data
    assert slowest < MOST_SECONDS, (slowest, what)
    return outcomes


@pytest.mark.parametrize("name", KINDS)
def test_damaged_input(name: str) -> None:
    """
    Of each kind a tenth of a million's share is answered or refused as documented, and whole
    as byte by byte; both happen often enough for the mutations to be worth it.
    """
    count = KINDS[name]().share // 10
    outcomes = judge_many(name, count, seed=1)
    assert outcomes["answer"] > count / 20
    assert name == "values" or count - outcomes["answer"] > count / 5


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_million_damaged_inputs(name: str) -> None:
    """
    All kinds together, a million of them are answered or refused as documented.
    """
    assert sum(kind().share for kind in KINDS.values()) == 1_000_000
    judge_many(name, KINDS[name]().share, seed=2)


TOKENS = st.text("!#$%&'*+-.^_`|~0189AZaz", min_size=1, max_size=12)
BLANKS = st.text(" \t", max_size=2)
TEXTS = st.binary(max_size=20).map(lambda text: text.translate(None, bytes([*range(32), 127])))
TARGETS = st.text("/?%#&=+.;az09", max_size=20).map("/".__add__)


@given(
    TARGETS,
    st.lists(st.tuples(TOKENS, BLANKS, TEXTS.map(bytes.strip), BLANKS), max_size=8),
    st.integers(0),
)
def test_whatever_a_head_says_both_sides_read(
    target: str, fields: list[tuple[str, str, bytes, str]], cut: int
) -> None:
    """
    A head of any fields is read as it was written, by the primary as by the worker, wherever it
    is cut.
    """
    fields = [field for field in fields if field[0].lower() not in SPECIAL]
    lines = [f"GET {target} HTTP/1.1".encode(), b"Host: h"]
    lines += [f"{name}:{a}".encode() + text + b.encode() for name, a, text, b in fields]
    data = b"\r\n".join([*lines, b"", b""])
    expected = [(b"host", b"h"), *((name.lower().encode(), text) for name, _, text, _ in fields)]
    first = FirstBytes(True, True, LONGEST)
    assert first.feed(data[: cut % len(data)]) == Need(1)
    found = first.feed(data)
    assert isinstance(found, Seen)
    for head in (found.head, as_worker(data)):
        assert head is not None
        assert (head.method, head.target) == (b"GET", target.encode())
        assert head.headers == expected


#: Fields that say where the request ends, or what comes after it.
SPECIAL = {"connection", "content-length", "host", "transfer-encoding", "upgrade"}


# Long input


def long_heads() -> list[bytes]:
    """
    Heads that have one piece over and over, wherever something is looked for.
    """
    places = [
        (b"", b""),
        (b"GET /", b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        (b"GET /?user=", b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        (b"GET / HTTP/1.1\r\n", b"\r\n\r\n"),
        *(
            (b"GET / HTTP/1.1\r\nHost: h\r\n" + field, end)
            for field in (b"Cookie: ", b"Mcp-Session-Id: ", b"Forwarded: ", b"X-Forwarded-For: ",
                          b"Transfer-Encoding: ", b"Transfer-Encoding: gzip", b"X-User:")
            for end in (b"\r\n\r\n", b"\rX\r\n\r\n")
        ),
    ]  # fmt: skip
    return [
        before + piece * ((LONGEST - len(before) - len(after)) // len(piece)) + after
        for (before, after), piece in product(places, LONG_PIECES)
    ]


LONG_PIECES = [
    *PIECES,
    b" \t",
    b"a",
    b"a.",
    b"a=",
    b'="',
    b'";',
    b'\\"',
    b"for=a;",
    b",for=",
    b'",',
]


def long_values() -> list[bytes]:
    """
    Values that have one piece over and over, behind and before what makes them something.
    """
    befores = [b"", b"for=10.0.0.2", b"for=a;", b'for="', COOKIES[0], STAMPS[0]]
    afters = [b"", b'"', b"\\", b";for=10.0.0.2", b"," + COOKIES[0], b"\0"]
    return [
        before + piece * ((LONGEST - 100) // len(piece)) + after
        for before, piece, after in product(befores, LONG_PIECES, afters)
    ]


@pytest.mark.parametrize(
    ("judge", "inputs"),
    [(judge_head, long_heads), (judge_value, long_values)],
    ids=["heads", "values"],
)
def test_long_input(judge: Judge, inputs: Callable[[], list[bytes]]) -> None:
    """
    Nothing that fits into a head takes time that grows faster than its length.
    """
    for data in inputs():
        begun = thread_time()
        judge(data)
        taken = thread_time() - begun
        assert taken < MOST_SECONDS, (taken, data[:60], data[-60:])


def test_mutations_are_many_and_come_again() -> None:
    """
    The same generator gives the same mutations, few of them twice, up to the longest.
    """
    first, second = (Mutator(Random(4), HEADS) for _ in range(2))
    several = [first.next() for _ in range(2000)]
    assert several == [second.next() for _ in range(2000)]
    assert len(set(several)) > 1500
    assert max(map(len, several)) > LONGEST


def test_seeds_are_sound() -> None:
    """
    What is mutated is itself in order: real names in real ClientHellos, whatever else stands
    in them and however they are scattered; tokens that hold.
    """
    names = [b"www.example.org", None, b"a.example", b"b" * 63 + b".example", None]
    scattered = [name for name in names for _ in range(3)]
    assert [judge_hello(data) for data in client_hellos()] == [
        Hello(name) for name in [*names, *names, *scattered]
    ]
    assert [SIGNER.slot_of(cookie) for cookie in COOKIES] == [0, 1, 2, 3]
    assert [SIGNER.unstamp(stamp) for stamp in STAMPS] == [
        (b"abc", 2),
        (b"a b\xff", 2),
        (b"0.1.2", 2),
    ]
    assert all(judge_proxy_header(data) is not ProxyHeaderError for data in PROXY_HEADERS)
    # llhttp leaves HTTP/2 alone.
    assert [data for data in HEADS if judge_head(data) is PeekError] == HEADS[-1:]

"""
Tests of reading request heads.
"""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.peek.http1 import (
    Head,
    HeadError,
    HeadReader,
    OtherProtocolError,
    Protocol,
    protocol_of,
    whole_head,
)
from stickyd.affinity.peek.need import Need

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def read(data: bytes) -> Head:
    """
    Read a head from the whole and byte by byte, and compare.
    """
    whole = HeadReader().feed(data)
    reader = HeadReader()
    for size in range(len(data) + 1):
        result = reader.feed(data[:size])
        if isinstance(result, Head):
            assert result == whole
            return result
        assert result.more >= 1
    raise AssertionError("the head is not complete")


def test_head() -> None:
    """
    Method, target and headers come as sent, but for the names' case and white space.
    """
    head = read(b"GET /a%20b?c=d HTTP/1.1\r\nHost:  x \t\r\nX-Empty:\r\nx-user: A b\r\n\r\n")
    assert head == Head(
        b"GET", b"/a%20b?c=d", [(b"host", b"x"), (b"x-empty", b""), (b"x-user", b"A b")]
    )


@pytest.mark.parametrize(
    "tail",
    [
        b"POST /second HTTP/1.1\r\nX-User: other\r\n\r\n",
        b"\x00 rubbish",
        b"5\r\nhello\r\n0\r\nX-User: trailer\r\n\r\n",
        b"zz",
    ],
)
@pytest.mark.parametrize(
    "extra",
    [b"", b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n"],
)
def test_what_follows_changes_nothing(extra: bytes, tail: bytes) -> None:
    """
    A body, its trailers, a pipelined request or rubbish behind the head is not looked at.
    """
    start = b"PUT /first HTTP/1.1\r\nX-User: one\r\n" + extra + b"\r\n"
    assert HeadReader().feed(start + tail) == read(start)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"CONNECT example:80 HTTP/1.1\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"PROPFIND http://example/ HTTP/1.1\r\n\r\n",
    ],
)
def test_every_kind_of_request(head: bytes) -> None:
    """
    Upgrades, tunnels, empty lines ahead and all forms of target are heads like others.
    """
    method, target, _ = head.lstrip().split(b" ", 2)
    result = read(head)
    assert (result.method, result.target) == (method, target)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.7",
        b"HTTP/1.1 200 OK\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost x\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n",
        b"GET / HTTP/9.9\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        b"PRI * HTTP/2.1\r\n\r\n",
        b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_bad_requests(data: bytes) -> None:
    """
    What llhttp refuses is the client's error, told in one line.
    """
    with pytest.raises(HeadError, match=r"^not an HTTP/1 request: \S"):
        HeadReader().feed(data)


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (PREFACE, Protocol.HTTP2),
        (b"\x16\x03\x01\x02\x00", Protocol.TLS),
        (b"\x16", Protocol.TLS),
        (b"\x00\x01", Protocol.OTHER),
        (b"\r\n\r\n\x00\r\nQUIT\n", Protocol.OTHER),
        (b"\r\n\x16\x03\x01", Protocol.OTHER),
        (b"\xff", Protocol.OTHER),
    ],
)
def test_other_protocols(data: bytes, protocol: Protocol) -> None:
    """
    A connection that does not speak HTTP/1 is told apart, so that it can be placed by address.
    """
    assert protocol_of(data) is protocol
    with pytest.raises(OtherProtocolError, match=protocol.value):
        HeadReader().feed(data)


def test_protocol_is_open_only_while_it_must_be() -> None:
    """
    Only the beginning of the HTTP/2 preface leaves open what is spoken.
    """
    for size in range(1, len(PREFACE)):
        assert protocol_of(PREFACE[:size]) == Need(len(PREFACE) - size)
        assert HeadReader().feed(PREFACE[:size]) == Need(len(PREFACE) - size)
    for data in (b"", b"\r", b"\r\n\r\n"):
        assert protocol_of(data) == Need(1)
    for data in (b"G", b"PO", b"PRO", b"\r\nP", b"g"):
        assert protocol_of(data) is Protocol.HTTP1


def test_no_garbage_is_left() -> None:
    """
    A reader that has given its head, or refused, goes at once, without the collector.
    """
    gc.disable()
    try:
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"BAD", PREFACE):
            reader = HeadReader()
            with contextlib.suppress(HeadError, OtherProtocolError):
                reader.feed(data)
            gone = weakref.ref(reader)
            del reader
            assert gone() is None
    finally:
        gc.enable()


@given(
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=80).map(lambda rest: b"GET " + rest),
        st.binary(max_size=80).map(lambda rest: b"GET / HTTP/1.1\r\n" + rest + b"\r\n\r\n"),
        st.binary(max_size=80).map(lambda rest: b"POST /" + rest + b" HTTP/1.1\r\nA: b\r\n\r\n"),
    )
)
def test_any_bytes(data: bytes) -> None:
    """
    Any bytes give a head, a need or our own error, and cut anywhere the same one.
    """

    def outcome(size: int) -> Head | Need | type[Exception]:
        reader = HeadReader()
        try:
            first = reader.feed(data[:size])
            return first if isinstance(first, Head) else reader.feed(data)
        except (HeadError, OtherProtocolError) as error:
            return type(error)

    assert len({repr(outcome(size)) for size in range(len(data) + 1)}) == 1


@given(
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=20).map(lambda rest: b"GET / HTTP/1.1\r\nA: b\r\n\r\n" + rest),
        st.binary(max_size=20).map(lambda rest: b"PRI" + rest),
        st.sampled_from([PREFACE, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"]),
        st.binary(max_size=9).map(
            lambda rest: b"GET /" + rest + b" HTTP/1.0\r\nUpgrade: a\r\n\r\n"
        ),
    )
)
def test_whole_head_is_what_a_reader_gives(data: bytes) -> None:
    """
    A head that is given at once is the one that a reader gives, which gives no other.
    """
    expected: object
    try:
        expected = HeadReader().feed(data)
    except (HeadError, OtherProtocolError):
        expected = None
    found = whole_head(data)
    if isinstance(expected, Head) and data[:1].isalpha():
        assert found == expected
    else:
        assert found is None


def test_whole_head_leaves_no_garbage() -> None:
    """
    Nothing is left for the collector, be there a head or not.
    """
    gc.collect()
    gc.disable()
    try:
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n", b"BAD\0"):
            whole_head(data)
        assert gc.collect() == 0
    finally:
        gc.enable()

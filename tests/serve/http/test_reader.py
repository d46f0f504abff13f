"""
Where requests begin and end.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.serve.http.head import (
    REMEMBERED_BLOCKS,
    REMEMBERED_BYTES,
    FieldBlocks,
    RequestError,
)
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.reader import Reader
from tests.serve.http.test_strict import ACCEPTED, REFUSED

LIMITS = HTTPLimits(head_bytes=600, head_fields=20, target_bytes=200, body_bytes=1000)

PLAIN = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
INNER = b"GET /inner HTTP/1.1\r\nHost: h\r\n\r\n"
LENGTH = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(INNER), INNER)
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"6\r\nGET / \r\n4;x=y\r\n\r\n\r\n\r\n0\r\nTrailer: GET /\r\n\r\n"
)
EMPTY = b"\r\nGET /d HTTP/1.1\r\nHost: h\r\n\r\n"
OFFER = (
    b"POST /e HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n"
    b"Content-Length: %d\r\n\r\n%b"
) % (len(INNER), INNER)

#: What each has to be read as.
READ_AS = {
    PLAIN: (b"/a", b""),
    LENGTH: (b"/b", INNER),
    CHUNKED: (b"/c", b"GET / \r\n\r\n"),
    EMPTY: (b"/d", b""),
    OFFER: (b"/e", INNER),
}


def reader() -> Reader:
    """
    Make a reader.
    """
    return Reader(FieldBlocks(LIMITS))


def read(reading: Reader, found: list[tuple[bytes, bytes]]) -> None:
    """
    Take all that is there, and add the targets and the bodies so far to those found.
    """
    while True:
        if reading.in_body:
            target, body = found[-1]
            found[-1] = target, body + reading.read_body()
            if reading.in_body:
                return
        elif reading.read_head():
            found.append((reading.line[1], b""))
        else:
            return


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """
    Cut a stream.
    """
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 900), max_size=30)


@given(st.lists(st.sampled_from(list(READ_AS)), min_size=1, max_size=6), CUTS)
def test_requests_are_found_wherever_the_stream_is_cut(order: list[bytes], cuts: list[int]) -> None:
    """
    Every request is found with its body, nothing in a body is taken for a request, and an
    offer of an upgrade makes no difference.
    """
    reading, found = reader(), list[tuple[bytes, bytes]]()
    for piece in pieces_of(b"".join(order), cuts):
        reading.feed(piece)
        read(reading, found)
    assert found == [READ_AS[request] for request in order]
    assert not reading.in_body
    assert reading.waiting_bytes == 0


@given(st.sampled_from([request for _, request in REFUSED]), CUTS)
def test_refusals_do_not_depend_on_the_cuts(refused: bytes, cuts: list[int]) -> None:
    """
    The status of a refusal is the same wherever the stream is cut, and behind other requests.
    """

    def status(pieces: list[bytes]) -> int:
        reading, found = reader(), list[tuple[bytes, bytes]]()
        with pytest.raises(RequestError) as raised:  # noqa: PT012 - any piece may be the one
            for piece in pieces:
                reading.feed(piece)
                read(reading, found)
            # What is refused for its target is refused by who serves it.
            raise RequestError(0, "not by the reader")
        return raised.value.status

    whole = status([refused])
    assert status(pieces_of(refused, cuts)) == whole
    assert status(pieces_of(PLAIN + LENGTH + refused, cuts)) == whole


@given(st.lists(st.sampled_from(ACCEPTED), min_size=1, max_size=4), CUTS)
def test_nothing_is_lost(order: list[bytes], cuts: list[int]) -> None:
    """
    What is taken and what waits is what was fed, at any time; and what waits goes on
    elsewhere as if it had never been here.
    """
    stream = b"".join(order)
    expected: list[tuple[bytes, bytes]] = []
    one = reader()
    one.feed(stream)
    read(one, expected)
    found: list[tuple[bytes, bytes]] = []
    reading = reader()
    for piece in pieces_of(stream, cuts):
        reading.feed(piece)
        read(reading, found)
        if not reading.in_body:
            rest = reading.take_rest()
            assert reading.waiting_bytes == 0
            reading = reader()
            reading.feed(rest)
    assert found == expected


@given(CUTS)
def test_head_can_be_put_back(cuts: list[int]) -> None:
    """
    A head that was read and put back is the beginning of the rest, with all behind it.
    """
    stream = PLAIN + OFFER + CHUNKED
    reading = reader()
    passed = b""
    for piece in pieces_of(stream, cuts):
        reading.feed(piece)
        if not reading.in_body and reading.read_head():
            reading.put_back()
            assert not reading.in_body
            waiting = reading.waiting_bytes
            rest = reading.take_rest()
            assert len(rest) == waiting
            assert stream[len(passed) :].startswith(rest)
            reading.feed(rest)
    assert stream.endswith(reading.take_rest())


def test_head_that_comes_byte_by_byte_is_bounded() -> None:
    """
    A head without an end is refused as soon as it is longer than it may be.
    """
    reading = reader()
    reading.feed(b"GET / HTTP/1.1\r\nX: ")
    with pytest.raises(RequestError) as refused:  # noqa: PT012 - some byte is the one
        for _ in range(601):
            assert not reading.read_head()
            reading.feed(b"x")
    assert refused.value.status == 431


def test_nothing_large_is_kept() -> None:
    """
    A body that was taken is not kept until the next request.
    """
    reading, found = reader(), list[tuple[bytes, bytes]]()
    reading.feed(LENGTH)
    read(reading, found)
    assert not reading._data


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        # A line that is malformed behind a NUL; two that show at their ends; a bare CR before them.
        (b"GET\0/ HTTP/9.9\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: \0\r\n\r\n", 505),
        (b"GET /%b HTTP/9.9\r\n\r\n" % (b"a" * 300), 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: %b\r\nY: \0\r\n\r\n" % (b"a" * 700), 431),
        (b"GET / HTTP/1.1\r\nX: \ra\r\nHost: %b\r\n\r\n" % (b"a" * 700), 400),
        # More content than may be, and a chunk that is malformed behind it.
        (
            b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n%b!"
            % (b"a" * 1001),
            413,
        ),
    ],
)
def test_fault_13_of_several_mistakes_the_first_counts(stream: bytes, status: int) -> None:
    """
    What is wrong in several ways is refused for what shows first, wherever it is cut.
    """
    for size in range(1, len(stream) + 1):
        reading, found = reader(), list[tuple[bytes, bytes]]()
        with pytest.raises(RequestError) as raised:  # noqa: PT012 - any piece may be the one
            for start in range(0, len(stream), size):
                reading.feed(stream[start : start + size])
                read(reading, found)
        assert raised.value.status == status, size


@pytest.mark.parametrize("cut", [None, 5, 30, -1])
def test_head_that_another_connection_began_with(cut: int | None) -> None:
    """
    It is not parsed again, and means the same: also what follows it, however it is cut.
    """
    blocks = FieldBlocks(LIMITS)
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    stream = head + b"xyzGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(3):
        reading = Reader(blocks)
        found: list[tuple[bytes, bytes]] = []
        for piece in [stream] if cut is None else [stream[:cut], stream[cut:]]:
            reading.feed(piece)
            read(reading, found)
        assert found == [(b"/a", b"xyz"), (b"/b", b"")]
        assert reading.dry
    reading = Reader(blocks)
    reading.feed(head)
    assert reading.read_head()
    assert reading.fields is blocks.first_heads[head][1]
    assert reading.line == (b"POST", b"/a", b"HTTP/1.1")
    assert list(blocks.first_heads) == [head]


def test_memory_of_first_heads_is_bounded() -> None:
    """
    Neither many nor large ones pile up, and what is refused is refused again.
    """
    blocks = FieldBlocks(LIMITS)

    def begin(head: bytes) -> None:
        reading = Reader(blocks)
        reading.feed(head)
        reading.read_head()

    for number in range(3 * REMEMBERED_BLOCKS):
        begin(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        assert 0 < len(blocks.first_heads) <= REMEMBERED_BLOCKS
    blocks.first_heads.clear()
    for _ in range(2):
        with pytest.raises(RequestError):
            begin(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert not blocks.first_heads
    roomy = FieldBlocks(HTTPLimits())
    reading = Reader(roomy)
    reading.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * REMEMBERED_BYTES))
    assert reading.read_head()
    assert not roomy.first_heads

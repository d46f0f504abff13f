"""
Where requests begin.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.splitting import RequestSplitter

LIMITS = HTTPLimits(head_bytes=1000)

PLAIN = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
BODY = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LENGTH = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"6\r\nGET / \r\n4;x=y\r\n\r\n\r\n\r\n0\r\nTrailer: GET /\r\n\r\n"
)
EMPTY = b"\r\nGET /d HTTP/1.1\r\nHost: h\r\n\r\n"


def split(splitter: RequestSplitter, data: bytes) -> tuple[list[bytes], bytes]:
    """
    Split as a protocol does: give the targets of the heads, and all bytes in order.
    """
    targets, passed = [], []
    while data and not splitter.opaque:
        if splitter.in_body:
            piece, data = splitter.body(data)
        else:
            head, piece, data = splitter.head(data)
            if head is not None:
                targets.append(head.target)
        passed.append(piece)
    return targets, b"".join(passed) + data


@given(
    order=st.lists(st.sampled_from([PLAIN, LENGTH, CHUNKED, EMPTY]), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 600), max_size=30),
)
def test_heads_are_found_wherever_the_stream_is_cut(order: list[bytes], cuts: list[int]) -> None:
    """
    Every head is found, nothing in a body is taken for one, and no byte is lost or added.
    """
    stream = b"".join(order)
    splitter = RequestSplitter(LIMITS)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    targets, passed = [], b""
    for start, end in pairwise(edges):
        found, piece = split(splitter, stream[start:end])
        targets += found
        passed += piece
    names = {PLAIN: b"/a", LENGTH: b"/b", CHUNKED: b"/c", EMPTY: b"/d"}
    assert targets == [names[request] for request in order]
    assert passed == stream
    assert not splitter.partial
    assert not splitter.in_body
    assert not splitter.opaque


def test_part_of_a_head_is_kept() -> None:
    """
    What has come of a head stays here until it is whole, and then comes all at once.
    """
    splitter = RequestSplitter(LIMITS)
    assert splitter.head(PLAIN[:10]) == (None, b"", b"")
    assert splitter.partial == PLAIN[:10]
    head, raw, rest = splitter.head(PLAIN[10:] + b"more")
    assert head is not None
    assert (head.method, head.target, head.headers) == (b"GET", b"/a", [(b"host", b"h")])
    assert (raw, rest, splitter.partial) == (PLAIN, b"more", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nBad Field: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1001,
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1001 + b"\r\n\r\n",
    ],
)
def test_what_is_no_head_is_opaque(data: bytes) -> None:
    """
    A broken or oversized head is passed on, for whoever serves to refuse it.
    """
    splitter = RequestSplitter(LIMITS)
    assert split(splitter, data) == ([], data)
    assert splitter.opaque


@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n",
    ],
)
def test_nothing_is_told_behind_an_upgrade(request_: bytes) -> None:
    """
    The head is looked at; what follows is no HTTP.
    """
    splitter = RequestSplitter(LIMITS)
    targets, passed = split(splitter, request_ + PLAIN)
    assert len(targets) == 1
    assert passed == request_ + PLAIN
    assert splitter.opaque


def test_other_offers_of_an_upgrade_change_nothing() -> None:
    """
    A client that offers HTTP/2, which nobody takes, goes on in HTTP/1.1.
    """
    offer = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert split(RequestSplitter(LIMITS), offer + PLAIN)[0] == [b"/a", b"/a"]


def test_broken_chunk_is_opaque() -> None:
    """
    Behind a broken chunk there is nothing to be found.
    """
    splitter = RequestSplitter(LIMITS)
    head = CHUNKED[: CHUNKED.index(b"\r\n\r\n") + 4]
    data = head + b"zz\r\n" + PLAIN
    assert split(splitter, data) == ([b"/c"], data)
    assert splitter.opaque

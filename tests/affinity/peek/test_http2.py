# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
The first request of an HTTP/2 connection, from its first bytes.
"""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.peek.http2 import FirstRequest, head_of
from stickyd.affinity.peek.need import PeekError

FIELDS = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "example.org"),
    (":path", "/room?x=1"),
    ("x-user", "alice"),
    ("cookie", "a=b"),
    ("cookie", "c=d"),
]
HEAD = Head(
    b"POST",
    b"/room?x=1",
    [(b"host", b"example.org"), (b"x-user", b"alice"), (b"cookie", b"a=b; c=d")],
)


def spoken(padding: str = "") -> bytes:
    """
    What a client sends at once: its preface, a request and a part of the body.
    """
    client = H2Connection(H2Configuration())
    client.initiate_connection()
    client.increment_flow_control_window(1 << 20)
    more = [("x-padding", padding)] if padding else []
    client.send_headers(1, [*FIELDS, *more])
    client.send_data(1, b"body")
    data: bytes = client.data_to_send()
    return data


def test_fields_are_as_in_http1() -> None:
    """
    Method and target have their places, and the authority is the host.
    """
    fields = [(name.encode(), value.encode()) for name, value in FIELDS]
    head = head_of(fields)
    assert (head.method, head.target) == (HEAD.method, HEAD.target)
    assert head.headers == [*HEAD.headers[:2], (b"cookie", b"a=b"), (b"cookie", b"c=d")]


def test_head_is_found_behind_the_preface() -> None:
    """
    In whatever comes along with it.
    """
    assert FirstRequest().feed(spoken()) == HEAD


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_head_in_pieces_is_found_with_its_last_byte(size: int) -> None:
    """
    Not sooner, also when it takes several frames.
    """
    data = spoken("x" * 40_000)
    first = FirstRequest()
    found = [first.feed(data[start : start + size]) for start in range(0, len(data), size)]
    (head,) = [head for head in found if head is not None]
    assert [pair for pair in head.headers if pair[0] != b"x-padding"] == HEAD.headers


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(20),
        # A GOAWAY instead of a request.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0" + bytes(8),
    ],
)
def test_what_is_no_request_is_told(data: bytes) -> None:
    """
    Another protocol, broken frames, and a client who leaves have no head.
    """
    with pytest.raises(PeekError):
        FirstRequest().feed(data)


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 255))
def test_mutated_bytes_do_no_harm(tail: bytes, place: int, value: int) -> None:
    """
    Whatever comes, there is a head, or none yet, or it is told that there will be none.
    """
    data = bytearray(spoken()) + tail
    data[place % len(data)] = value
    try:
        found = FirstRequest().feed(bytes(data))
    except PeekError:
        return
    assert found is None or isinstance(found, Head)

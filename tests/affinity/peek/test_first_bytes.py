"""
The first bytes of a connection.
"""

from __future__ import annotations

import pytest

from stickyd.affinity.peek.client_hello import Hello
from stickyd.affinity.peek.first_bytes import NEITHER, FirstBytes, Seen, TooLongError
from stickyd.affinity.peek.need import Need
from tests.affinity.peek.test_client_hello import client_hello

REQUEST = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def feed(data: bytes, head: bool = True, hello: bool = True, most: int = 100) -> Seen | Need:
    """
    Show all bytes at once.
    """
    return FirstBytes(head, hello, most).feed(data)


def test_head_is_read_byte_by_byte() -> None:
    """
    Every beginning of a head needs more; the whole is a head, whatever follows it.
    """
    first = FirstBytes(True, False, 100)
    for end in range(len(REQUEST)):
        assert isinstance(first.feed(REQUEST[:end]), Need)
    seen = first.feed(REQUEST + b"GET /b")
    assert isinstance(seen, Seen)
    assert seen.head is not None
    assert (seen.head.target, seen.hello) == (b"/a", None)


def test_hello_is_read() -> None:
    """
    A ClientHello is read where it is wanted.
    """
    data = client_hello("a.example")
    assert isinstance(feed(data[:-1]), Need)
    assert feed(data) == Seen(hello=Hello(b"a.example"))
    assert feed(data, hello=False) == NEITHER


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x00\x00",
        b"SSH-2.0-x\r\n",
    ],
)
def test_what_is_neither_is_left_to_the_worker(data: bytes) -> None:
    """
    Other protocols, and broken heads and hellos, are no error here.
    """
    assert feed(data) == NEITHER


def test_unwanted_head_is_not_waited_for() -> None:
    """
    Who wants only a hello has seen enough at the first letter of something else.
    """
    assert feed(b"G", head=False) == NEITHER


def test_head_has_a_bound() -> None:
    """
    A head of exactly the bound is read; one that cannot be whole within it is too long.
    """
    assert feed(REQUEST, most=len(REQUEST)) != NEITHER
    assert isinstance(feed(REQUEST[:-1], most=len(REQUEST)), Need)
    with pytest.raises(TooLongError, match="longer than 20 bytes"):
        feed(REQUEST[:20], most=20)
    with pytest.raises(TooLongError):
        feed(b"\r\n" * 50, most=100)

"""
The first bytes of a connection, whatever they are.
"""

from __future__ import annotations

from stickyd.affinity.peek.first_bytes import FirstBytes, Seen, TooLongError
from stickyd.affinity.peek.need import Need
from stickyd.affinity.peek.proxy_header import ProxyHeaderError, parse_header

_HELLO = bytes.fromhex(
    "16030100450100004103030000000000000000000000000000000000000000000000000000000000000000"
    "0000021301010000160000001200100000"
    "0d73686f702e6578616d706c65"
)

#: What is mutated.
SEEDS = (
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nCookie: stickyd=0.a.b\r\n\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\nGET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\xc0\0\2\1\x9c\x40\1\xbb",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    _HELLO,
)

HEAD_BYTES = 2000


def read(stream: bytes, step: int) -> Seen | str | None:
    """
    Read the first bytes as they come.

    :return: what they are; ``too long``; or None if more must come.
    """
    first = FirstBytes(True, True, HEAD_BYTES)
    for end in range(step, len(stream) + step, step):
        seen = stream[:end]
        try:
            found = first.feed(seen)
        except TooLongError:
            return "too long"
        if isinstance(found, Need):
            assert found.more >= 1
        else:
            return found
    return None


def proxied(stream: bytes, step: int) -> object:
    """
    Read a PROXY header as it comes.
    """
    for end in range(step, len(stream) + step, step):
        try:
            found = parse_header(stream[:end])
        except ProxyHeaderError:
            return "refused"
        if not isinstance(found, Need):
            assert found.length <= end
            return found
    return None


def check(data: bytes) -> None:
    """
    Check that first bytes are the same wherever they are cut.
    """
    if not data:
        return
    stream, step = data[1:], 1 + data[0] % 32
    if len(stream) < HEAD_BYTES:
        assert read(stream, step) == read(stream, 1), "cuts make a difference"
    assert proxied(stream, step) == proxied(stream, 1), "cuts make a difference"

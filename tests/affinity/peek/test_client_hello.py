"""
Tests of finding the server name in a ClientHello.
"""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.affinity.peek.client_hello import (
    LONGEST_HELLO_BYTES,
    MOST_RECORDS,
    Hello,
    HelloError,
    NotTLSError,
    SniKey,
    parse_client_hello,
)
from stickyd.affinity.peek.need import Need


def vector(size: int, data: bytes) -> bytes:
    """
    Put the length of data before it.
    """
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, content: bytes) -> bytes:
    """
    Build an extension.
    """
    return struct.pack("!H", kind) + vector(2, content)


def names(*entries: tuple[int, bytes]) -> bytes:
    """
    Build a server_name extension.
    """
    body = b"".join(bytes([kind]) + vector(2, name) for kind, name in entries)
    return extension(0, vector(2, body))


def body_of(extensions: bytes | None) -> bytes:
    """
    Build the body of a ClientHello.
    """
    fixed = b"\x03\x03" + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\x01") + b"\x01\x00"
    return fixed if extensions is None else fixed + vector(2, extensions)


def message_of(body: bytes) -> bytes:
    """
    Build a handshake message.
    """
    return b"\x01" + vector(3, body)


def records(message: bytes, size: int = LONGEST_HELLO_BYTES) -> bytes:
    """
    Spread a handshake message over records of a size.
    """
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def client_hello(server_name: str | None) -> bytes:
    """
    Have OpenSSL make a ClientHello.
    """
    context = ssl.create_default_context()
    context.check_hostname = server_name is not None
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def feed(data: bytes) -> Hello:
    """
    Parse byte by byte, check every Need on the way, and compare with the whole.
    """
    whole = parse_client_hello(data)
    for size in range(len(data) + 1):
        result = parse_client_hello(data[:size])
        if isinstance(result, Hello):
            assert result == whole
            return result
        assert 1 <= result.more <= len(data) - size
    raise AssertionError("the hello is not complete")


@pytest.mark.parametrize("server_name", ["www.example.org", "WWW.Example.ORG", None])
def test_hello_of_openssl(server_name: str | None) -> None:
    """
    The name in a real ClientHello is found, in lower case, whatever follows.
    """
    data = client_hello(server_name)
    expected = None if server_name is None else b"www.example.org"
    assert feed(data) == Hello(expected)
    assert parse_client_hello(data + b"\x14\x03\x03\x00\x01\x01") == Hello(expected)
    assert SniKey().key_of(feed(data)) == expected
    assert str(SniKey()) == "sni"


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        (None, None),
        (b"", None),
        (extension(16, b"\x00\x03\x02h2"), None),
        (extension(16, b"") + names((0, b"a.example")), b"a.example"),
        (names((0, b"a.example.")), b"a.example"),
        (names((1, b"\x00"), (0, b"a.example"), (0, b"b.example")), b"a.example"),
        (names((1, b"other")), None),
        (names((0, b"")), None),
        (names(), None),
        (names((0, b"a" * 255)), b"a" * 255),
    ],
)
def test_forms(extensions: bytes | None, expected: bytes | None) -> None:
    """
    The name is found among the extensions, and missed without an error.
    """
    message = message_of(body_of(extensions))
    assert feed(records(message)) == Hello(expected)


@pytest.mark.parametrize("size", [4, 5, 7, 64])
def test_fragments(size: int) -> None:
    """
    A hello spread over several records reads like one in a single record.
    """
    message = message_of(body_of(names((0, b"a.example"))))
    data = records(message, size)
    assert data.count(b"\x16\x03\x01") > 1
    assert feed(data) == Hello(b"a.example")


def test_nothing_behind_the_hello_is_awaited() -> None:
    """
    What stands behind the hello in the same record need not have come.
    """
    message = message_of(GOOD)
    data = records(message + bytes(100))
    for size in range(5 + len(message)):
        result = parse_client_hello(data[:size])
        assert isinstance(result, Need)
        assert size + result.more <= 5 + len(message)
    assert parse_client_hello(data[: 5 + len(message)]) == Hello(b"a.example")


def test_type_alone_in_a_record() -> None:
    """
    Even the four bytes of the handshake's header may be spread.
    """
    message = message_of(body_of(names((0, b"a.example"))))
    assert feed(records(message[:3], 1) + records(message[3:])) == Hello(b"a.example")


GOOD = body_of(names((0, b"a.example")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (records(message_of(b"")), "runs over"),
        (records(message_of(GOOD[:-1])), "runs over"),
        (records(message_of(GOOD[:40])), "runs over"),
        (records(message_of(body_of(b"\x00"))), "runs over"),
        (records(message_of(body_of(extension(0, b"\x00")))), "runs over"),
        (records(message_of(body_of(extension(0, b"\x00\x04\x00\x00\x09a")))), "runs over"),
        (records(message_of(body_of(names((0, b"a\x00b"))))), "not a host name"),
        (records(message_of(body_of(names((0, "\u00e9".encode()))))), "not a host name"),
        (records(message_of(body_of(names((0, b"a" * 256))))), "not a host name"),
        (records(b"\x02" + vector(3, GOOD)), "does not begin with a ClientHello"),
        (b"\x16\x03\x01\x00\x00", "record of 0 bytes"),
        (b"\x16\x03\x01\x40\x01", "record of 16385 bytes"),
        (b"\x16\x03\x01\x00\x04\x01\x00\x40\x01", "ClientHello of 16385 bytes"),
        (records(message_of(GOOD)[:9]) + b"\x17\x03\x03", "not a TLS handshake record"),
        (records(message_of(GOOD)[:9]) + b"\x16\x02", "not a TLS handshake record"),
        (records(message_of(GOOD), 1), "over more than 32 records"),
    ],
)
def test_malformed(data: bytes, reason: str) -> None:
    """
    A hello whose lengths disagree, or that is too long or too scattered, is refused.
    """
    with pytest.raises(HelloError, match=reason):
        parse_client_hello(data)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"\x80\x2e\x01", b"\x16\x02", b"\x00"])
def test_not_tls(data: bytes) -> None:
    """
    What is no TLS is told apart at the first byte that shows it.
    """
    with pytest.raises(NotTLSError):
        parse_client_hello(data)


def test_longest() -> None:
    """
    A hello of exactly the limit passes, over as many records as allowed.
    """
    rest = LONGEST_HELLO_BYTES - len(body_of(extension(21, b"")))
    message = message_of(body_of(extension(21, bytes(rest))))
    assert len(message) == 4 + LONGEST_HELLO_BYTES
    data = records(message, -(-len(message) // MOST_RECORDS))
    assert parse_client_hello(data) == Hello(None)
    assert isinstance(parse_client_hello(data[:-1]), Need)


def outcome(data: bytes) -> str:
    """
    Parse, and tell what came of it.
    """
    try:
        return repr(parse_client_hello(data))
    except (HelloError, NotTLSError) as error:
        return repr(error)


@given(
    st.one_of(
        st.binary(max_size=100),
        st.binary(max_size=100).map(lambda rest: b"\x16\x03\x01" + rest),
        st.binary(max_size=100).map(lambda body: records(message_of(body))),
        st.binary(max_size=60).map(lambda rest: records(message_of(body_of(rest)), 50)),
        st.binary(max_size=40).map(lambda rest: records(message_of(body_of(extension(0, rest))))),
    )
)
def test_any_bytes(data: bytes) -> None:
    """
    Any bytes give a hello, a need or our own error; once decided, more bytes change nothing.
    """
    decided = ""
    for size in range(len(data) + 1):
        result = outcome(data[:size])
        if decided:
            assert result == decided
        elif not result.startswith("Need"):
            decided = result


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_hello(position: int, byte: int) -> None:
    """
    A real hello with any byte damaged is read or refused, and nothing else happens.
    """
    data = bytearray(records(message_of(GOOD)))
    data[position % len(data)] = byte
    assert outcome(bytes(data)).startswith(("Hello(", "HelloError", "NotTLSError", "Need("))

"""
What works with every server, and what HPACK (RFC 7541) wants.
"""

from __future__ import annotations

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from tests.http2_conformance.talk import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PADDED,
    POST,
    PRIORITIZED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Talk,
    after_handshake,
    answered,
    body,
    broken,
    case,
    frame,
    in_pieces,
    number,
    pinged,
    raw,
    request,
    settings,
)

# Generic: a server that works.

case("generic/1/1")(lambda t: t.shake_hands())


@after_handshake("generic/2/1")
def _priority_on_idle(t: Talk) -> None:
    t.send(frame(PRIORITY, 0, 1, number(0) + b"\xff"), t.headers(1))
    t.expect_answer()


@after_handshake("generic/2/2")
def _window_update_on_half_closed(t: Talk) -> None:
    t.send(t.headers(1), frame(WINDOW_UPDATE, 0, 1, number(100)))
    t.expect_answer()


@after_handshake("generic/2/3")
def _priority_on_half_closed(t: Talk) -> None:
    t.send(t.headers(1), frame(PRIORITY, 0, 1, number(0) + b"\xff"))
    t.expect_answer()


@after_handshake("generic/2/4")
def _reset_on_half_closed(t: Talk) -> None:
    t.send(t.headers(1), frame(RST_STREAM, 0, 1, number(CANCEL)))
    t.expect_ping()


@after_handshake("generic/2/5")
def _priority_on_closed(t: Talk) -> None:
    t.send(t.headers(1))
    t.expect_answer()
    t.send(frame(PRIORITY, 0, 1, number(0) + b"\xff"))
    t.expect_ping()


answered("generic/3.1/1", request(POST, end=False), raw(body()))
answered("generic/3.1/2", request(POST, end=False), raw(body(end=False) + body()))
answered(
    "generic/3.1/3",
    request(POST, end=False),
    raw(frame(DATA, END_STREAM | PADDED, 1, b"\x08test" + bytes(8))),
)
answered("generic/3.2/1", request())
answered(
    "generic/3.2/2",
    lambda t: frame(
        HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\x08" + t.block(GET) + bytes(8)
    ),
)
answered(
    "generic/3.2/3",
    lambda t: frame(
        HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, number(0) + b"\xff" + t.block(GET)
    ),
)
answered(
    "generic/3.2/4",
    lambda t: frame(
        HEADERS,
        END_HEADERS | END_STREAM | PRIORITIZED | PADDED,
        1,
        b"\x08" + number(0) + b"\xff" + t.block(GET) + bytes(8),
    ),
)
for _index, _priority in enumerate(
    [number(0) + b"\0", number(0) + b"\xff", number(3) + b"\x0f", number(0x80000003) + b"\x0f"], 1
):
    answered(f"generic/3.3/{_index}", raw(frame(PRIORITY, 0, 1, _priority)), request())
answered("generic/3.3/5", raw(frame(PRIORITY, 0, 3, number(0) + b"\xff")), request())


@after_handshake("generic/3.4/1")
def _reset(t: Talk) -> None:
    t.send(t.headers(1, POST, False), frame(RST_STREAM, 0, 1, number(CANCEL)))
    t.expect_ping()


@after_handshake("generic/3.5/1")
def _settings(t: Talk) -> None:
    t.send(settings((MAX_CONCURRENT_STREAMS, 100), (INITIAL_WINDOW_SIZE, 70000)))
    t.expect(SETTINGS, 0, ACK)


pinged("generic/3.7/1")


@after_handshake("generic/3.8/1")
def _goaway(t: Talk) -> None:
    t.send(frame(GOAWAY, 0, 0, bytes(8)))
    t.expect_end()


answered("generic/3.9/1", raw(frame(WINDOW_UPDATE, 0, 0, number(1))), request())
answered("generic/3.9/2", request(POST, end=False), raw(frame(WINDOW_UPDATE, 0, 1, number(1))),
         raw(body()))  # fmt: skip


answered("generic/3.10/1", lambda t: in_pieces(t, 2))
answered("generic/3.10/2", lambda t: in_pieces(t, 4, [*GET, ("x", "dummy" * 10)]))
answered("generic/4/1", request())
answered("generic/4/2", request([(":method", "HEAD"), *GET[1:]]))
answered("generic/4/3", request(POST, end=False), raw(body()))
answered(
    "generic/4/4",
    request(POST, end=False),
    raw(body(end=False)),
    lambda t: t.headers(1, [("x-trailer", "test")]),
)

# Generic: HPACK.


def _huffman(text: bytes) -> bytes:
    bits = "".join(format(REQUEST_CODES[byte], f"0{REQUEST_CODES_LENGTH[byte]}b") for byte in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _plain(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _coded(text: bytes) -> bytes:
    coded = _huffman(text)
    return bytes([0x80 | len(coded)]) + coded


_SOME = b"\x82\x87\x84"  # the static table's GET, https and /
_AUTHORITY = b"\x41" + _plain(b"localhost")


def _block(name: str, more: bytes) -> None:
    answered(
        f"generic/5/{name}",
        lambda t: frame(
            HEADERS, END_HEADERS | END_STREAM, 1, _SOME + _AUTHORITY + more + t.block([])
        ),
    )


_block("1", b"")
_block("2", b"\x7a" + _plain(b"agent"))  # with indexing, indexed name
_block("3", b"\x7a" + _coded(b"agent"))
_block("4", b"\x40" + _plain(b"x-test") + _plain(b"value"))
_block("5", b"\x40" + _coded(b"x-test") + _coded(b"value"))
_block("6", b"\x0f\x2b" + _plain(b"agent"))  # without indexing, indexed name
_block("7", b"\x0f\x2b" + _coded(b"agent"))
_block("8", b"\x00" + _plain(b"x-test") + _plain(b"value"))
_block("9", b"\x00" + _coded(b"x-test") + _coded(b"value"))
_block("10", b"\x1f\x2b" + _plain(b"agent"))  # never indexed, indexed name
_block("11", b"\x1f\x2b" + _coded(b"agent"))
_block("12", b"\x10" + _plain(b"x-test") + _plain(b"value"))
_block("13", b"\x10" + _coded(b"x-test") + _coded(b"value"))


@after_handshake("generic/5/14")
def _table_size_update(t: Talk) -> None:
    block = b"\x3f\x61" + _SOME + _AUTHORITY + t.block([])  # 128 bytes
    t.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    t.expect_answer()


@after_handshake("generic/5/15")
def _two_table_size_updates(t: Talk) -> None:
    block = b"\x3f\x61\x3f\xe1\x1f" + _SOME + _AUTHORITY + t.block([])  # 128, then 4096
    t.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    t.expect_answer()


# HPACK: what cannot be decoded.


def _undecodable(name: str, block: bytes, before: bytes = _SOME + _AUTHORITY) -> None:
    broken(name, COMPRESSION_ERROR, frame(HEADERS, END_HEADERS | END_STREAM, 1, before + block))


_undecodable("hpack/2.3.3/1", b"\xc6")  # an index beyond the tables
_undecodable("hpack/2.3.3/2", b"\x7f\x90\x02" + _plain(b"x"))
_undecodable("hpack/4.2/1", b"\x3f\x61")  # a size update at the end
_undecodable("hpack/5.2/1", b"\x00\x01x\x82\x1f\xff")  # padding over 7 bits
_undecodable("hpack/5.2/2", b"\x00\x01x\x81\x18")  # padding of zeros
_undecodable("hpack/5.2/3", b"\x00\x01x\x84\xff\xff\xff\xff")  # the symbol EOS
_undecodable("hpack/6.1/1", b"\x80")  # the index 0
_undecodable("hpack/6.3/1", b"\x3f\xe2\x1f", before=b"")  # a table larger than allowed

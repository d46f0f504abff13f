# mypy: allow-untyped-calls
# (hpack is not annotated throughout.)
"""
What RFC 9113 and RFC 7541 want of a server, as h2spec asks it: one small conversation each.

The sections are those of RFC 7540, as in h2spec, with RFC 9113's where they differ in what they
want.  A conversation goes over a :class:`Talk`, whatever carries it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hpack import Encoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT = range(5)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE = 5

#: The fields of a good request; the authority is the tests' certificate's.
GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost")]
POST = [(":method", "POST"), *GET[1:]]

Pairs = list[tuple[str, str]]


class Frame(NamedTuple):
    """
    A frame that the server has sent.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """
    Make a frame.
    """
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """
    Make a SETTINGS frame.
    """
    body = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
    return frame(SETTINGS, 0, 0, body)


def number(value: int) -> bytes:
    """
    Four bytes.
    """
    return value.to_bytes(4, "big")


class Talk:
    """
    One connection, seen by its client.

    :ivar extra: fields that every good request has.
    """

    def __init__(
        self,
        say: Callable[[bytes], object],
        hear: Callable[[], bytes],
        extra: Pairs | None = None,
    ) -> None:
        """
        :param say: sends bytes; an error of the connection is not its matter.
        :param hear: gives what has come, at least a byte; nothing when the server has closed.
        """
        self._say = say
        self._hear = hear
        self._extra = extra or []
        self._heard = b""
        self._encoder = Encoder()

    def send(self, *frames: bytes) -> None:
        """
        Send frames.
        """
        self._say(b"".join(frames))

    def next(self) -> Frame | None:
        """
        Wait for a frame.

        :return: :obj:`None` if the server has closed.
        """
        while len(self._heard) < 9 or len(self._heard) < 9 + int.from_bytes(self._heard[:3], "big"):
            data = self._hear()
            if not data:
                return None
            self._heard += data
        end = 9 + int.from_bytes(self._heard[:3], "big")
        kind, flags = self._heard[3], self._heard[4]
        stream = int.from_bytes(self._heard[5:9], "big")
        payload, self._heard = self._heard[9:end], self._heard[end:]
        return Frame(kind, flags, stream, payload)

    def shake_hands(self, *pairs: tuple[int, int]) -> None:
        """
        Send the preface and settings, and wait for the server's, and its acknowledgement.
        """
        self.send(PREFACE, settings(*pairs))
        heard: set[int] = set()
        while heard != {0, ACK}:
            found = self.next()
            assert found is not None, "the server has closed"
            if found.kind == SETTINGS:
                heard.add(found.flags)
                if not found.flags:
                    self.send(frame(SETTINGS, ACK, 0))

    def block(self, fields: Pairs) -> bytes:
        """
        Make a header block.
        """
        block: bytes = self._encoder.encode([*fields, *self._extra])
        return block

    def headers(self, stream: int, fields: Pairs = GET, end: bool = True) -> bytes:
        """
        Make the HEADERS frame of a request.
        """
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream, self.block(fields))

    # What the server must do.

    def expect(self, kind: int, stream: int = 0, flags: int = 0) -> Frame:
        """
        Wait for a frame that has these flags.
        """
        while True:
            found = self.next()
            assert found is not None, "the server has closed"
            assert found.kind != GOAWAY or kind == GOAWAY, f"GOAWAY instead: {found.payload!r}"
            assert found.kind != RST_STREAM or kind == RST_STREAM, f"reset instead: {found}"
            if (found.kind, found.stream) == (kind, stream) and found.flags & flags == flags:
                return found

    def expect_answer(self, stream: int = 1) -> None:
        """
        Wait for a whole response.
        """
        found = self.expect(HEADERS, stream)
        while not found.flags & END_STREAM:
            found = self.expect(DATA, stream)

    def expect_ping(self, data: bytes = b"h2spec\0\0") -> None:
        """
        See that the connection goes on.
        """
        self.send(frame(PING, 0, 0, data))
        assert self.expect(PING, 0, ACK).payload == data

    def expect_connection_error(self, *codes: int) -> None:
        """
        Wait for a GOAWAY with one of these codes, and then the end.
        """
        code = None
        while (found := self.next()) is not None:
            if found.kind == GOAWAY:
                code = int.from_bytes(found.payload[4:8], "big")
        assert code in codes, f"GOAWAY {code}"

    def expect_stream_error(self, *codes: int) -> None:
        """
        Wait for a RST_STREAM or a GOAWAY with one of these codes.
        """
        while True:
            found = self.next()
            assert found is not None, "the server has closed and said nothing"
            if found.kind == RST_STREAM:
                assert int.from_bytes(found.payload, "big") in codes
                return
            if found.kind == GOAWAY:
                assert int.from_bytes(found.payload[4:8], "big") in codes
                return

    def expect_end(self) -> None:
        """
        Wait for the end of the connection.
        """
        while self.next() is not None:
            pass


CASES: dict[str, Callable[[Talk], None]] = {}


def case(name: str) -> Callable[[Callable[[Talk], None]], Callable[[Talk], None]]:
    """
    Remember a conversation by its number in h2spec.
    """

    def remember(talk: Callable[[Talk], None]) -> Callable[[Talk], None]:
        assert name not in CASES
        CASES[name] = talk
        return talk

    return remember


def after_handshake(name: str) -> Callable[[Callable[[Talk], None]], Callable[[Talk], None]]:
    """
    The same, for those that begin with a plain handshake.
    """

    def remember(talk: Callable[[Talk], None]) -> Callable[[Talk], None]:
        def whole(with_server: Talk) -> None:
            with_server.shake_hands()
            talk(with_server)

        case(name)(whole)
        return talk

    return remember


def answered(name: str, *more: Callable[[Talk], bytes]) -> None:
    """
    A request, and what must not hinder its answer: each piece is sent as it is.
    """

    def talk(t: Talk) -> None:
        t.shake_hands()
        t.send(*(piece(t) for piece in more))
        t.expect_answer()

    case(name)(talk)


def pinged(name: str, *pieces: bytes) -> None:
    """
    What is ignored.
    """

    def talk(t: Talk) -> None:
        t.shake_hands()
        t.send(*pieces)
        t.expect_ping()

    case(name)(talk)


def broken(name: str, codes: int | tuple[int, ...], *more: bytes | Callable[[Talk], bytes]) -> None:
    """
    What ends the connection.
    """
    several = codes if isinstance(codes, tuple) else (codes,)

    def talk(t: Talk) -> None:
        t.shake_hands()
        t.send(*(piece if isinstance(piece, bytes) else piece(t) for piece in more))
        t.expect_connection_error(*several)

    case(name)(talk)


def refused(name: str, codes: int | tuple[int, ...], *more: Callable[[Talk], bytes]) -> None:
    """
    What ends a stream, or with it the connection.
    """
    several = codes if isinstance(codes, tuple) else (codes,)

    def talk(t: Talk) -> None:
        t.shake_hands()
        t.send(*(piece(t) for piece in more))
        t.expect_stream_error(*several)

    case(name)(talk)


def request(fields: Pairs = GET, stream: int = 1, end: bool = True) -> Callable[[Talk], bytes]:
    """
    A request of a conversation.
    """
    return lambda t: t.headers(stream, fields, end)


def raw(data: bytes) -> Callable[[Talk], bytes]:
    """
    Bytes of a conversation.
    """
    return lambda t: data


def body(data: bytes = b"test", end: bool = True, stream: int = 1) -> bytes:
    """
    A DATA frame.
    """
    return frame(DATA, END_STREAM if end else 0, stream, data)


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


def _in_pieces(t: Talk, pieces: int, fields: Pairs = GET) -> bytes:
    block = t.block(fields)
    step = -(-len(block) // pieces)
    parts = [block[start : start + step] for start in range(0, len(block), step)]
    frames = [frame(HEADERS, END_STREAM, 1, parts[0])]
    frames += [frame(CONTINUATION, 0, 1, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
    return b"".join(frames)


answered("generic/3.10/1", lambda t: _in_pieces(t, 2))
answered("generic/3.10/2", lambda t: _in_pieces(t, 4, [*GET, ("x", "dummy" * 10)]))
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

# HTTP/2, section by section.


@case("http2/3.5/1")
def _preface(t: Talk) -> None:
    t.send(PREFACE, settings())
    first = t.next()
    assert first is not None
    assert (first.kind, first.flags) == (SETTINGS, 0)


@case("http2/3.5/2")
def _no_preface(t: Talk) -> None:
    t.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    t.expect_connection_error(PROTOCOL_ERROR)


pinged("http2/4.1/1", frame(0x16, 0, 0, b"12345678"))


@after_handshake("http2/4.1/2")
def _undefined_flags(t: Talk) -> None:
    t.send(frame(PING, 0x16, 0, b"12345678"))
    assert t.expect(PING, 0, ACK).payload == b"12345678"


@after_handshake("http2/4.1/3")
def _reserved_bit(t: Talk) -> None:
    t.send(frame(PING, 0, 0x80000000, b"12345678"))
    assert t.expect(PING, 0, ACK).payload == b"12345678"


answered("http2/4.2/1", request(POST, end=False), raw(body(bytes(16384))))
broken("http2/4.2/2", FRAME_SIZE_ERROR, request(POST, end=False), body(bytes(16385)))
broken("http2/4.2/3", FRAME_SIZE_ERROR,
       lambda t: t.headers(1, [*GET, *[(f"x-{n}", "dummy" * 800) for n in range(6)]]))  # fmt: skip
broken("http2/4.3/1", COMPRESSION_ERROR, frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x81"))
broken(
    "http2/4.3/2",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_STREAM, 1, t.block(GET)),
    frame(PRIORITY, 0, 1, number(0) + b"\xff"),
)
broken(
    "http2/4.3/3",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_STREAM, 1, t.block(GET)),
    lambda t: t.headers(3),
)

broken("http2/5.1/1", PROTOCOL_ERROR, body())
broken("http2/5.1/2", PROTOCOL_ERROR, frame(RST_STREAM, 0, 1, number(CANCEL)))
broken("http2/5.1/3", PROTOCOL_ERROR, frame(WINDOW_UPDATE, 0, 1, number(100)))
broken("http2/5.1/4", PROTOCOL_ERROR, lambda t: frame(CONTINUATION, END_HEADERS, 1, t.block(GET)))
refused("http2/5.1/5", STREAM_CLOSED, request(), raw(body()))
refused("http2/5.1/6", STREAM_CLOSED, request(), request())
broken(
    "http2/5.1/7",
    (STREAM_CLOSED, PROTOCOL_ERROR),
    request(),
    lambda t: frame(CONTINUATION, END_HEADERS, 1, t.block([("x", "y")])),
)


def _after_reset(name: str, codes: tuple[int, ...], more: Callable[[Talk], bytes]) -> None:
    @after_handshake(name)
    def talk(t: Talk) -> None:
        t.send(t.headers(1, POST, False), frame(RST_STREAM, 0, 1, number(CANCEL)), more(t))
        t.expect_stream_error(*codes)


_after_reset("http2/5.1/8", (STREAM_CLOSED,), raw(body()))
_after_reset("http2/5.1/9", (STREAM_CLOSED,), request())
_after_reset(
    "http2/5.1/10",
    (STREAM_CLOSED, PROTOCOL_ERROR),
    lambda t: frame(CONTINUATION, END_HEADERS, 1, t.block([("x", "y")])),
)


def _after_answer(name: str, more: Callable[[Talk], bytes], *codes: int) -> None:
    @after_handshake(name)
    def talk(t: Talk) -> None:
        t.send(t.headers(1))
        t.expect_answer()
        t.send(more(t))
        t.expect_stream_error(*codes)


_after_answer("http2/5.1/11", raw(body()), STREAM_CLOSED)
_after_answer("http2/5.1/12", request(), STREAM_CLOSED)
_after_answer(
    "http2/5.1/13",
    lambda t: frame(CONTINUATION, END_HEADERS, 1, t.block([("x", "y")])),
    STREAM_CLOSED,
    PROTOCOL_ERROR,
)
broken("http2/5.1.1/1", PROTOCOL_ERROR, request(stream=2))
broken("http2/5.1.1/2", PROTOCOL_ERROR, request(stream=5), request(stream=3))


@case("http2/5.1.2/1")
def _too_many_streams(t: Talk) -> None:
    t.send(PREFACE, settings())
    t.expect(SETTINGS)
    t.send(frame(SETTINGS, ACK, 0), *(t.headers(1 + 2 * n, POST, False) for n in range(101)))
    t.expect_stream_error(PROTOCOL_ERROR, REFUSED_STREAM)


refused(
    "http2/5.3.1/1",
    PROTOCOL_ERROR,
    lambda t: frame(
        HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, number(1) + b"\xff" + t.block(GET)
    ),
)
refused("http2/5.3.1/2", PROTOCOL_ERROR, raw(frame(PRIORITY, 0, 2, number(2) + b"\xff")))
broken("http2/5.4.1/1", FRAME_SIZE_ERROR, frame(PING, 0, 0, b"123456"))
broken("http2/5.4.1/2", PROTOCOL_ERROR, frame(PING, 0, 1, b"12345678"))
pinged("http2/5.5/1", frame(0xFF, 0, 0, b"12345678"))
broken(
    "http2/5.5/2",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_STREAM, 1, t.block(GET)),
    frame(0xFF, 0, 0, b"12345678"),
)

broken("http2/6.1/1", PROTOCOL_ERROR, request(POST, end=False), body(stream=0))
refused("http2/6.1/2", STREAM_CLOSED, request(), raw(body()))
broken(
    "http2/6.1/3",
    PROTOCOL_ERROR,
    request(POST, end=False),
    frame(DATA, END_STREAM | PADDED, 1, b"\x06Test"),
)
broken(
    "http2/6.2/1",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_STREAM, 1, t.block(GET)),
    frame(PRIORITY, 0, 1, number(0) + b"\xff"),
)
broken(
    "http2/6.2/2",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_STREAM, 1, t.block(GET)),
    lambda t: t.headers(3),
)
broken(
    "http2/6.2/3",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_HEADERS | END_STREAM, 0, t.block(GET)),
)
broken(
    "http2/6.2/4",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + t.block(GET)),
)
broken("http2/6.3/1", PROTOCOL_ERROR, frame(PRIORITY, 0, 0, number(0) + b"\xff"))
refused("http2/6.3/2", FRAME_SIZE_ERROR, raw(frame(PRIORITY, 0, 1, number(0x80000001)[:4])))
broken("http2/6.4/1", PROTOCOL_ERROR, request(), frame(RST_STREAM, 0, 0, number(CANCEL)))
broken("http2/6.4/2", PROTOCOL_ERROR, frame(RST_STREAM, 0, 1, number(CANCEL)))
broken("http2/6.4/3", FRAME_SIZE_ERROR, request(POST, end=False), frame(RST_STREAM, 0, 1, b"\0\0"))
broken("http2/6.5/1", FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, b"\0"))
broken("http2/6.5/2", PROTOCOL_ERROR, frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64"))
broken("http2/6.5/3", FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, b"\0\3\0"))
broken("http2/6.5.2/1", PROTOCOL_ERROR, settings((ENABLE_PUSH, 2)))
broken("http2/6.5.2/2", FLOW_CONTROL_ERROR, settings((INITIAL_WINDOW_SIZE, 2**31)))
broken("http2/6.5.2/3", PROTOCOL_ERROR, settings((MAX_FRAME_SIZE, 16383)))
broken("http2/6.5.2/4", PROTOCOL_ERROR, settings((MAX_FRAME_SIZE, 2**24)))
pinged("http2/6.5.2/5", settings((0xFF, 1)))


@after_handshake("http2/6.5.3/1")
def _settings_in_order(t: Talk) -> None:
    t.send(settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)), t.headers(1))
    t.expect(SETTINGS, 0, ACK)
    found = t.expect(DATA, 1)
    assert len(found.payload) == 1


@after_handshake("http2/6.5.3/2")
def _settings_at_once(t: Talk) -> None:
    t.send(settings((ENABLE_PUSH, 0)))
    t.expect(SETTINGS, 0, ACK)


pinged("http2/6.7/1")


@after_handshake("http2/6.7/2")
def _ping_ack(t: Talk) -> None:
    t.send(frame(PING, ACK, 0, b"invalid\0"))
    t.expect_ping(b"h2spec\0\0")


broken("http2/6.7/3", PROTOCOL_ERROR, frame(PING, 0, 1, b"12345678"))
broken("http2/6.7/4", FRAME_SIZE_ERROR, frame(PING, 0, 0, b"123456"))
broken("http2/6.8/1", PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8)))
broken("http2/6.9/1", PROTOCOL_ERROR, frame(WINDOW_UPDATE, 0, 0, number(0)))
refused("http2/6.9/2", PROTOCOL_ERROR, request(POST, end=False),
        raw(frame(WINDOW_UPDATE, 0, 1, number(0))))  # fmt: skip
broken("http2/6.9/3", FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"))


@case("http2/6.9.1/1")
def _one_byte_of_window(t: Talk) -> None:
    t.shake_hands((INITIAL_WINDOW_SIZE, 1))
    t.send(t.headers(1))
    assert len(t.expect(DATA, 1).payload) == 1


broken("http2/6.9.1/2", FLOW_CONTROL_ERROR,
       frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)) * 2)  # fmt: skip
refused(
    "http2/6.9.1/3",
    FLOW_CONTROL_ERROR,
    request(POST, end=False),
    raw(frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1)) * 2),
)


@case("http2/6.9.2/1")
def _wider_by_settings(t: Talk) -> None:
    t.shake_hands((INITIAL_WINDOW_SIZE, 0))
    t.send(t.headers(1))
    t.expect(HEADERS, 1)
    t.send(settings((INITIAL_WINDOW_SIZE, 1)))
    assert len(t.expect(DATA, 1).payload) == 1


@case("http2/6.9.2/2")
def _negative_window(t: Talk) -> None:
    t.shake_hands((INITIAL_WINDOW_SIZE, 3))
    t.send(t.headers(1))
    assert len(t.expect(DATA, 1).payload) == 3
    t.send(settings((INITIAL_WINDOW_SIZE, 2)))
    t.expect(SETTINGS, 0, ACK)
    t.send(frame(WINDOW_UPDATE, 0, 1, number(2)))
    assert len(t.expect(DATA, 1).payload) == 1


broken("http2/6.9.2/3", FLOW_CONTROL_ERROR, settings((INITIAL_WINDOW_SIZE, 2**31)))
answered("http2/6.10/1", lambda t: _in_pieces(t, 5, [*GET, ("x", "dummy" * 10)]))
broken(
    "http2/6.10/2",
    PROTOCOL_ERROR,
    lambda t: frame(HEADERS, END_STREAM, 1, t.block(GET)) + body(),
)
broken(
    "http2/6.10/3",
    PROTOCOL_ERROR,
    lambda t: (
        frame(HEADERS, END_STREAM, 1, t.block(GET))
        + frame(CONTINUATION, END_HEADERS, 0, t.block([("x", "y")]))
    ),
)
broken(
    "http2/6.10/4",
    PROTOCOL_ERROR,
    lambda t: (
        t.headers(1, POST, False) + frame(CONTINUATION, END_HEADERS, 1, t.block([("x", "y")]))
    ),
)
broken(
    "http2/6.10/5",
    PROTOCOL_ERROR,
    lambda t: (
        frame(HEADERS, END_STREAM, 1, t.block(GET))
        + frame(CONTINUATION, END_HEADERS, 1, t.block([("x", "y")]))
        + frame(CONTINUATION, END_HEADERS, 1, t.block([("z", "y")]))
    ),
)
broken(
    "http2/6.10/6",
    PROTOCOL_ERROR,
    lambda t: (
        t.headers(1, POST, False)
        + body(end=False)
        + frame(CONTINUATION, END_HEADERS, 1, t.block([("x", "y")]))
    ),
)


@after_handshake("http2/7/1")
def _unknown_code_of_goaway(t: Talk) -> None:
    t.send(frame(GOAWAY, 0, 0, number(0) + number(0xFF)))
    t.expect_end()


@after_handshake("http2/7/2")
def _unknown_code(t: Talk) -> None:
    t.send(t.headers(1, POST, False), frame(RST_STREAM, 0, 1, number(0xFF)))
    t.expect_ping()


# Malformed messages.


def _malformed(name: str, fields: Pairs) -> None:
    refused(name, PROTOCOL_ERROR, request(fields))


refused(
    "http2/8.1/1",
    PROTOCOL_ERROR,
    request(POST, end=False),
    raw(body(end=False)),
    lambda t: t.headers(1, [("x-trailer", "y")], False),
)
_malformed("http2/8.1.2/1", [*GET, ("X-TEST", "ok")])
_malformed("http2/8.1.2.1/1", [*GET, (":test", "ok")])
_malformed("http2/8.1.2.1/2", [*GET, (":status", "200")])
refused(
    "http2/8.1.2.1/3",
    PROTOCOL_ERROR,
    request(POST, end=False),
    raw(body(end=False)),
    lambda t: t.headers(1, [(":method", "200")]),
)
_malformed("http2/8.1.2.1/4", [*GET[:3], ("x-test", "ok"), GET[3]])
_malformed("http2/8.1.2.2/1", [*GET, ("connection", "keep-alive")])
_malformed("http2/8.1.2.2/2", [*GET, ("te", "trailers, deflate")])
_malformed("http2/8.1.2.3/1", [(n, "" if n == ":path" else v) for n, v in GET])
_malformed("http2/8.1.2.3/2", [pair for pair in GET if pair[0] != ":method"])
_malformed("http2/8.1.2.3/3", [pair for pair in GET if pair[0] != ":scheme"])
_malformed("http2/8.1.2.3/4", [pair for pair in GET if pair[0] != ":path"])
_malformed("http2/8.1.2.3/5", [GET[0], *GET])
_malformed("http2/8.1.2.3/6", [*GET, GET[1]])
_malformed("http2/8.1.2.3/7", [*GET, GET[2]])
refused(
    "http2/8.1.2.6/1",
    PROTOCOL_ERROR,
    request([*POST, ("content-length", "1")], end=False),
    raw(body(b"test")),
)
refused(
    "http2/8.1.2.6/2",
    PROTOCOL_ERROR,
    request([*POST, ("content-length", "1")], end=False),
    raw(body(b"te", end=False) + body(b"st")),
)
broken("http2/8.2/1", PROTOCOL_ERROR,
       lambda t: frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + t.block(GET)))  # fmt: skip

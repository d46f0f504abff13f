# mypy: allow-untyped-calls
# (hpack is not annotated throughout.)
"""
One conversation with a server of HTTP/2, and how its kinds are written down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hpack import Encoder

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


def in_pieces(t: Talk, pieces: int, fields: Pairs = GET) -> bytes:
    """
    A request whose head is one HEADERS frame and some CONTINUATION frames.
    """
    block = t.block(fields)
    step = -(-len(block) // pieces)
    parts = [block[start : start + step] for start in range(0, len(block), step)]
    frames = [frame(HEADERS, END_STREAM, 1, parts[0])]
    frames += [frame(CONTINUATION, 0, 1, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
    return b"".join(frames)

"""
What RFC 9113 wants of a server, section by section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.http2_conformance.talk import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Pairs,
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
    refused,
    request,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable


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
answered("http2/6.10/1", lambda t: in_pieces(t, 5, [*GET, ("x", "dummy" * 10)]))
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

"""
Frames of the bus: whatever the cut, what was written is read; what is none is refused.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.errors import BusLimitError, FrameError
from stickyd.messaging.frame import (
    CHANNEL_BYTES,
    HEADER,
    PAYLOAD_BYTES,
    FrameBuffer,
    Kind,
    channel_name,
    encode,
    encode_number,
    number_in,
    payload_in,
    payload_of,
)

NAMES = st.text(min_size=1, max_size=60).filter(
    lambda text: not any(0xD800 <= ord(character) < 0xE000 for character in text)
)
MESSAGES = st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=20)


@given(MESSAGES, st.lists(st.integers(1, 400), min_size=1))
def test_read_what_was_written(messages: list[tuple[str, bytes]], cuts: list[int]) -> None:
    """
    However the stream is cut, the same frames come out, and nothing is left.
    """
    names = [channel_name(name) for name, _ in messages]
    written = [
        encode(Kind.PUBLISH, name, data) for name, (_, data) in zip(names, messages, strict=True)
    ]
    stream, buffer, read, number = b"".join(written), FrameBuffer(), [], 0
    while stream:
        cut = cuts[number % len(cuts)]
        read += buffer.feed(stream[:cut])
        stream, number = stream[cut:], number + 1
    assert [whole for _, _, whole in read] == written
    assert [(name.decode(), payload_in(frame)) for frame in read for name in [frame[1]]] == messages
    assert buffer.unread == b""


def test_byte_by_byte_and_over_an_upgrade() -> None:
    """
    A frame comes out with its last byte, also if another object has read the first ones.
    """
    frame = encode(Kind.PUBLISH, b"news", b"x" * 300)
    for cut in range(len(frame)):
        former = FrameBuffer()
        for byte in frame[:cut]:
            assert former.feed(bytes([byte])) == []
        buffer = FrameBuffer(former.unread)
        for byte in frame[cut:-1]:
            assert buffer.feed(bytes([byte])) == []
        assert buffer.feed(frame[-1:]) == [(Kind.PUBLISH, b"news", frame)]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (HEADER.pack(4, 0, 1), "unknown kind 0"),
        (HEADER.pack(4, 99, 1), "unknown kind 99"),
        (b"GET / HTTP/1.1\r\n\r\n", "unknown kind"),
        (HEADER.pack(3, Kind.PUBLISH, 4), "a name of 4 bytes in a frame of 3"),
        (HEADER.pack(PAYLOAD_BYTES + 5, Kind.PUBLISH, 4), f"payload of {PAYLOAD_BYTES + 1} bytes"),
        (HEADER.pack(2**32 - 1, Kind.PUBLISH, 1), "payload of"),
        (HEADER.pack(9, Kind.SYNC, 1), "a number of 9 bytes"),
        (HEADER.pack(7, Kind.SYNC, 0), "a number of 7 bytes"),
    ],
)
def test_garbage_is_refused_by_its_header(wrong: bytes, complaint: str) -> None:
    """
    It is not waited for what such a frame announces.
    """
    buffer = FrameBuffer()
    good = encode(Kind.PUBLISH, b"a", b"b")
    buffer.feed(good + wrong[:3])
    with pytest.raises(FrameError, match=complaint):
        buffer.feed(wrong[3:])


@given(st.binary(max_size=400))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    """
    Nothing else can happen.
    """
    try:
        frames = FrameBuffer().feed(data)
    except FrameError:
        return
    assert data.startswith(b"".join(whole for _, _, whole in frames))


def test_largest_message_passes() -> None:
    """
    The bound is one of what is allowed.
    """
    frame = encode(Kind.PUBLISH, b"c" * CHANNEL_BYTES, bytes(PAYLOAD_BYTES))
    buffer = FrameBuffer()
    assert not buffer.feed(frame[:100_000])
    assert [len(whole) for _, _, whole in buffer.feed(frame[100_000:])] == [len(frame)]


def test_numbers() -> None:
    """
    A number comes back.
    """
    (frame,) = FrameBuffer().feed(encode_number(Kind.SYNC, 2**64 - 1))
    assert number_in(frame) == 2**64 - 1


def test_names_and_payloads_are_bounded() -> None:
    """
    Each bad one is one clear error.
    """
    assert channel_name("ü" * 127) == b"\xc3\xbc" * 127
    for name, complaint in (
        ("", "must not be empty"),
        ("ü" * 128, "has 256 bytes in UTF-8, and 255 are the most"),
        ("\ud800", "UTF-8 cannot write"),
    ):
        with pytest.raises(BusLimitError, match=complaint):
            channel_name(name)
    with pytest.raises(TypeError, match="a str, not bytes"):
        channel_name(b"news")  # type: ignore[arg-type]
    assert payload_of(memoryview(b"abc")) == payload_of(bytearray(b"abc")) == b"abc"
    with pytest.raises(BusLimitError, match="4194305 bytes, and 4194304 are the most"):
        payload_of(bytes(PAYLOAD_BYTES + 1))
    with pytest.raises(TypeError, match="bytes, not str; publish_json"):
        payload_of("text")  # type: ignore[arg-type]

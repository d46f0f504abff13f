"""
Frames of the handoff channel.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.errors import FrameError, SettingError
from stickyd.handoff import frame
from stickyd.handoff.frame import MAX_UNREAD_BYTES, Handoff, Kind
from stickyd.net.stream import READ_BYTES
from stickyd.settings import Settings

_NAMES = st.characters(exclude_characters="\0", codec="utf-8")


@given(
    host=st.text(_NAMES, max_size=60),
    port=st.integers(0, 65535),
    key=st.binary(max_size=300),
    unread=st.binary(max_size=2000),
    slot=st.integers(0, 0xFFFF),
    sequence=st.integers(0, 2**64 - 1),
    flags=st.integers(0, 255),
    local=st.none() | st.tuples(st.text(_NAMES, max_size=60), st.integers(0, 65535)),
)
def test_handoff_survives_the_wire(
    host: str,
    port: int,
    key: bytes,
    unread: bytes,
    slot: int,
    sequence: int,
    flags: int,
    local: tuple[str, int] | None,
) -> None:
    """
    What is decoded from a frame is what was encoded, whatever follows in the buffer.
    """
    handoff = Handoff(7, host, port, key, unread, slot, flags=flags)
    handoff.local = local
    handoff.sequence = sequence
    encoded = frame.encode_handoff(handoff)
    buffer = bytearray(encoded + b"rest of an older frame")
    assert frame.decode(buffer, len(encoded)) == (Kind.HANDOFF, sequence, 0)
    got = frame.decode_handoff(buffer, len(encoded), 9)
    assert (got.host, got.port, got.key, got.unread) == (host, port, key, unread)
    assert (got.slot, got.sequence, got.descriptor, got.purpose) == (slot, sequence, 9, 1)
    assert (got.flags, got.local) == (flags, local)


@given(sequence=st.integers(0, 2**64 - 1), window=st.integers(0, 0xFFFF))
def test_ack_and_nack_survive_the_wire(sequence: int, window: int) -> None:
    """
    An ACK carries its sequence and its window, a NACK its sequence.
    """
    ack = frame.encode_ack(sequence, window)
    assert frame.decode(ack, len(ack)) == (Kind.ACK, sequence, window)
    nack = frame.encode_nack(sequence)
    assert frame.decode(nack, len(nack)) == (Kind.NACK, sequence, 0)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_frame_or_a_frame_error(data: bytes) -> None:
    """
    No message makes the decoder raise anything but its own error.
    """
    try:
        kind, _, _ = frame.decode(data, len(data))
        if kind == Kind.HANDOFF:
            frame.decode_handoff(data, len(data), 3)
    except FrameError:
        pass


def test_every_truncation_of_a_handoff_is_refused() -> None:
    """
    A handoff that is cut anywhere before its unread bytes is no frame.
    """
    whole = frame.encode_handoff(Handoff(7, "192.0.2.1", 4000, b"key"))
    for size in range(len(whole)):
        with pytest.raises(FrameError):
            frame.decode(whole[:size], size)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x02" + frame.encode_ack(1, 1)[1:], "version 2"),
        (b"\x01\x09" + frame.encode_ack(1, 1)[2:], "unknown kind 9"),
        (frame.encode_ack(1, 1) + b"x", "1 bytes too many behind a ACK"),
        (b"", "shorter than its header"),
    ],
)
def test_foreign_messages_are_named(data: bytes, complaint: str) -> None:
    """
    A message that is no frame of ours is refused with what is wrong about it.
    """
    with pytest.raises(FrameError, match=complaint):
        frame.decode(data, len(data))


@pytest.mark.parametrize(
    "address", [b"192.0.2.1\0port", b"192.0.2.1:4000", b"h\x0012\x00local.abc"]
)
def test_malformed_address_is_refused(address: bytes) -> None:
    """
    An address without a port number is a frame error, not a crash.
    """
    whole = bytearray(frame.encode_handoff(Handoff(7, "192.0.2.1", 4000, b"")))
    whole[-len(address) :] = address
    with pytest.raises(FrameError, match="malformed address"):
        frame.decode_handoff(whole, len(whole), 3)


def test_too_many_unread_bytes_are_refused_before_they_are_sent() -> None:
    """
    A frame larger than the channel takes is an error of the sender.
    """
    with pytest.raises(FrameError, match="do not fit"):
        frame.encode_handoff(Handoff(7, "", 0, b"", b"x" * (frame.MAX_UNREAD_BYTES + 1)))


def test_handoff_shows_who_it_is_for() -> None:
    """
    The representation names client, descriptor and sequence.
    """
    assert repr(Handoff(7, "192.0.2.1", 4000, b"")) == (
        "<Handoff 192.0.2.1:4000 descriptor=7 sequence=0>"
    )


def test_fault_3_what_may_have_been_read_fits() -> None:
    """
    A request for another slot is never reset for what stands before and behind it: the longest
    head that may be set, and one read.
    """
    most = Settings.read({"head_bytes": 65536}).head_bytes
    with pytest.raises(SettingError):
        Settings.read({"head_bytes": most + 1})
    assert most + READ_BYTES <= MAX_UNREAD_BYTES

"""
What a worker may send on its handoff channel: any frame is a message, or is refused.
"""

from __future__ import annotations

import os
import socket

from stickyd.errors import FrameError
from stickyd.handoff.admission import admit_from_worker
from stickyd.handoff.frame import (
    Handoff,
    Kind,
    decode,
    decode_handoff,
    encode_ack,
    encode_handoff,
    encode_nack,
    say_secure,
)

_SECURE = Handoff(3, "2001:db8::7", 1, b"")
say_secure(_SECURE, ("2001:db8::1", 443))

#: What is mutated.
SEEDS = (
    encode_handoff(Handoff(3, "192.0.2.7", 40000, b"\xc0\0\2\7", b"GET / HTTP/1.1\r\n", slot=1)),
    encode_handoff(_SECURE),
    encode_handoff(Handoff(3, "", 0, b"")),
    encode_ack(7, 64),
    encode_nack(9),
)


def check(data: bytes) -> None:
    """
    Check that a frame is refused with a :exc:`FrameError`, or means the same when it is
    encoded again; and that what is refused has not taken the descriptor.
    """
    frame = data[1:]
    try:
        kind, sequence, _ = decode(frame, len(frame))
    except FrameError:
        return
    if kind != Kind.HANDOFF:
        return
    ours, theirs = socket.socketpair()
    with ours, theirs:
        descriptor = os.dup(ours.fileno())
        try:
            handoff = decode_handoff(frame, len(frame), descriptor)
            assert handoff.sequence == sequence
            again = encode_handoff(handoff)
            decode(again, len(again))
            assert repr(decode_handoff(again, len(again), descriptor)) == repr(handoff)
            admit_from_worker(handoff)
        except FrameError:
            pass
        finally:
            os.close(descriptor)  # which fails if somebody has closed it

"""
What the primary lets a worker hand back.
"""

from __future__ import annotations

import socket

import pytest

from stickyd.handoff.admission import admit_from_worker
from stickyd.handoff.frame import Flag, Handoff

FLAGS = sorted(value for name, value in vars(Flag).items() if name.isupper())


@pytest.mark.parametrize("flags", FLAGS)
def test_every_flag_may_come_back(flags: int) -> None:
    """
    A connection goes back with what was known of it: that a proxy has spoken TLS with its client,
    too.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        admit_from_worker(Handoff(ours.fileno(), "", 0, b"key", flags=flags))

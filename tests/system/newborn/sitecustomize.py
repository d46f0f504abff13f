"""
Holds a worker at the gate before it has run a line of its own.

Python imports a module of this name when it starts, if it is on the path.
"""

from __future__ import annotations

import os
import socket

from tests.system.birth import at_birth


def hold() -> None:
    """
    Arrive at the gate, and wait until it opens.
    """
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ["STICKYD_TEST_GATE"])
        gate.recv(1)


at_birth(hold)

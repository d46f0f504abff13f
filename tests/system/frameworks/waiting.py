"""
A function that blocks its thread until the test lets it go.
"""

from __future__ import annotations

import os
import socket

from tests.system.gate import VARIABLE


def wait_at_gate() -> None:
    """
    Arrive, and return when the gate opens.
    """
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ[VARIABLE])
        gate.recv(1)

"""
Takes as long to import in a worker as the gate stays closed.
"""

from __future__ import annotations

import os
import socket

from tests.system.apps import Mirror, own_slot
from tests.system.gate import VARIABLE

if own_slot() >= 0:
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ[VARIABLE])
        gate.recv(1)

root = Mirror()

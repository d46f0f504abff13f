"""
Waits at the gate when it is tried, and is served at once.
"""

from __future__ import annotations

import os
import socket
import sys

from tests.system.apps import Mirror
from tests.system.gate import VARIABLE

if "--check" in sys.argv and VARIABLE in os.environ:
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ[VARIABLE])
        gate.recv(1)

root = Mirror()

"""
A wall clock that a test sets: the file that is named holds by how many seconds it is off.

Python imports a module of this name when it starts, if it is on the path; so the primary and
its workers see the clock as they would see the machine's that somebody sets.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_true = time.time
_offset = Path(os.environ["STICKYD_TEST_CLOCK"])


def _time() -> float:
    return _true() + float(_offset.read_text() or 0)


time.time = _time

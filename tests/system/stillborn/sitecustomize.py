"""
Ends a worker before it has run a line of its own, as long as a file is there.

Python imports a module of this name when it starts, if it is on the path.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "--slot" in sys.orig_argv and Path(os.environ["STICKYD_TEST_STILLBORN"]).exists():
    os._exit(1)

"""
Ends a worker before it has run a line of its own, as long as a file is there.

Python imports a module of this name when it starts, if it is on the path.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.system.birth import at_birth


def end() -> None:
    """
    End this process at once.
    """
    if Path(os.environ["STICKYD_TEST_STILLBORN"]).exists():
        os._exit(1)


at_birth(end)

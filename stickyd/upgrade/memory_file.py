"""
A file that no directory has: an upgrade must not depend on a place to write to.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO


def memory_file() -> IO[bytes]:
    """
    Make one, in memory where the system has such files (memfd_create(2)).
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stickyd"), "w+b")
    return tempfile.TemporaryFile()

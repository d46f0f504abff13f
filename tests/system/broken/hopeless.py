"""
Applications that can be tried, and cannot be served.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.system.apps import Mirror


def root() -> Mirror:
    """
    Raise in a worker.
    """
    if "--slot" in sys.argv:
        raise RuntimeError("there is no database")
    return Mirror()


def killed() -> Mirror:
    """
    Be killed in a worker.
    """
    if "--slot" in sys.argv:
        print("out of luck", flush=True)  # noqa: T201 - read from the server's log
        os.kill(os.getpid(), signal.SIGKILL)
    return Mirror()

"""
Acting in a worker before it runs a line of its own: what a ``sitecustomize`` of a test calls.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def at_birth(act: Callable[[], object]) -> None:
    """
    Have ``act`` called in each worker, whether it is forked or started anew.
    """
    if "--slot" in sys.orig_argv:
        act()
    elif "--fork-server" in sys.orig_argv:
        forks = []

        def forked() -> None:
            forks.append(os.getpid())
            # The first one is between the server and the worker.
            if len(forks) > 1:
                act()

        os.register_at_fork(after_in_child=forked)

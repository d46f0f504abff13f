"""
Holds a primary that replaces itself at a gate, at one moment of that.

Python imports a module of this name when it starts, if it is on the path.
"""

from __future__ import annotations

import os
import socket
import sys


def wait() -> None:
    """
    Arrive at the gate, and wait until it opens.
    """
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ["STICKYD_TEST_MOMENT_GATE"])
        gate.recv(1)


def wait_when_it_says(start: str) -> None:
    """
    Wait as soon as the primary logs a line that begins like this, the first time.
    """
    from twisted.logger import globalLogPublisher

    def observe(event: dict[str, object]) -> None:
        if str(event.get("log_format")).startswith(start) and not waited:
            waited.append(start)
            wait()

    waited: list[str] = []

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a function will do


#: When: ``exec``, as the first thing of the new program; else what the log says then.
moment = os.environ.get("STICKYD_TEST_MOMENT", "")
is_primary = any("twistd" in word for word in sys.orig_argv)
if moment and is_primary and "STICKYD_PREFLIGHT" not in os.environ:
    is_new = "STICKYD_INHERIT" in os.environ
    if is_new and moment == "exec":
        wait()
    elif is_new != moment.startswith("Upgrading"):
        wait_when_it_says(moment)

"""
Trying the application in a child before anything is bound or replaced.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from stickyd.settings import Settings


def check_application(settings: Settings) -> None:
    """
    Import the application as a worker would, in a process of its own.

    The primary never imports it: its code, its threads and its reactor are no business
    of the process that must not fail.

    :raises ApplicationError: if it cannot be imported or is not what its option says.
    """
    if settings.application is None and not settings.tls and not settings.access_log:
        return
    try:
        outcome = subprocess.run(
            [sys.executable, "-m", "stickyd.worker", "--check"],
            input=json.dumps({"settings": settings.to_json(), "path": [p for p in sys.path if p]}),
            stdout=subprocess.PIPE,
            text=True,
            timeout=settings.start_timeout,
        )
    except subprocess.TimeoutExpired:
        raise ApplicationError(
            f"the application took longer than {settings.start_timeout:g} s to import;"
            " raise --start-timeout"
        ) from None
    if outcome.returncode != 0:
        # With any other code than 1 the last line is no verdict, but the application's own.
        lines = outcome.stdout.strip().splitlines() if outcome.returncode == 1 else []
        raise ApplicationError(
            lines[-1] if lines else f"the application ended its process ({outcome.returncode})"
        )

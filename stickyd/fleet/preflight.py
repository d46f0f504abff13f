"""
Trying the application in a child before anything is bound or replaced.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from stickyd.errors import ApplicationError
from stickyd.system.run_as import groups_of, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.settings import Settings


T = TypeVar("T")


def without_signals(call: Callable[..., T], *arguments: Any) -> T:
    """
    Call in a thread of the pool, which will never be one that catches a signal.

    A signal that another thread has caught just before the main thread calls execve(2)
    would be lost: only what is blocked stays pending.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGCHLD})
    return call(*arguments)


def check_application(settings: Settings) -> None:
    """
    Import the application as a worker would, in a process of its own.

    The primary never imports it: its code, its threads and its reactor are no business
    of the process that must not fail.  The child is of the workers' user: root must not
    run it either, and may read files that they may not.

    :raises ApplicationError: if it cannot be imported or is not what its option says.
    :raises SettingError: if there can be no workers of that user.
    """
    uid, gid = identity(settings.uid, settings.gid)
    if settings.application is None and not settings.tls and not settings.access_log:
        return
    try:
        outcome = subprocess.run(
            [sys.executable, "-m", "stickyd.worker", "--check"],
            input=json.dumps({"settings": settings.to_json(), "path": [p for p in sys.path if p]}),
            stdout=subprocess.PIPE,
            text=True,
            timeout=settings.start_timeout,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else groups_of(uid, gid),
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

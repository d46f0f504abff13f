"""
A WSGI application that waits: for a gate, or for ever.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from tests.system.frameworks.waiting import wait_at_gate

if TYPE_CHECKING:
    from collections.abc import Callable


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """
    Say who serves, at once or later.
    """
    path = environ["PATH_INFO"]
    if path == "/gate":
        wait_at_gate()
    if path == "/stuck":
        threading.Event().wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]


def make_app() -> Callable[..., list[bytes]]:
    """
    Make the application.
    """
    return app

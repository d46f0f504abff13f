"""
Flask, for WSGI.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flask import Flask, request

from tests.system.frameworks.waiting import wait_at_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

app = Flask(__name__)


@app.get("/")
def home() -> dict[str, object]:
    """
    Tell who serves whom, and where we seem to be.
    """
    return {"pid": os.getpid(), "host": request.remote_addr, "root": request.script_root}


@app.get("/boom")
def boom() -> str:
    """
    Fail.
    """
    raise ValueError("boom")


@app.get("/slow")
def slow() -> dict[str, object]:
    """
    Block a thread, not the worker.
    """
    wait_at_gate()
    return {"pid": os.getpid()}


def bare(environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
    """
    Fail without a framework that catches it.
    """
    raise ValueError("boom")

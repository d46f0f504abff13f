"""
FastAPI, whose plain functions run in a thread.
"""

import os
import threading

from fastapi import FastAPI, Request

from tests.system.frameworks.waiting import wait_at_gate

app = FastAPI()

_here = threading.local()


@app.get("/")
def home(request: Request) -> dict[str, object]:
    """
    Tell who serves whom, and how often this thread has.
    """
    assert request.client is not None
    _here.calls = getattr(_here, "calls", 0) + 1
    return {"pid": os.getpid(), "host": request.client.host, "calls": _here.calls}


@app.get("/boom")
def boom() -> None:
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

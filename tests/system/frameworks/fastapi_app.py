"""
FastAPI, whose plain functions run in a thread.
"""

import os

from fastapi import FastAPI, Request

from tests.system.frameworks.waiting import wait_at_gate

app = FastAPI()


@app.get("/")
def home(request: Request) -> dict[str, object]:
    """
    Tell who serves whom.
    """
    assert request.client is not None
    return {"pid": os.getpid(), "host": request.client.host}


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

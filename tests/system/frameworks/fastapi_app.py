"""
FastAPI, whose plain functions run in a thread.
"""

import os
import time

from fastapi import FastAPI, Request

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
    Block a thread for a while, not the worker.
    """
    time.sleep(0.5)
    return {"pid": os.getpid()}

"""
Quart, Flask's likeness for ASGI.
"""

from __future__ import annotations

import os

from quart import Quart, request

app = Quart(__name__)


@app.get("/")
async def home() -> dict[str, object]:
    """
    Tell who serves whom.
    """
    return {"pid": os.getpid(), "host": request.remote_addr}


@app.get("/boom")
async def boom() -> str:
    """
    Fail.
    """
    raise ValueError("boom")

"""
Flask, for WSGI.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flask import Flask, Response, request, send_file

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


@app.post("/form")
def form() -> dict[str, str]:
    """
    Tell what the form says.
    """
    return request.form.to_dict()


@app.post("/body")
def body() -> Response:
    """
    Give the body back.
    """
    return Response(request.get_data(), content_type="application/octet-stream")


@app.get("/pieces")
def pieces() -> Response:
    """
    Answer in pieces.
    """
    return Response(piece for piece in (b"one ", b"", b"two ", b"three"))


@app.get("/file")
def file() -> Response:
    """
    Answer with a file.
    """
    return send_file(__file__)


def bare(environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
    """
    Fail without a framework that catches it.
    """
    raise ValueError("boom")

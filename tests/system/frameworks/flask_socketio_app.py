"""
Flask-SocketIO in threads: long polling, and WebSockets through simple-websocket.
"""
# mypy: disable-error-code="untyped-decorator"
# (Flask-SocketIO has no annotations of its own.)

from __future__ import annotations

import os
import threading
from collections import Counter

from flask import Flask, request
from flask_socketio import SocketIO

app = Flask(__name__)
# The server's stop waits for the last polls, each of which ends by a ping.
socketio = SocketIO(app, async_mode="threading", ping_interval=1)

_counts: Counter[str] = Counter()
_counting = threading.Lock()


@app.get("/")
def page() -> str:
    """
    A plain page.
    """
    return f"served by {os.getpid()}"


@socketio.on("echo")
def echo(word: str) -> dict[str, object]:
    """
    Say a word again, and how many this client has said.
    """
    sid = getattr(request, "sid", "")
    with _counting:
        _counts[sid] += 1
        count = _counts[sid]
    return {"pid": os.getpid(), "word": word, "count": count}

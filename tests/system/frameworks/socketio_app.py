"""
python-socketio: its sessions live in one worker's memory, over several requests.
"""
# mypy: disable-error-code="untyped-decorator"
# (python-socketio has no annotations of its own.)

from __future__ import annotations

import os
from typing import Any

import socketio

# The server's stop waits for the last polls, each of which ends by a ping.
sio = socketio.AsyncServer(async_mode="asgi", ping_interval=1)
app = socketio.ASGIApp(sio)


@sio.event
async def remember(sid: str, word: str) -> int:
    """
    Keep a word for this client.
    """
    async with sio.session(sid) as session:
        session.setdefault("words", []).append(word)
    return os.getpid()


@sio.event
async def recall(sid: str) -> Any:
    """
    Tell all words of the client.
    """
    return (await sio.get_session(sid)).get("words", [])


@sio.event
async def echo(sid: str, word: str) -> dict[str, object]:
    """
    Say a word again, and how many this client has said.
    """
    async with sio.session(sid) as session:
        count = session["count"] = session.get("count", 0) + 1
    return {"pid": os.getpid(), "word": word, "count": count}


@sio.event
async def shout(sid: str, word: str) -> None:
    """
    Send a word to everybody who is connected to this worker.
    """
    await sio.emit("heard", word)

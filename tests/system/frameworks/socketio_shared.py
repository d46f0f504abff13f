"""
Servers of Socket.IO that do to each other's clients what a client says.
"""
# mypy: disable-error-code="untyped-decorator"
# (python-socketio has no annotations of its own.)

from __future__ import annotations

import os
from typing import Any

import socketio
from flask import Flask
from flask_socketio import SocketIO

import stickyd.socketio

sio = socketio.AsyncServer(
    async_mode="asgi", client_manager=stickyd.socketio.Manager(), ping_interval=1, ping_timeout=1
)
stickyd.socketio.attach(sio)  # its ids; it has its manager
app = socketio.ASGIApp(sio)

flask_app = Flask(__name__)
flask_sio = SocketIO(flask_app, async_mode="threading", ping_interval=1, ping_timeout=1)
stickyd.socketio.attach(flask_sio)


@sio.event
async def where(sid: str) -> list[object]:
    """
    Tell who serves whom.
    """
    return [os.getpid(), sid]


@sio.event
async def order(sid: str, name: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    """
    Have the server do something.
    """
    return await getattr(sio, name)(*arguments, **options)


def where_in_thread(sid: str) -> list[object]:
    """
    Tell who serves whom.
    """
    return [os.getpid(), sid]


def order_in_thread(sid: str, name: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    """
    Have the server do something.
    """
    return getattr(flask_sio.server, name)(*arguments, **options)


flask_sio.server.on("where", where_in_thread)
flask_sio.server.on("order", order_in_thread)

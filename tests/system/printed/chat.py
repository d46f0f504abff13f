"""
A chat by Socket.IO, and one by lines of text.
"""

from __future__ import annotations

import socketio

from tests.system.frameworks.chat import chat as factory

__all__ = ["app", "factory"]

app = socketio.ASGIApp(socketio.AsyncServer(async_mode="asgi"))

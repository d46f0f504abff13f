"""
What an application of python-socketio or Flask-SocketIO may import.
"""

from __future__ import annotations

from stickyd.adapters.socketio_async import AsyncManager as AsyncManager
from stickyd.adapters.socketio_attach import attach as attach
from stickyd.adapters.socketio_manager import Manager as Manager
from stickyd.adapters.socketio_threaded import ThreadedManager as ThreadedManager

"""
The one manager that fits each of python-socketio's servers.
"""

from __future__ import annotations

from typing import Any

from socketio.async_server import AsyncServer

from stickyd.adapters.socketio_async import AsyncManager
from stickyd.adapters.socketio_threaded import ThreadedManager


class Manager:
    """
    Has the servers of all workers be one: whoever emits to everybody or to a room reaches the
    clients of all workers; callbacks, ``call()``, ``disconnect()``, ``enter_room()``,
    ``leave_room()`` and ``close_room()`` find theirs, wherever it is.

    Give it to ``socketio.AsyncServer``, ``socketio.Server`` or ``flask_socketio.SocketIO`` as
    ``client_manager``.  It puts the manager of the server's kind into its own place, which is
    :class:`AsyncManager` or :class:`ThreadedManager`.  Where no stickyd runs, it is a server's own.
    """

    def __init__(self, channel: str = "socketio", logger: Any = None) -> None:
        """
        :param channel: servers with the same are one; an application with two of them gives
            each one of its own.
        :param logger: as of python-socketio's managers.
        """
        self._channel = channel
        self._logger = logger

    def set_server(self, server: Any) -> None:
        """
        Called by the server.
        """
        kind = AsyncManager if isinstance(server, AsyncServer) else ThreadedManager
        server.manager = kind(self._channel, logger=self._logger)
        server.manager.set_server(server)

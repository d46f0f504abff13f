"""
Having a Socket.IO server be one with those of the other workers.
"""

from __future__ import annotations

from typing import Any

from socketio.async_manager import AsyncManager as AloneAsync
from socketio.async_pubsub_manager import AsyncPubSubManager
from socketio.async_server import AsyncServer
from socketio.base_server import BaseServer
from socketio.manager import Manager as Alone
from socketio.pubsub_manager import PubSubManager

from stickyd.adapters.socketio_ids import SessionIds
from stickyd.adapters.socketio_manager import Manager
from stickyd.errors import ApplicationError


def attach(sio: Any, channel: str = "socketio") -> None:
    """
    Have a server be one with those of all other workers, and its clients come back to the worker
    that has their sessions.

    The server gets :class:`Manager`, unless it has a manager over publish and subscribe already.
    Its sessions' ids lead to this worker by the entry ``minted:query:sid`` of ``--affinity``, or
    by ``learn:query:sid``.

    :param sio: a ``socketio.AsyncServer``, a ``socketio.Server``, or a ``flask_socketio.SocketIO``
        that has its application.
    :param channel: servers with the same are one.
    :raises stickyd.errors.ApplicationError: if it is none of these, has a manager of another
        kind, or has clients already.
    """
    server = sio if isinstance(sio, BaseServer) else getattr(sio, "server", None)
    if not isinstance(server, BaseServer):
        raise ApplicationError(
            f"stickyd.socketio.attach(): {type(sio).__name__} is no server of python-socketio; give"
            " it the AsyncServer, the Server, or Flask-SocketIO's SocketIO after init_app()"
        )
    if not isinstance(server.manager, (AsyncPubSubManager, PubSubManager)):
        _share(server, channel)
    if not isinstance(server.eio.generate_id, SessionIds):
        server.eio.generate_id = SessionIds(server.eio, not isinstance(server, AsyncServer))


def _share(server: Any, channel: str) -> None:
    if type(server.manager) not in (Alone, AloneAsync):
        raise ApplicationError(
            f"stickyd.socketio.attach(): the server has a client_manager of its own,"
            f" {type(server.manager).__name__}, which other workers know nothing of; leave it out"
        )
    if server.manager_initialized:
        raise ApplicationError(
            "stickyd.socketio.attach() was called when the server had clients already; call it"
            " where the server is made"
        )
    Manager(channel, server.manager.logger).set_server(server)

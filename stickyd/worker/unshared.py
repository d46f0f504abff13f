"""
Frameworks that tell their clients of each other, and reach those of one worker only.

Nothing is imported that the application has not imported, and nothing of it is called.
"""

from __future__ import annotations

import sys

from stickyd.worker.made import made_of

_SOCKETIO = (
    "{framework} has a server whose manager its {workers} workers do not share, so emit() reaches"
    " the clients of one of them only: write stickyd.socketio.attach({name}) where it is made, or"
    " client_manager=stickyd.socketio.Manager()"
)

_CHANNELS = (
    "Django Channels has a layer ({alias}) that its {workers} workers do not share, so a group is"
    " that of one of them only: write"
    ' CHANNEL_LAYERS = {{"{alias}": {{"BACKEND": "stickyd.channels.ChannelLayer"}}}}'
)

#: The layer that is a process's own.
_IN_MEMORY = "channels.layers.InMemoryChannelLayer"


def unshared(workers: int) -> list[str]:
    """
    Look for what the application has made so that each worker is on its own.

    :param workers: how many there will be.
    :return: a line for each framework, with what to write.
    """
    if workers < 2:
        return []
    return [*_socketio_servers(workers), *_channel_layers(workers)]


def _socketio_servers(workers: int) -> list[str]:
    socketio = sys.modules.get("socketio")
    kinds = [getattr(socketio, name, None) for name in ("Server", "AsyncServer")]
    alone = [getattr(socketio, name, None) for name in ("Manager", "AsyncManager")]
    servers = [
        server
        for server in made_of(*kinds)
        if type(getattr(server, "manager", None)) in alone  # a subclass knows what it does
    ]
    if not servers:
        return []
    flask_socketio = sys.modules.get("flask_socketio")
    of_flask = [
        getattr(made, "server", None) for made in made_of(getattr(flask_socketio, "SocketIO", None))
    ]
    named = {
        ("Flask-SocketIO", "socketio") if server in of_flask else ("python-socketio", "sio")
        for server in servers
    }
    return [
        _SOCKETIO.format(framework=framework, name=name, workers=workers)
        for framework, name in sorted(named)
    ]


def _channel_layers(workers: int) -> list[str]:
    layers = sys.modules.get("channels.layers")
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if layers is None or settings is None or not settings.configured:
        return []
    configured = getattr(settings, "CHANNEL_LAYERS", None)
    if not isinstance(configured, dict):
        return []
    return [
        _CHANNELS.format(alias=alias, workers=workers)
        for alias, layer in configured.items()
        if isinstance(layer, dict) and layer.get("BACKEND") == _IN_MEMORY
    ]

"""
Applications that count on threads of gevent or eventlet, where there are real ones.

Nothing is imported that the application has not imported, and nothing of it is called.
"""

from __future__ import annotations

import sys
from typing import Any

from stickyd.worker.made import made_of

#: Where each library says whether it has replaced Python's threads, and how an application has it
#: done.
_PATCHES = (
    ("gevent.monkey", "is_module_patched", "threading", "gevent.monkey.patch_all()"),
    ("eventlet.patcher", "is_monkey_patched", "thread", "eventlet.monkey_patch()"),
)

_SOCKETIO = (
    "{framework} has async_mode {mode!r}, which it takes if that is installed, and WebSockets fail"
    ' with it: write async_mode="threading" where it is made'
)

_PATCHED = "{call} has replaced the threads that it is to run in: leave that out"


def patched_threads() -> str:
    """
    Tell by what Python's threads were replaced, and what to do about it.

    :return: ``""`` if they were not.
    """
    for module, function, what, call in _PATCHES:
        asked: Any = getattr(sys.modules.get(module), function, None)
        if asked is not None and asked(what):
            return _PATCHED.format(call=call)
    return ""


def green_threads(option: str, name: str) -> list[str]:
    """
    Look for what will not work in threads.

    :param option: that names the WSGI application.
    :param name: ``module:attribute``.
    :return: a line for each, with what to write.
    """
    patched = patched_threads()
    lines = [f"{option} {name}: {patched}"] if patched else []
    servers = made_of(getattr(sys.modules.get("socketio"), "Server", None))
    modes = {str(getattr(server, "async_mode", "threading")) for server in servers}
    framework = "Flask-SocketIO" if "flask_socketio" in sys.modules else "python-socketio"
    return lines + [
        _SOCKETIO.format(framework=framework, mode=mode) for mode in sorted(modes - {"threading"})
    ]

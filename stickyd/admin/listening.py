"""
The sockets of the admin endpoint and of the agent check.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from stickyd.errors import ListenError
from stickyd.net.socket_file import bind_at, close_with_file

if TYPE_CHECKING:
    from stickyd.settings.admin_place import AdminPlace

_BACKLOG = 128


def listen_at(option: str, place: AdminPlace) -> socket.socket:
    """
    Listen.

    :param option: for errors.
    :return: non-blocking; the caller closes it, see :func:`close_at`.
    :raises ListenError: if that cannot be.
    """
    try:
        if place.path:
            return _listen_at_path(option, place.path, place.mode)
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        sock = socket.create_server((place.host, place.port), family=family, backlog=_BACKLOG)
    except OSError as problem:
        where = place.path or shown(place.host, place.port)
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        raise ListenError(f"{option}: cannot listen on {where}: {reason}") from None
    sock.setblocking(False)
    return sock


def _listen_at_path(option: str, path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        # Nobody may come before the file says who may.
        before = os.umask(0o777 & ~mode)
        try:
            bind_at(
                sock,
                path,
                f"{option}: there is a file at {path}, which is no socket",
                f"{option}: a server answers at {path} already; give each one its own path",
            )
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def close_at(sock: socket.socket) -> None:
    """
    Close a listening socket, and take its file away.
    """
    if sock.family == socket.AF_UNIX and sock.fileno() >= 0:
        close_with_file(sock)
    else:
        sock.close()


def shown(host: str, port: int) -> str:
    """
    An address as it stands in a URL.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""
The sockets of the admin endpoint and of the agent check.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from stickyd.errors import ListenError

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
            try:
                sock.bind(path)
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
                _require_stale(option, path)
                os.unlink(path)
                sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _require_stale(option: str, path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(f"{option}: there is a file at {path}, which is no socket")
    with socket.socket(socket.AF_UNIX) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise ListenError(f"{option}: a server answers at {path} already; give each one its own path")


def close_at(sock: socket.socket) -> None:
    """
    Close a listening socket, and take its file away.
    """
    name = sock.getsockname() if sock.fileno() >= 0 else ""
    is_file = sock.family == socket.AF_UNIX
    sock.close()
    if is_file and name:
        with suppress(OSError):
            os.unlink(name)


def shown(host: str, port: int) -> str:
    """
    An address as it stands in a URL.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

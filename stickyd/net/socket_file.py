"""
The file of a UNIX socket that listens: made, also in the place of a dead server's, and removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from stickyd.errors import ListenError


def bind_at(sock: socket.socket, path: str, no_socket: str, answered: str) -> None:
    """
    Bind a UNIX socket to a path.  A file that a dead server has left is replaced.

    :param no_socket: what is said if something else is there.
    :param answered: what is said if somebody answers there.
    :raises ListenError: with one of these.
    :raises OSError: if the path cannot be had.
    """
    try:
        sock.bind(path)
    except OSError as problem:
        if problem.errno != errno.EADDRINUSE:
            raise
        _require_stale(path, no_socket, answered)
        os.unlink(path)
        sock.bind(path)


def _require_stale(path: str, no_socket: str, answered: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(no_socket)
    with socket.socket(socket.AF_UNIX) as trial:
        # A server with a full queue is alive too.
        trial.setblocking(False)
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise ListenError(answered)


def close_with_file(sock: socket.socket) -> None:
    """
    Close a bound UNIX socket, and take its file away.
    """
    path = sock.getsockname()
    sock.close()
    with suppress(OSError):
        os.unlink(path)

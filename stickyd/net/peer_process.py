"""
Who is at the other end of a UNIX socket.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True)
class Peer:
    """
    The process at the other end, when it connected or began to listen.

    :ivar pid: its id; 0 where the kernel does not tell, or it is none of ours.
    :ivar uid: its user; None where the kernel does not tell.
    """

    pid: int
    uid: int | None


def peer_of(sock: socket.socket) -> Peer:
    """
    Ask the kernel (``SO_PEERCRED``, unix(7)).
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return Peer(0, None)
    told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(told)
    return Peer(pid, uid)


def peer_uid(sock: socket.socket) -> int | None:
    """
    The user at the other end; None where the kernel does not tell.
    """
    return peer_of(sock).uid

"""
What can be known of the other end of a socket.
"""

from __future__ import annotations

import select
from socket import AF_UNIX, socket


def has_gone(sock: socket) -> bool:
    """
    Tell whether the other end of a socket that has come to the end of its input is closed, and
    not only its sending side.

    TCP cannot tell that before something is written; a UNIX socket, such as the end of a
    tunnel, hangs up.
    """
    # The base class's, a number: a socket's own makes an enumeration's member of it each time.
    if super(socket, sock).family != AF_UNIX:
        return False
    poll = select.poll()
    poll.register(sock, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))

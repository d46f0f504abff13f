"""
How a connection's socket is closed.

Other copies of the descriptor may exist for a moment, in the primary until it has
read the acknowledgement.  ``close`` alone then sends nothing to the client, so an
orderly end is always a ``shutdown`` first.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.interfaces import IReadiness

LINGER_SECONDS = 5.0
"""
How long a client may be silent.
"""

LINGER_ROUNDS = 6
"""
How many times so long it lasts at most, whatever the client sends.
"""

LINGER_BYTES = 1024**3
"""
How much a client may send: it is what it would have sent of a body that is not refused.
"""

_DISCARD_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, for no time, so that close sends RST


def hang_up(sock: socket.socket, dry: bool, lingering: bool) -> bool:
    """
    Send the FIN.

    Closing a TCP socket that still holds unread input, or that input reaches later,
    answers with RST, and that may destroy the response on its way (RFC 9112, 9.6).

    :param sock: the connection, which stays open.
    :param dry: the caller has just read all that there was, so the system call that looks
        for more is saved.
    :param lingering: the caller knows that the client is still sending.
    :return: whether input remains, so that the socket wants a :class:`LingeringClose`.
    """
    try:
        if dry and not lingering:
            sock.shutdown(socket.SHUT_RDWR)
            return False
        sock.shutdown(socket.SHUT_WR)
        return len(sock.recv(_DISCARD_BYTES)) > 0
    except BlockingIOError:
        return lingering
    except OSError:
        # The client has reset the connection: nothing is left to save.
        return False


def reset(sock: socket.socket) -> None:
    """
    Make the coming ``close`` send RST and drop what the kernel has not sent.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class LingeringClose:
    """
    Reads and discards what a client still sends after our FIN.

    The socket is closed when the client closes its side, when it has sent nothing for
    :data:`LINGER_SECONDS`, and after :data:`LINGER_ROUNDS` times that or
    :data:`LINGER_BYTES` in any case.  It owns the socket from the start.
    """

    def __init__(self, readiness: IReadiness, sock: socket.socket) -> None:
        self._readiness = readiness
        self._socket = sock
        self._left_bytes = LINGER_BYTES
        self._left_rounds = LINGER_ROUNDS
        self._heard = False

    def start(self) -> None:
        self._readiness.add_reader(self._socket.fileno(), self._discard)
        self._await()

    def _await(self) -> None:
        self._heard = False
        self._left_rounds -= 1
        self._deadline = self._readiness.call_later(LINGER_SECONDS, self._look)

    def _look(self) -> None:
        if self._heard and self._left_rounds:
            self._await()
        else:
            self._close()

    def _discard(self) -> None:
        try:
            count = len(self._socket.recv(_DISCARD_BYTES))
        except BlockingIOError:
            return
        except OSError:
            count = 0
        self._heard = True
        self._left_bytes -= count
        if count == 0 or self._left_bytes <= 0:
            self._deadline.cancel()
            self._close()

    def _close(self) -> None:
        self._readiness.remove_reader(self._socket.fileno())
        self._socket.close()

"""
Taking a connection away from the Twisted transport that accepted it.

Never ``loseConnection`` or ``abortConnection`` instead: both act on the connection
itself (``shutdown(2)``, ``SO_LINGER``), which the worker shares by then, not on our copy.
"""

from __future__ import annotations

from twisted.internet.tcp import Connection

from stickyd.errors import ListenError


def detach(transport: object) -> int:
    """
    Take the descriptor out of a transport, before a byte was read.

    The transport is dead afterwards: in no reactor, without a socket, and it will call
    neither ``dataReceived`` nor ``connectionLost``.

    :return: the descriptor, which the caller closes.
    :raises ListenError: if the transport is no plain stream socket, but TLS or the like,
        whose state cannot be passed on with the descriptor.
    """
    if not isinstance(transport, Connection) or transport.TLS:
        raise ListenError(
            f"connections of {type(transport).__qualname__} cannot be handed over:"
            " listen on a plain stream endpoint (tcp:, tcp6:, unix:, systemd:) instead"
        )
    # Both strictly before the socket is taken, or epoll goes on firing for a descriptor
    # that can no longer be removed.
    transport.stopReading()
    transport.stopWriting()
    transport.connected = False
    transport.disconnected = True
    return int(transport.socket.detach())

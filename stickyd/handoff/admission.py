"""
What may come from a worker by the handoff channel: checked before it is taken.

A worker runs the application's code, and may be anything by now; what it passes on reaches
other workers.  So the primary takes nothing that would hurt them: no listening socket, no
descriptor that is no connection, no host that is no address, no number out of its range.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING

from stickyd.affinity.address import MEMO, parse_address
from stickyd.errors import FrameError
from stickyd.handoff.frame import BY_KEY, MAX_KEY_BYTES, Flag, Purpose
from stickyd.settings.table import MOST_WORKERS

if TYPE_CHECKING:
    from stickyd.handoff.frame import Handoff

#: How long an address may be as text: an IPv6 address with its scope.
_MAX_HOST_BYTES = 64

#: More generations than there will be: a reload takes longer than a millisecond.
MOST_GENERATIONS = 999_999_999

_PURPOSES = (Purpose.CONNECTION, Purpose.RESOLVE, Purpose.KEPT)

# Plain numbers: an operation on the socket module's own flags takes half a microsecond.
_SOL_SOCKET = int(socket.SOL_SOCKET)
_SO_TYPE = int(socket.SO_TYPE)
_SO_ACCEPTCONN = int(socket.SO_ACCEPTCONN)
_SO_DOMAIN = int(getattr(socket, "SO_DOMAIN", 0))
_STREAM = int(socket.SOCK_STREAM)
_UNIX = int(socket.AF_UNIX)
_INET = int(socket.AF_INET)
_INET6 = int(socket.AF_INET6)


@lru_cache(MEMO)
def is_address(host: str) -> bool:
    """
    Whether a text is the address of a client: empty for a peer on a UNIX socket.
    """
    if not host:
        return True
    if len(host) > _MAX_HOST_BYTES or not host.isascii() or not host.isprintable():
        return False
    try:
        parse_address(host)
    except ValueError:
        return False
    return True


def admit_from_worker(handoff: Handoff) -> None:
    """
    Check a handoff that a worker has sent.  Of its flags any may be set: all eight mean
    something.

    :raises FrameError: if it is none that a worker may send; its descriptor is still the
        caller's.
    """
    if handoff.purpose not in _PURPOSES:
        raise FrameError(
            f"a handoff of purpose {handoff.purpose}, where a worker may send"
            f" {Purpose.CONNECTION:d} (a connection), {Purpose.RESOLVE:d} (one to be placed) and"
            f" {Purpose.KEPT:d} (one of a client that is kept)"
        )
    if handoff.slot != BY_KEY and handoff.slot >= MOST_WORKERS:
        raise FrameError(
            f"a handoff for slot {handoff.slot}, where there are {MOST_WORKERS} at most"
        )
    if not 0 <= handoff.generation <= MOST_GENERATIONS:
        raise FrameError(
            f"a handoff for generation {handoff.generation}, where {MOST_GENERATIONS} is the last"
        )
    if len(handoff.key) > MAX_KEY_BYTES:
        raise FrameError(
            f"a handoff with a key of {len(handoff.key)} bytes, more than {MAX_KEY_BYTES}"
        )
    _require_address("client", handoff.host, handoff.port)
    if handoff.local is not None:
        _require_address("server", *handoff.local)
    _require_connection(handoff)


def _require_address(whose: str, host: str, port: int) -> None:
    if not is_address(host):
        raise FrameError(f"a handoff whose {whose} {host[:_MAX_HOST_BYTES]!r} is no address")
    if not 0 <= port <= 65535:
        raise FrameError(f"a handoff whose {whose} has the port {port}")


def _require_connection(handoff: Handoff) -> None:
    """
    Check what the descriptor is: a connection of the family that its host says.
    """
    # All four given, so that Python asks the kernel nothing; detached, so that it closes
    # nothing.
    try:
        sock = socket.SocketType(_INET, _STREAM, 0, handoff.descriptor)
    except OSError:
        raise FrameError("a handoff whose descriptor is no socket") from None
    try:
        kind = sock.getsockopt(_SOL_SOCKET, _SO_TYPE)
        listens = sock.getsockopt(_SOL_SOCKET, _SO_ACCEPTCONN)
        family = sock.getsockopt(_SOL_SOCKET, _SO_DOMAIN) if _SO_DOMAIN else 0
    finally:
        sock.detach()
    if kind != _STREAM:
        raise FrameError("a handoff whose descriptor is no stream socket")
    if listens:
        raise FrameError("a handoff whose descriptor is a listening socket, no connection")
    if family and family not in _families_of(handoff):
        raise FrameError(
            f"a handoff of {handoff.host or 'a UNIX socket'!r} whose descriptor is of the"
            f" address family {family}"
        )


def _families_of(handoff: Handoff) -> tuple[int, ...]:
    if handoff.flags & Flag.SECURE:
        return (_UNIX,)
    if handoff.flags & Flag.CLAIMED:
        return _UNIX, _INET, _INET6
    if not handoff.host:
        return (_UNIX,)
    return (_INET6,) if ":" in handoff.host else (_INET,)

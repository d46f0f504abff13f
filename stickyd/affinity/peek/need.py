"""
What the parsers of peeked bytes have in common.

Each is a function of all the bytes seen so far, which stay in the socket.  It gives a
result, or :class:`Need`, or raises a :exc:`PeekError`; it never waits and never reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from stickyd.errors import ClientError


class PeekError(ClientError):
    """
    The first bytes of a connection are not what the protocol allows.
    """


@dataclass(frozen=True)
class Need:
    """
    The bytes are right so far, and not enough.

    :ivar more: how many more bytes at least, 1 or more; so ``len(seen) + more`` is
        the low-water mark to wait for.
    """

    more: int

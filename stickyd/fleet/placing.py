"""
Placing a connection by a request that a worker has read from it, where the key that the
connection came with does not say where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stickyd.affinity.peek.first_bytes import FirstBytes
from stickyd.affinity.peek.http2 import FirstRequest
from stickyd.affinity.peek.need import Need, PeekError
from stickyd.handoff.frame import MAX_UNREAD_BYTES, Flag, Purpose
from stickyd.placement.least import MOST_KEYS

if TYPE_CHECKING:
    from stickyd.affinity.peek.http1 import Head
    from stickyd.affinity.resolve import Resolver
    from stickyd.handoff.frame import Handoff


@dataclass(frozen=True)
class ClaimLimits:
    """
    How many claims of ids are remembered, and for how long.

    :ivar most: ids.
    :ivar seconds: how long each is remembered after its last use.
    """

    most: int = MOST_KEYS
    seconds: float = 86400.0


def place_by_request(handoff: Handoff, resolver: Resolver) -> None:
    """
    Set the slot and generation, or the key, of a connection by the request that a worker has
    read from it, which ``handoff.unread`` begins with.
    """
    head = _head_of(handoff)
    handoff.slot, handoff.key, handoff.generation, handoff.learned = resolver.home(
        handoff.host, head
    )
    handoff.purpose = Purpose.CONNECTION
    handoff.flags |= Flag.PLACED


def _head_of(handoff: Handoff) -> Head | None:
    if handoff.flags & Flag.HTTP2:
        try:
            return FirstRequest().feed(handoff.unread)
        except PeekError:
            return None
    # The worker has kept to its own bound, so ours need not be another one.
    found = FirstBytes(True, False, MAX_UNREAD_BYTES).feed(handoff.unread)
    return None if isinstance(found, Need) else found.head

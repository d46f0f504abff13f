"""
Which slot an address belongs to.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
from hashlib import md5

from stickyd.placement.rendezvous import Rendezvous


def source_address(number: int) -> str:
    """
    The loopback address of that number: 127.0.0.2 for 0, 127.0.0.3 for 1, and so on.
    """
    return socket.inet_ntoa((0x7F000002 + number).to_bytes(4, "big"))


def rendezvous(source: str, slots: int) -> int:
    """
    The slot that an address has by the default placement.
    """
    return Rendezvous(slots).slot_of(ipaddress.ip_address(source).packed)


def modulo(source: str, slots: int) -> int:
    """
    The slot that the Node program gives an address, written anew from its definition.
    """
    return int(md5(source.encode()).hexdigest()[:8], 16) % slots


def sources_of(slot: int, slots: int, count: int) -> list[str]:
    """
    The first ``count`` addresses that the default placement puts on a slot.
    """
    every = map(source_address, itertools.count())
    return list(
        itertools.islice((source for source in every if rendezvous(source, slots) == slot), count)
    )

"""
The placement of the Node.js program that stickyd descends from, bit for bit.
"""

from __future__ import annotations

from hashlib import md5

from zope.interface import implementer

from stickyd.errors import SettingError
from stickyd.interfaces import IPlacement


@implementer(IPlacement)
class Modulo:
    """
    The first 32 bits of the key's MD5, modulo the number of slots.

    For installations that move over from that program and want every client to stay
    where it was.  The key is the text of the address as the listening socket reports it:
    on a dual-stack socket, Node's default, an IPv4 client is ``::ffff:192.0.2.1``.  A
    change in the number of slots moves nearly every key.
    """

    def __init__(self, slots: int) -> None:
        """
        Place on ``slots`` slots.

        :param slots: how many slots there are, at least 1.
        :raises SettingError: if there is none.
        """
        if slots < 1:
            raise SettingError(f"{slots} slots: modulo placement takes 1 or more")
        self.slots = slots

    def slot_of(self, key: bytes) -> int:
        digest = md5(key, usedforsecurity=False).digest()
        return int.from_bytes(digest[:4], "big") % self.slots

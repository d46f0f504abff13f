"""
Ids that route themselves: ``stickyd.mint()``, and the entries ``minted:`` that know them again.

::

    room-Vn2kT0q9sXbA.3-web1.8mQ0c4yZr1uWk2Hd
    prefix and random . place . signature

The *place* is the slot that minted the id, with the name of its node if that has one, and between
them, as in ``3~12~0a1b-web1``, the generation of the worker and the beginning of the name of the
primary's run, where workers keep the clients that they know (``--reload-mode client``): in the
clear, so that a balancer in front can find the node without a table.  A later version may add to
it, and this one takes such an id for none of ours.  The signature keeps clients from choosing
their worker; it is 96 bits long, as an id must fit where ids stand, and nothing else hangs on it.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from functools import lru_cache
from secrets import token_urlsafe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST_PREFIX = 12
"""
How many characters stand before the random part at most.
"""

LONGEST_ID = 64
"""
How many characters an id has at most.
"""

_RANDOM_BYTES = 9  # 12 characters: four thousand million ids of a slot until two are likely alike
_SIGNATURE_BYTES = 12  # 16 characters, none of which has a bit to spare
_PURPOSE = b"stickyd.minted"
_MEMO = 8192
_PREFIX = re.compile(rf"[A-Za-z0-9._~-]{{0,{LONGEST_PREFIX}}}")
_ID = re.compile(
    rb"([A-Za-z0-9._~-]{12,24}\.(0|[1-9][0-9]{0,4})(?:~([1-9][0-9]{0,8})~([0-9a-f]{4}))?"
    rb"(?:-([a-z0-9]{1,12}))?)\.([A-Za-z0-9_-]{16})"
)


def is_prefix(text: str) -> bool:
    """
    Whether ids may begin with a text: all of an id is unreserved in a URL (RFC 3986, section 2.3).
    """
    return _PREFIX.fullmatch(text) is not None


def _random() -> str:
    return token_urlsafe(_RANDOM_BYTES)


class MintedIds:
    """
    Mints ids, and reads them.
    """

    def __init__(self, secrets: Sequence[bytes], make_random: Callable[[], str] = _random) -> None:
        """
        :param secrets: the first signs, all of them verify.
        :param make_random: gives each id its 12 random characters.
        """
        self._keys = [hmac.digest(secret, _PURPOSE, "sha256") for secret in secrets]
        self._make_random = make_random
        # What is none of ours is not remembered, so such values cannot push out the others.
        self._read = lru_cache(_MEMO)(self._verified)

    def mint(self, prefix: str, slot: int, node: str, generation: int = 0, run: str = "") -> str:
        """
        Make an id that names a slot.

        :param prefix: see :func:`is_prefix`.
        :param node: what the machine is called; may be empty.
        :param generation: of the worker; 0 to name none.  It is left out where the id would be too
            long.
        :param run: names the run of the primary.
        :return: at most :data:`LONGEST_ID` characters.
        """
        rest = f"-{node}" if node else ""
        home = f"~{generation}~{run[:4]}" if generation else ""
        made = self._signed(f"{prefix}{self._make_random()}.{slot}{home}{rest}")
        if len(made) > LONGEST_ID:
            made = self._signed(f"{prefix}{self._make_random()}.{slot}{rest}")
        return made

    def _signed(self, text: str) -> str:
        signature = _signature(self._keys[0], text.encode("ascii"))
        return f"{text}.{signature.decode('ascii')}"

    def place_of(self, value: bytes) -> tuple[int, str] | None:
        """
        Read an id.

        :return: the slot, which need not exist any more, and the node; None if the id is damaged,
            or was signed with a secret that is not known.
        """
        home = self.home_of(value)
        return None if home is None else home[:2]

    def home_of(self, value: bytes) -> tuple[int, str, int, str] | None:
        """
        The same, with the generation, which is 0 if the id names none, and the beginning of the
        name of the primary's run.
        """
        if len(value) > LONGEST_ID:
            return None
        try:
            return self._read(value)
        except ValueError:
            return None

    def _verified(self, value: bytes) -> tuple[int, str, int, str]:
        match = _ID.fullmatch(value)
        if match is None:
            raise ValueError("not the shape of an id")
        signed, slot, generation, run, node, signature = match.groups()
        if not any(hmac.compare_digest(_signature(key, signed), signature) for key in self._keys):
            raise ValueError("not signed by us")
        named = (node or b"").decode("ascii"), int(generation or 0), (run or b"").decode("ascii")
        return int(slot), *named


def _signature(key: bytes, signed: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(key, signed, "sha256")[:_SIGNATURE_BYTES])

"""
Who serves a client, and why: computed from the settings alone, without a server.

Whatever only a running primary knows is said to be so: loads, tables, failed slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from stickyd.affinity.address import IpKey, TextKey, parse_address
from stickyd.affinity.http import Head
from stickyd.affinity.request import CookieKey
from stickyd.affinity.resolve import Resolver
from stickyd.affinity.sni import Hello, SniKey
from stickyd.affinity.spec import LearnKey, StampKey
from stickyd.errors import SettingError
from stickyd.placement.choice import LEAST, PLACEMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.affinity.resolve import Verdict
    from stickyd.affinity.spec import Key
    from stickyd.affinity.token import Signer
    from stickyd.settings import Settings


@dataclass(frozen=True)
class Client:
    """
    What is known of a client.

    :ivar address: as the listening socket, or a PROXY header, tells it; empty for a peer
        on a UNIX socket.
    :ivar headers: of the request, in order, cookies among them.
    :ivar target: of the request: the path, and the query if there is one.
    :ivar server_name: of the TLS handshake, or empty.
    """

    address: str
    headers: Sequence[tuple[str, str]] = ()
    target: str = "/"
    server_name: str = ""

    @property
    def head(self) -> Head:
        """
        The request as a worker's parser gives it.
        """
        headers = [
            (name.strip().lower().encode(), value.strip().encode("utf-8", "surrogateescape"))
            for name, value in self.headers
        ]
        return Head(b"GET", self.target.encode("utf-8", "surrogateescape"), headers)


@dataclass(frozen=True)
class Explanation:
    """
    The outcome.

    :ivar entry: the entry of ``--affinity`` that decides, or empty if none does.
    :ivar key: what the placement hashes, or empty if there is nothing to hash.
    :ivar slot: the slot that serves the client while it stands; None if only a running
        primary knows.
    :ivar reasons: a line for each step.
    """

    entry: str
    key: bytes
    slot: int | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        where = "only the running primary knows the slot" if self.slot is None else (
            f"slot {self.slot}"
        )  # fmt: skip
        return "\n".join((where, *(f"  {reason}" for reason in self.reasons)))


def explain(
    settings: Settings, slots: int, client: Client, signer: Signer | None = None
) -> Explanation:
    """
    Say which slot serves a client, as long as all slots stand.

    :param slots: how many there are.
    :param signer: verifies cookies and stamps; without it none is valid.
    :raises SettingError: if the address is none.
    """
    if client.address:
        try:
            parse_address(client.address)
        except ValueError:
            raise SettingError(f"--address: {client.address!r} is not an address") from None
    affinity = settings.keys
    resolver = Resolver(affinity, signer, lambda slot: slot < slots, settings.networks)
    head = client.head
    name = client.server_name.lower().rstrip(".").encode()
    hello = Hello(name) if name else None
    verdict = resolver.resolve(client.address, head, hello)
    reasons = []
    for key in affinity.keys:
        if key == verdict.entry:
            break
        reasons.append(f"{key}: {_why_not(key, client, signer)}")
    slot, why = _place(settings, slots, verdict)
    reasons.append(why)
    entry = "" if verdict.entry is None else str(verdict.entry)
    return Explanation(entry, verdict.key or b"", slot, tuple(reasons))


def _why_not(key: Key, client: Client, signer: Signer | None) -> str:
    if isinstance(key, SniKey):
        return "the client names no server"
    if not isinstance(key, (IpKey, TextKey)) and not key.key_of(client.head):
        return "the request does not have it"
    if isinstance(key, (CookieKey, StampKey)) and signer is None:
        return "cannot be verified here without --secret-file"
    return "not signed by us, or for a slot that there is not"


def _place(settings: Settings, slots: int, verdict: Verdict) -> tuple[int | None, str]:
    entry = verdict.entry
    if entry is None:
        return None, "no entry matches, so this is a newcomer: the least loaded slot"
    if verdict.slot is not None:
        return verdict.slot, f"{entry}: names slot {verdict.slot}, signed by us"
    if isinstance(entry, LearnKey):
        return None, f"{entry}: an id that the primary may have learned; if not, the next entry"
    assert verdict.key is not None
    found = f"{entry}: the key is {_shown(entry, verdict.key)}"
    if settings.placement == LEAST:
        return None, f"{found}: where it was before, and else the least loaded slot"
    slot = PLACEMENTS[settings.placement](slots).slot_of(verdict.key)
    return slot, f"{found}: {settings.placement} over {slots} slots gives {slot}"


def _shown(entry: Key, key: bytes) -> str:
    if isinstance(entry, IpKey) and len(key) in (4, 16):
        return str(ip_address(key))
    return repr(key.decode()) if key.isascii() and key.decode().isprintable() else key.hex()

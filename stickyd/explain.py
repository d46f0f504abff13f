"""
Which slot serves a client, and why: as a running primary knows it, or computed from the
settings alone.

Where no primary is asked, the explanation says what only a primary could know: loads, tables,
failed slots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from stickyd.affinity.address import IpKey, TextKey, parse_address
from stickyd.affinity.keys import CookieKey
from stickyd.affinity.peek.client_hello import Hello, SniKey
from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.resolve import Resolver
from stickyd.affinity.spec import LearnKey, MintedKey, StampKey
from stickyd.errors import SettingError
from stickyd.placement.choose import LEAST, PLACEMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stickyd.affinity.resolve import Keeping, Verdict
    from stickyd.affinity.spec import Key
    from stickyd.affinity.token import Signer
    from stickyd.settings import Settings


_NAME = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_COOKIE = re.compile(rf"{_NAME}=")
#: With a blank, which no IPv6 address has.
_HEADER = re.compile(rf"({_NAME}):[ \t]+(.*)")
#: An address as logs have it, with brackets or a port.
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+")


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _what_to_write(word: str) -> str:
    match = _WITH_PORT.fullmatch(word)
    if match is not None and _is_address(address := match[1] or match[2]):
        return f"{word!r} is not an address; write it without its port: {address}"
    return (
        f"{word[:60]!r} is not an address, no cookie as in stickyd=VALUE, no header as in"
        " 'X-User: alice', and no path as in /room/7"
    )


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

        :raises SettingError: if there can be none like it.
        """
        headers = [
            (_octets(name.strip().lower()), _octets(value.strip())) for name, value in self.headers
        ]
        return Head(b"GET", _octets(self.target), headers)

    @classmethod
    def told_by(cls, words: Sequence[str]) -> Client:
        """
        Read what is known of a client as people write it: an address, cookies as in
        ``stickyd=VALUE``, headers as in ``X-User: alice``, and a path; each as far as it is known.

        :raises SettingError: if a word is none of these, or there are two addresses or paths.
        """
        addresses, targets, headers = [], [], []
        for word in (word.strip() for word in words):
            if word.startswith("/"):
                targets.append(word)
            elif _is_address(word):
                addresses.append(word)
            elif header := _HEADER.fullmatch(word):
                headers.append((header[1], header[2]))
            elif _COOKIE.match(word):
                headers.append(("Cookie", word))
            else:
                raise SettingError(_what_to_write(word))
        for several, what in ((addresses, "address"), (targets, "path")):
            if len(several) > 1:
                raise SettingError(f"a client has one {what}: {several[0]!r} or {several[1]!r}?")
        return cls("".join(addresses), tuple(headers), "".join(targets) or "/")

    def with_more(self, other: Client) -> Client:
        """
        Put together what two say of one client.

        :raises SettingError: if both name an address, or a path.
        """
        if self.address and other.address:
            raise SettingError(f"a client has one address: {self.address!r} or {other.address!r}?")
        if "/" not in (self.target, other.target):
            raise SettingError(f"a client has one path: {self.target!r} or {other.target!r}?")
        return Client(
            self.address or other.address,
            (*self.headers, *other.headers),
            other.target if self.target == "/" else self.target,
            self.server_name or other.server_name,
        )


def _octets(text: str) -> bytes:
    """
    Write a text as a client sends it; bytes that were no UTF-8 on a command line are themselves.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SettingError(f"{text[:80]!r} has half a character, which no client sends") from None


@dataclass(frozen=True)
class Occupant:
    """
    The worker of a slot, and what it is doing.

    :ivar pid: the worker's process id; 0 while there is none.
    :ivar state: ``starting`` (the first one), ``serving``, ``restarting`` (clients wait for
        the next one), ``draining`` (the operator keeps clients away), ``failed`` (the slot
        has given up), ``stopping``, or ``keeping its clients`` (it was relieved, or its clients'
        keys belong elsewhere by now).
    """

    pid: int
    state: str

    def __str__(self) -> str:
        return f"worker {self.pid}, {self.state}" if self.pid else f"no worker, {self.state}"


@dataclass(frozen=True)
class Explanation:
    """
    The outcome.

    :ivar entry: the entry of ``--affinity`` that decides, or empty if none does.
    :ivar key: what the placement hashes, or empty if there is nothing to hash.
    :ivar slot: the slot that serves the client; None if only a running primary knows, or,
        told by one, if the client is refused.
    :ivar reasons: a line for each step.
    :ivar worker: the worker of the slot now; None if no primary was asked, or there is no slot.
    :ivar told: whether a running primary has said so.
    """

    entry: str
    key: bytes
    slot: int | None
    reasons: tuple[str, ...]
    worker: Occupant | None = None
    told: bool = False

    def __str__(self) -> str:
        if self.slot is not None:
            where = f"slot {self.slot}" + ("" if self.worker is None else f": {self.worker}")
        else:
            where = "no slot" if self.told else "only the running primary knows the slot"
        return "\n".join((where, *(f"  {reason}" for reason in self.reasons)))


class Running(Protocol):
    """
    What a primary knows.  To ask it changes nothing.

    :ivar runs: whether this is what a primary knows, and not a computation.
    :ivar slots: how many slots clients are placed on.
    :ivar keeping: who keeps clients; None if that is not known.
    :ivar owner_of: gives the slot that has claimed a learned id, None if none has; None
        instead of the function if the claims are not known.
    """

    @property
    def runs(self) -> bool: ...

    @property
    def slots(self) -> int: ...

    @property
    def owner_of(self) -> Callable[[bytes], int | None] | None: ...

    @property
    def keeping(self) -> Keeping | None: ...

    def is_available(self, slot: int) -> bool:
        """
        Whether clients may be placed on a slot.
        """

    def keeper_of(self, verdict: Verdict) -> tuple[int, Occupant, str] | None:
        """
        The worker that keeps a client though newcomers in its place would go elsewhere: its slot,
        the worker, and for how long.
        """

    def home_of(self, key: bytes) -> tuple[int | None, str]:
        """
        The slot of a key, and how it is found.
        """

    def newcomer_home(self) -> tuple[int | None, str]:
        """
        The slot of a client that no entry knows, if it came now, and how that is found.
        """

    def occupant_of(self, slot: int) -> Occupant | None:
        """
        The worker of a slot; None if that is not known.
        """


class Computed:
    """
    What follows from the settings, as long as all slots are available.
    """

    runs = False
    owner_of = None
    keeping = None

    def __init__(self, settings: Settings, slots: int) -> None:
        """
        :param slots: how many there are.
        """
        self.slots = slots
        self._placement = settings.placement

    def keeper_of(self, verdict: Verdict) -> tuple[int, Occupant, str] | None:
        """
        Nobody knows; see :class:`Running`.
        """
        return None

    def is_available(self, slot: int) -> bool:
        """
        Whether there is such a slot.
        """
        return slot < self.slots

    def home_of(self, key: bytes) -> tuple[int | None, str]:
        """
        The slot of a key; see :class:`Running`.
        """
        if self._placement == LEAST:
            return None, "where it was before, and else the least loaded slot"
        slot = PLACEMENTS[self._placement](self.slots).slot_of(key)
        return slot, f"{self._placement} over {self.slots} slots gives {slot}"

    def newcomer_home(self) -> tuple[int | None, str]:
        """
        Nobody knows; see :class:`Running`.
        """
        return None, "the least loaded slot"

    def occupant_of(self, slot: int) -> Occupant | None:
        """
        Nobody knows; see :class:`Running`.
        """
        return None


def explain(
    settings: Settings, slots: int, client: Client, signer: Signer | None = None
) -> Explanation:
    """
    Say which slot serves a client, as long as all slots are available.

    :param slots: how many there are.
    :param signer: verifies cookies and stamps; without it none is valid.
    :raises SettingError: if there can be no such client.
    """
    return explain_by(Computed(settings, slots), settings, client, signer)


def explain_by(
    running: Running, settings: Settings, client: Client, signer: Signer | None
) -> Explanation:
    """
    Say who serves a client, by what a primary knows.

    :param settings: the primary's.
    :param signer: the primary's too; without one no cookie and no stamp is valid.
    :raises SettingError: if there can be no such client.
    """
    if client.address:
        try:
            parse_address(client.address)
        except ValueError:
            raise SettingError(f"--address: {client.address!r} is not an address") from None
    affinity = settings.keys
    resolver = Resolver(
        *(affinity, signer, running.is_available, settings.networks, running.owner_of),
        keeping=running.keeping,
    )
    head = client.head
    name = _octets(client.server_name.lower().rstrip("."))
    hello = Hello(name) if name else None
    verdict = resolver.resolve(client.address, head, hello)
    if running.runs and not client.address and isinstance(verdict.entry, (IpKey, TextKey)):
        _require_unix(settings.listen)
    reasons = []
    for key in affinity.keys:
        if key == verdict.entry and not verdict.weak:
            break
        reasons.append(f"{key}: {_why_not(key, client, signer)}")
    entry = "" if verdict.entry is None else str(verdict.entry)
    slot: int | None
    worker: Occupant | None
    kept = running.keeper_of(verdict)
    if kept is not None:
        slot, worker, why = kept
        why = f"{entry}: {why}"
    else:
        slot, why = _place(running, verdict)
        worker = None if slot is None else running.occupant_of(slot)
    reasons.append(why)
    return Explanation(entry, verdict.key or b"", slot, tuple(reasons), worker, running.runs)


def _require_unix(endpoints: Sequence[str]) -> None:
    """
    Refuse to take whoever has no address for a peer on a UNIX socket, where there is none.
    """
    if all(each.startswith(("tcp:", "tcp6:", "systemd:domain=INET")) for each in endpoints):
        raise SettingError(
            "the client's address decides here, and none is given; write it too, as in 192.0.2.7"
        )


def _why_not(key: Key, client: Client, signer: Signer | None) -> str:
    if isinstance(key, SniKey):
        return "the client names no server"
    if not isinstance(key, (IpKey, TextKey)) and not key.key_of(client.head):
        return "the request does not have it"
    if isinstance(key, LearnKey):
        return "no available worker has claimed the id"
    if isinstance(key, (CookieKey, StampKey, MintedKey)) and signer is None:
        return "cannot be verified here without --secret-file"
    return "not signed by us, or for a slot that is not available"


def _place(running: Running, verdict: Verdict) -> tuple[int | None, str]:
    entry = verdict.entry
    if entry is None:
        slot, how = running.newcomer_home()
        return slot, f"no entry matches, so this is a newcomer: {how}"
    if isinstance(entry, LearnKey):
        if verdict.slot is None:
            return None, (
                f"{entry}: an id that a worker may have claimed; if none has, the next entry"
            )
        return verdict.slot, f"{entry}: claimed by slot {verdict.slot}"
    if verdict.slot is not None:
        return verdict.slot, f"{entry}: names slot {verdict.slot}, signed by us"
    assert verdict.key is not None
    slot, how = running.home_of(verdict.key)
    if verdict.weak:
        return slot, f"{entry}: the clients of the slot that it names went elsewhere: {how}"
    return slot, f"{entry}: the key is {_shown(entry, verdict.key)}: {how}"


def _shown(entry: Key, key: bytes) -> str:
    if isinstance(entry, IpKey) and len(key) in (4, 16):
        return str(ip_address(key))
    return repr(key.decode()) if key.isascii() and key.decode().isprintable() else key.hex()

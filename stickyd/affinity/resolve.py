"""
From what is known of a client to where it belongs: ``--affinity``, entry by entry.

Primary and workers resolve with the same class, so that they place alike.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from stickyd.affinity.address import IpKey, TextKey
from stickyd.affinity.client_identity import BY_KEY, slot_identity
from stickyd.affinity.forwarded import origin_of
from stickyd.affinity.keys import CookieKey, HeaderKey, PathKey, QueryKey
from stickyd.affinity.peek.client_hello import SniKey
from stickyd.affinity.spec import LearnKey, MintedKey, StampKey
from stickyd.affinity.trust import Networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.affinity.peek.client_hello import Hello
    from stickyd.affinity.peek.http1 import Head
    from stickyd.affinity.spec import Affinity, Key
    from stickyd.affinity.token import Named, Signer

    Rule: TypeAlias = "Callable[[str, Head | None, Hello | None], Verdict | None]"

LONGEST_KEY_BYTES: Final = 256
"""
How long a value may be, in bytes, to be a key itself; of a longer one the digest is.  A
key travels with its connection and is kept with its session, so it must have a bound.
"""

LEARNED_ID_BYTES: Final = 16
"""
How long what :func:`learned_id` gives is.
"""

MOST_VALUES: Final = 32
"""
How many cookies or headers of one name are looked at for a token: to verify one that is
forged costs ten microseconds.
"""

_ANY_ADDRESS = IpKey()


class Verdict(NamedTuple):
    """
    Where a client belongs.

    At most one of ``slot``, ``key`` and ``learned`` is not None; for a newcomer, a client that
    no entry knows, all of them are None.

    :ivar entry: the entry that matched; None for a newcomer.
    :ivar slot: the slot that a verified token names, or that has learned the id.
    :ivar generation: of the worker of that slot that knows the client; 0 if it is not known.
    :ivar client: what a token, or the id that was learned, tells this client by.
    :ivar key: what the placement hashes, at least one byte.
    :ivar learned: an id to be looked up where the claims are known, see :func:`learned_id`.
    :ivar weak: whether the entry counts only if no other one matches: a token that names a
        slot that is not available.  Then ``key`` is the one by which the sessions of
        its client went elsewhere.
    """

    entry: Key | None = None
    slot: int | None = None
    key: bytes | None = None
    learned: bytes | None = None
    weak: bool = False
    generation: int = 0
    client: bytes = b""

    @property
    def newcomer(self) -> bool:
        """
        Whether no entry matched.
        """
        return self.entry is None


NEWCOMER: Final = Verdict()


class Keeping(Protocol):
    """
    Which workers keep the clients that they know, beside those that have the slots.
    """

    def keeps(self, slot: int, generation: int) -> bool:
        """
        Whether the worker of that generation in a slot keeps its clients, though the slot may
        have another worker by now, or get no clients.
        """

    def keeper_of_id(self, identifier: bytes) -> tuple[int, int] | None:
        """
        Slot and generation of the worker that keeps the client of a learned id, as far as it
        is known here.
        """


class _NobodyKeeps:
    def keeps(self, slot: int, generation: int) -> bool:
        return False

    def keeper_of_id(self, identifier: bytes) -> tuple[int, int] | None:
        return None


def learned_id(source: HeaderKey | CookieKey | QueryKey, value: bytes) -> bytes:
    """
    Encode an id that an application mints, with where it stands, for ``Claim`` and the
    table of claims.

    A digest of :data:`LEARNED_ID_BYTES`: ids have no bound, and are the clients' secrets.
    """
    where = str(source)
    if isinstance(source, HeaderKey):
        where = where.lower()  # as names of headers have no case
    return blake2b(where.encode() + b"\0" + value, digest_size=LEARNED_ID_BYTES).digest()


class Resolver:
    """
    Finds the first entry that a client matches.

    An entry that needs what is not there (a head, a hello, a secret) does not match, nor
    does a token that is forged.  One that names a slot that is not available leaves
    it to the other entries; if none of them matches, its client goes where its sessions
    went.

    :ivar needs_head: whether an entry stands in a request.
    :ivar needs_hello: whether an entry stands in a ClientHello.
    :ivar needs_fields_only: whether two requests with the same fields get the same verdict,
        as long as the slots stay: no entry stands in the target, or is learned.
    :ivar needs_origin: whether an entry is the address, which a trusted peer may state in
        a request.
    :ivar refused: how many tokens were not signed by us, by what they stood in.
    :ivar fallback_key: gives the key of a client of which only the address will be known;
        raises :exc:`ValueError` if it is none.
    """

    def __init__(
        self,
        affinity: Affinity,
        signer: Signer | None,
        available: Callable[[int], bool],
        trust: Networks = Networks(),  # noqa: B008 (immutable)
        owner_of: Callable[[bytes], int | None] | None = None,
        refused: Counter[str] | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        """
        :param signer: verifies tokens; without one none counts.
        :param available: whether there is such a slot, and clients may be placed on it.
        :param trust: whose ``X-Forwarded-For`` and ``Forwarded`` count.
        :param owner_of: the slot that has claimed an id of :func:`learned_id`, or None if
            none has, which makes the entry fall through.  Without it (where the claims are
            not known) such a client gets a verdict with ``learned``.
        :param refused: where tokens are counted that are not ours; its own by default.
        :param keeping: knows who keeps clients; nobody does by default.
        """
        self.refused: Counter[str] = Counter() if refused is None else refused
        self._signer = signer
        self._available = available
        self._trust = trust
        self._owner_of = owner_of
        self._keeping = _NobodyKeeps() if keeping is None else keeping
        addresses = [key for key in affinity.keys if isinstance(key, (IpKey, TextKey))]
        self._address = addresses[0] if addresses else None
        self.fallback_key = (self._address or _ANY_ADDRESS).key_of
        # Every client has an address, so what follows is never asked.
        end = affinity.keys.index(addresses[0]) + 1 if addresses else len(affinity.keys)
        self.needs_head = self.needs_hello = False
        self._rules: list[Rule] = [self._rule_of(key) for key in affinity.keys[:end]]
        self.needs_fields_only = not any(
            isinstance(key, LearnKey) or _is_of_target(key) for key in affinity.keys[:end]
        )
        self.needs_origin = bool(trust) and bool(addresses)

    @property
    def asks_requests(self) -> bool:
        """
        Whether a request can say anything that its connection does not.
        """
        return self.needs_head or self.needs_origin

    def _rule_of(self, key: Key) -> Rule:
        if isinstance(key, (IpKey, TextKey)):
            return partial(self._by_address, key)
        if isinstance(key, SniKey):
            self.needs_hello = True
            return partial(self._by_name, key)
        self.needs_head = True
        if isinstance(key, CookieKey):
            return partial(self._by_cookie, key)
        if isinstance(key, StampKey):
            return partial(self._by_stamp, key)
        if isinstance(key, MintedKey):
            return partial(self._by_minted, key)
        if isinstance(key, LearnKey):
            return partial(self._by_claim, key)
        return partial(self._by_value, key)

    def resolve(self, host: str, head: Head | None = None, hello: Hello | None = None) -> Verdict:
        """
        Say where a client belongs.

        :param host: the client's, as the connection or a PROXY header names it.
        :param head: the request, if it is known.
        :param hello: the ClientHello, if it is known.
        """
        left = NEWCOMER
        for rule in self._rules:
            verdict = rule(host, head, hello)
            if verdict is not None:
                if not verdict.weak:
                    return verdict
                if left is NEWCOMER:
                    left = verdict
        return left

    def place(
        self, host: str, head: Head | None = None, hello: Hello | None = None
    ) -> tuple[int, bytes]:
        """
        Give the slot, or ``BY_KEY``, and the key that a client's connection travels with.

        The parameters are those of :meth:`resolve`.
        """
        slot, key, _, _ = self.home(host, head, hello)
        return slot, key

    def home(
        self, host: str, head: Head | None = None, hello: Hello | None = None
    ) -> tuple[int, bytes, int, bytes]:
        """
        The same, and the generation of the worker that knows the client, or 0; and the learned id
        that the client was found by, if it was by one.
        """
        verdict = self.resolve(host, head, hello)
        slot = BY_KEY if verdict.slot is None else verdict.slot
        learned = verdict.client if isinstance(verdict.entry, LearnKey) else b""
        return slot, self.handoff_key(verdict, host, head), verdict.generation, learned

    def handoff_key(self, verdict: Verdict, host: str, head: Head | None = None) -> bytes:
        """
        Give the key that a connection travels with: the verdict's, or what is left should
        the slot that the verdict names be gone.
        """
        if verdict.key is not None:
            return verdict.key
        return b"" if verdict.entry is None else self.address_key(host, head)

    def address_key(self, host: str, head: Head | None = None) -> bytes:
        """
        Give the key of a client's address; empty if the address is no entry.

        It is what a connection with a slot is placed by should the slot be gone.

        :raises ValueError: if ``host`` is no address.
        """
        return b"" if self._address is None else self._key_of_origin(self._address, host, head)

    # the entries

    def _key_of_origin(self, key: IpKey | TextKey, host: str, head: Head | None) -> bytes:
        if head is not None and host in self._trust:
            host = origin_of(host, head.headers, self._trust).client or host
        return key.key_of(host)

    def _by_address(
        self, key: IpKey | TextKey, host: str, head: Head | None, _: Hello | None
    ) -> Verdict:
        return Verdict(key, key=self._key_of_origin(key, host, head))

    def _by_name(
        self, key: SniKey, _: str, head: Head | None, hello: Hello | None
    ) -> Verdict | None:
        return None if hello is None else _hashed(key, key.key_of(hello))

    def _by_value(
        self, key: HeaderKey | QueryKey | PathKey, _: str, head: Head | None, hello: Hello | None
    ) -> Verdict | None:
        return None if head is None else _hashed(key, key.key_of(head))

    def _by_cookie(
        self, key: CookieKey, _: str, head: Head | None, hello: Hello | None
    ) -> Verdict | None:
        if head is None or self._signer is None:
            return None
        values = key.values_of(head)
        tokens = list(map(self._signer.named_by, values[:MOST_VALUES]))
        if None in tokens:
            self.refused["cookie"] += tokens.count(None)
        return self._by_tokens(key, tokens)

    def _by_stamp(
        self, key: StampKey, _: str, head: Head | None, hello: Hello | None
    ) -> Verdict | None:
        if head is None or self._signer is None:
            return None
        values = key.values_of(head)[:MOST_VALUES]
        return self._by_tokens(key, list(map(self._signer.named_by_stamp, values)))

    def _by_minted(
        self, key: MintedKey, _: str, head: Head | None, hello: Hello | None
    ) -> Verdict | None:
        if head is None or self._signer is None:
            return None
        values = key.values_of(head)[:MOST_VALUES]
        return self._by_tokens(key, list(map(self._signer.named_by_minted, values)))

    def _by_tokens(
        self, key: CookieKey | StampKey | MintedKey, tokens: list[Named | None]
    ) -> Verdict | None:
        """
        Take the first of our tokens that names an available slot, or a worker that keeps its
        clients; else the first of our tokens.

        :param tokens: what each token names, if it is ours.
        """
        gone = None
        for named in tokens:
            if named is not None:
                slot, generation, client = named
                if self._available(slot) or (generation and self._keeping.keeps(slot, generation)):
                    return Verdict(key, slot, generation=generation, client=client)
                gone = slot if gone is None else gone
        return None if gone is None else Verdict(key, key=slot_identity(gone, b""), weak=True)

    def _by_claim(
        self, key: LearnKey, _: str, head: Head | None, hello: Hello | None
    ) -> Verdict | None:
        if head is None:
            return None
        if self._owner_of is None:
            value = key.key_of(head)
            return Verdict(key, learned=learned_id(key.source, value)) if value else None
        # Of several, the first that a worker has claimed.
        for value in key.source.values_of(head)[:MOST_VALUES]:
            if value:
                identifier = learned_id(key.source, value)
                kept = self._keeping.keeper_of_id(identifier)
                if kept is not None:
                    return Verdict(key, kept[0], generation=kept[1], client=identifier)
                slot = self._owner_of(identifier)
                if slot is not None and self._available(slot):
                    return Verdict(key, slot, client=identifier)
        return None


def _is_of_target(key: Key) -> bool:
    source = key.source if isinstance(key, MintedKey) else key
    return isinstance(source, (QueryKey, PathKey))


def _hashed(key: Key, value: bytes | None) -> Verdict | None:
    if not value:
        return None
    if len(value) > LONGEST_KEY_BYTES:
        value = blake2b(value, digest_size=32).digest()
    return Verdict(key, key=value)

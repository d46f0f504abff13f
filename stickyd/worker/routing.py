"""
Rehoming: each request goes to the slot that owns its client, whatever connection it comes on.

A reverse proxy sends many clients down one keep-alive connection.  So the worker asks of
every request head, before the application sees it, which slot it belongs to; if that is not
its own, the connection goes there with the bytes from the start of that head.  Only what the
worker cannot know goes back to the primary to be looked at: an id that another worker may
have minted, and a client that no entry knows, which goes to the least loaded slot.

Where workers keep the clients that they know (``--reload-mode client``), a slot may have several
workers: each request goes to the one that knows its client, and a newcomer's to the one that has
the slot.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stickyd.affinity.address import IpKey, TextKey
from stickyd.affinity.forwarded import origin_of
from stickyd.affinity.peek.client_hello import SniKey
from stickyd.handoff.frame import BY_KEY, Flag, Purpose
from stickyd.worker.known_clients import ID, KEY, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from stickyd.affinity.peek.http1 import Head
    from stickyd.affinity.resolve import Resolver, Verdict
    from stickyd.affinity.trust import Networks
    from stickyd.handoff.frame import Handoff
    from stickyd.worker.claims import OwnIds, OwnKeys
    from stickyd.worker.known_clients import KnownClients
    from stickyd.worker.outbox import Outbox
    from stickyd.worker.slot_map import SlotMap

    Take = Callable[[socket, bytes], object]


class Rehoming:
    """
    Says of each request whether it is served here, and gives the connection away if not.
    """

    def __init__(
        self,
        resolver: Resolver,
        places: SlotMap,
        own_ids: OwnIds,
        own_keys: OwnKeys,
        outbox: Outbox,
        trust: Networks,
        known: KnownClients | None = None,
        new_mark: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """
        :param resolver: one that does not know the claims.
        :param trust: the proxies, whose connections carry many clients.
        :param known: the clients that are kept if this worker is relieved; :obj:`None` if
            none are.
        :param new_mark: makes what a client would be known by that has no cookie yet; gives
            :obj:`None` where none is set.
        """
        self._new_mark = new_mark
        self._resolver = resolver
        self._places = places
        self._own_ids = own_ids
        self._own_keys = own_keys
        self._outbox = outbox
        self._trust = trust
        self._known = known
        self._fields_say_all = resolver.needs_fields_only and places.knows_keys
        self._paused = False

    @property
    def needed(self) -> bool:
        """
        Whether a request can say anything that its connection does not.
        """
        return self._resolver.asks_requests

    def pause(self) -> None:
        """
        Serve everything here from now on: while the server stops there is nowhere to go.
        """
        self._paused = True

    def route(self, head: Head, handoff: Handoff) -> Take | None:
        """
        Say where the connection goes with this request.

        :param head: the head of the request that has come.
        :param handoff: the handoff that brought the connection; the client of the request is
            noted in it, for sessions and for when the connection is given away.
        :return: what takes the socket and the bytes from the start of the head;
            :obj:`None` to have the request served here.
        """
        seen = handoff.seen
        if seen is not None and seen[0] is head.headers and seen[1] == self._places.changes:
            return None
        placed = handoff.flags & Flag.PLACED
        handoff.flags &= ~Flag.PLACED
        if self._paused or not self._places.slots:
            return None
        verdict = self._resolver.resolve(handoff.host, head)
        if verdict.learned is not None:
            return self._route_learned(verdict.learned, head, handoff, bool(placed))
        if verdict.newcomer:
            return self._route_newcomer(head, handoff, bool(placed))
        handoff.newcomer = handoff.seen = None
        if self._is_of_connection(verdict, handoff):
            return None
        return self._route_known(verdict, head, handoff, bool(placed))

    def _is_of_connection(self, verdict: Verdict, handoff: Handoff) -> bool:
        """
        Whether a verdict says less than what the primary, which saw the ClientHello, knew when
        it placed the connection.
        """
        if isinstance(verdict.entry, SniKey):
            return True
        by_address = isinstance(verdict.entry, (IpKey, TextKey))
        return by_address and self._resolver.needs_hello and handoff.host not in self._trust

    def _route_known(
        self, verdict: Verdict, head: Head, handoff: Handoff, placed: bool
    ) -> Take | None:
        if self._known is not None:
            return self._route_kept(self._known, verdict, head, handoff, placed)
        if verdict.slot is None:
            assert verdict.key is not None
            slot, key = BY_KEY, verdict.key
            if not self._places.knows_keys:
                if placed:
                    self._own_keys.add(key)
                elif key not in self._own_keys:
                    return partial(self._ask, handoff)
            target = self._places.slot_of(key)
        else:
            target = slot = verdict.slot
            key = self._resolver.address_key(handoff.host, head)
        if target == self._places.slot:
            handoff.slot, handoff.key = slot, key
            if self._fields_say_all:
                # The same fields are the same object, as long as it is held.
                handoff.seen = head.headers, self._places.changes
            return None
        if placed:
            # By another worker or the primary, which may know a newer placement.
            return None
        return partial(self._give, handoff, slot, key, 0)

    def _route_kept(
        self,
        known: KnownClients,
        verdict: Verdict,
        head: Head,
        handoff: Handoff,
        placed: bool,
    ) -> Take | None:
        """
        Route a request where workers keep the clients that they know.
        """
        places = self._places
        if verdict.slot is not None:
            slot, key = verdict.slot, self._resolver.address_key(handoff.host, head)
            generation, mark = verdict.generation, TOKEN + verdict.client
            is_kept = places.keeps(slot, generation)
            ours = slot == places.slot and (generation == places.generation or not is_kept)
        else:
            assert verdict.key is not None
            slot, key, generation, is_kept = BY_KEY, verdict.key, 0, False
            mark = KEY + key if known.by_key else b""
            if not (mark in known or placed or known.is_relieved) and self._must_ask(key):
                return partial(self._ask, handoff)
            ours = mark in known or places.slot_of(key) == places.slot
        if not (ours or placed):
            return partial(self._give, handoff, slot, key, generation if is_kept else 0)
        if not (known.admits(mark) if mark else not known.is_relieved):
            return partial(self._move_on, handoff, slot, key)
        if placed and slot == BY_KEY and not places.knows_keys:
            self._own_keys.add(key)
        handoff.slot, handoff.key, handoff.client = slot, key, mark or self._new_mark()
        if ours and self._fields_say_all:
            handoff.seen = head.headers, places.changes
        return None

    def _must_ask(self, key: bytes) -> bool:
        """
        Whether only the primary knows whose a key is that we do not know.
        """
        places = self._places
        if not places.knows_keys:
            return key not in self._own_keys
        return places.keyed and places.slot_of(key) == places.slot

    def _route_learned(
        self, identifier: bytes, head: Head, handoff: Handoff, placed: bool
    ) -> Take | None:
        known = self._known
        if known is not None and known.is_relieved:
            if not known.admits(ID + identifier):
                if placed:
                    return partial(self._move_on, handoff, self._places.slot, b"")
                return partial(self._ask, handoff)
        else:
            if placed:
                self._own_ids.add(identifier)
            if identifier not in self._own_ids:
                return partial(self._ask, handoff)
            self._own_ids.used(identifier)
            if known is not None:
                known.add(ID + identifier)
        handoff.client = ID + identifier
        handoff.newcomer = handoff.seen = None
        handoff.slot = self._places.slot
        handoff.key = self._resolver.address_key(handoff.host, head)
        return None

    def _route_newcomer(self, head: Head, handoff: Handoff, placed: bool) -> Take | None:
        # A client's own connection stays where it is, but a proxy's brings others, and
        # nothing but the last request of somebody else has led it here.
        client = ""
        if self._known is not None and self._known.is_relieved:
            return partial(self._ask, handoff)
        if handoff.host in self._trust:
            client = origin_of(handoff.host, head.headers, self._trust).client or ""
            if not placed and (not client or client != handoff.newcomer):
                return partial(self._ask, handoff)
        handoff.newcomer, handoff.seen, handoff.client = client, None, self._new_mark()
        handoff.slot, handoff.key = self._places.slot, b""
        return None

    def _give(
        self,
        handoff: Handoff,
        slot: int,
        key: bytes,
        generation: int,
        sock: socket,
        unread: bytes,
    ) -> None:
        packed = self._outbox.pack(sock, unread, handoff, slot, key, Flag.PLACED)
        if packed is not None:
            if generation:
                packed.purpose, packed.generation = Purpose.KEPT, generation
            self._outbox.send(packed)

    def _move_on(
        self, handoff: Handoff, slot: int, key: bytes, sock: socket, unread: bytes
    ) -> None:
        """
        Give a connection to whoever has newcomers, as we do not know its client (any more).
        """
        flags = Flag.PLACED | Flag.MOVED_ON
        packed = self._outbox.pack(sock, unread, handoff, slot, key, flags)
        if packed is not None:
            self._outbox.move_on(packed)

    def _ask(self, handoff: Handoff, sock: socket, unread: bytes) -> None:
        packed = self._outbox.pack(
            sock, unread, handoff, BY_KEY, handoff.key, purpose=Purpose.RESOLVE
        )
        if packed is not None:
            self._outbox.send(packed)

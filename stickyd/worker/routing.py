"""
Rehoming: each request goes to the slot that owns its client, whatever connection it comes on.

A reverse proxy sends many clients down one keep-alive connection.  So the worker asks of
every request head, before the application sees it, which slot it belongs to; if that is not
its own, the connection goes there with the bytes from the start of that head.  Only what the
worker cannot know goes back to the primary to be looked at: an id that another worker may
have minted, and a client that no entry knows, which goes to the least loaded slot.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stickyd.affinity.address import IpKey, TextKey
from stickyd.affinity.forwarded import origin_of
from stickyd.affinity.peek.client_hello import SniKey
from stickyd.handoff.frame import BY_KEY, Flag, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from stickyd.affinity.peek.http1 import Head
    from stickyd.affinity.resolve import Resolver, Verdict
    from stickyd.affinity.trust import Networks
    from stickyd.handoff.frame import Handoff
    from stickyd.worker.claims import OwnIds, OwnKeys
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
    ) -> None:
        """
        :param resolver: one that does not know the claims.
        :param trust: the proxies, whose connections carry many clients.
        """
        self._resolver = resolver
        self._places = places
        self._own_ids = own_ids
        self._own_keys = own_keys
        self._outbox = outbox
        self._trust = trust
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
        return partial(self._give, handoff, slot, key)

    def _route_learned(
        self, identifier: bytes, head: Head, handoff: Handoff, placed: bool
    ) -> Take | None:
        if placed:
            self._own_ids.add(identifier)
        if identifier not in self._own_ids:
            return partial(self._ask, handoff)
        self._own_ids.used(identifier)
        handoff.newcomer = handoff.seen = None
        handoff.slot = self._places.slot
        handoff.key = self._resolver.address_key(handoff.host, head)
        return None

    def _route_newcomer(self, head: Head, handoff: Handoff, placed: bool) -> Take | None:
        # A client's own connection stays where it is, but a proxy's brings others, and
        # nothing but the last request of somebody else has led it here.
        client = ""
        if handoff.host in self._trust:
            client = origin_of(handoff.host, head.headers, self._trust).client or ""
            if not placed and (not client or client != handoff.newcomer):
                return partial(self._ask, handoff)
        handoff.newcomer, handoff.seen = client, None
        handoff.slot, handoff.key = self._places.slot, b""
        return None

    def _give(self, handoff: Handoff, slot: int, key: bytes, sock: socket, unread: bytes) -> None:
        packed = self._outbox.pack(sock, unread, handoff, slot, key, Flag.PLACED)
        if packed is not None:
            self._outbox.send(packed)

    def _ask(self, handoff: Handoff, sock: socket, unread: bytes) -> None:
        packed = self._outbox.pack(
            sock, unread, handoff, BY_KEY, handoff.key, purpose=Purpose.RESOLVE
        )
        if packed is not None:
            self._outbox.send(packed)

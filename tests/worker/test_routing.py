"""
Who shall answer a request.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from stickyd.affinity.client_identity import slot_identity
from stickyd.affinity.keys import HeaderKey
from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.resolve import Resolver, learned_id
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY, Flag, Handoff, Purpose
from stickyd.placement.rendezvous import Rendezvous
from stickyd.testing import FakeRefusal, FakeSpawner
from stickyd.worker.claims import OwnIds, OwnKeys
from stickyd.worker.known_clients import TOKEN, KnownClients
from stickyd.worker.outbox import Outbox
from stickyd.worker.routing import Rehoming
from stickyd.worker.slot_map import SlotMap

SLOTS = 4
SIGNER = Signer([b"a secret of some length"])
OWN = 1
KEYS = [b"user%d" % number for number in range(20)]
MINE = next(key for key in KEYS if Rendezvous(SLOTS).slot_of(key) == OWN)
OTHERS = next(key for key in KEYS if Rendezvous(SLOTS).slot_of(key) != OWN)
CLIENT = "192.0.2.7"
PROXY = "10.0.0.1"


class Rig:
    """
    The rehoming of the worker in slot 1 of four.
    """

    def __init__(
        self,
        entries: str,
        placement: str = "rendezvous",
        told: bool = True,
        generation: int = 0,
    ) -> None:
        """
        :param generation: of the worker, if it keeps its clients when it is relieved.
        """
        clock = Clock()
        affinity = parse_affinity(entries)
        self.places = SlotMap(OWN, placement)
        if told:
            self.places.update(SLOTS, range(SLOTS))
        self.ids = OwnIds(clock, affinity, lambda _: Deferred())
        self.outbox = Outbox()
        slot = Slot(0, clock, QueueLimits(1, 1.0), FakeRefusal())
        self.way = FakeSpawner().spawn(slot, lambda: None, lambda _: None)
        self.outbox.open(self.way)
        trust = Networks.parse("10.0.0.0/8")
        resolver = Resolver(affinity, SIGNER, self.places.is_available, trust, keeping=self.places)
        self.known = KnownClients(
            clock, affinity, 100.0, 100, lambda keys, ids, gone, finished: succeed(None)
        )
        self.places.occupy_as(generation)
        self.rehoming = Rehoming(
            *(resolver, self.places, self.ids, OwnKeys(clock), self.outbox, trust),
            self.known if generation else None,
            lambda: TOKEN + b"made",
        )

    def handoff(self, host: str = CLIENT, flags: int = 0, slot: int = BY_KEY) -> Handoff:
        """
        A connection that was handed over.
        """
        return Handoff(0, host, 4711, b"as it came", slot=slot, flags=flags)

    def ask(self, handoff: Handoff, **fields: bytes) -> Handoff | None:
        """
        Have a request come on a connection.

        :return: as what the connection goes away, or :obj:`None`.
        """
        head = Head(
            b"GET", b"/", [(name.replace("_", "-").encode(), v) for name, v in fields.items()]
        )
        take = self.rehoming.route(head, handoff)
        if take is None:
            return None
        sock, client = socket.socketpair()
        with client:
            take(sock, b"unread")
            handoff = self.way.sent.pop()
            os.close(handoff.descriptor)
        assert handoff.unread == b"unread"
        return handoff


def said(handoff: Handoff | None) -> Any:
    """
    What matters of a handoff.
    """
    if handoff is None:
        return None
    return handoff.slot, handoff.key, handoff.purpose, handoff.flags


def test_key_of_another_slot_leaves() -> None:
    """
    A request goes by its key, with the mark that it was looked at.
    """
    rig = Rig("header:X-User,ip")
    gone = rig.ask(rig.handoff(), x_user=OTHERS)
    assert said(gone) == (BY_KEY, OTHERS, Purpose.CONNECTION, Flag.PLACED)
    assert rig.ask(rig.handoff(), x_user=MINE) is None


def test_connection_knows_whose_request_came_last() -> None:
    """
    Sessions and a release go by the client of the last request that is served here.
    """
    rig = Rig("cookie:stickyd,header:X-User,ip")
    handoff = rig.handoff()
    rig.ask(handoff, x_user=MINE)
    assert (handoff.slot, handoff.key) == (BY_KEY, MINE)
    rig.ask(handoff, cookie=b"stickyd=" + SIGNER.mint(OWN).encode())
    assert (handoff.slot, handoff.key) == (OWN, socket.inet_aton(CLIENT))
    rig.ask(handoff, x_user=OTHERS)
    assert (handoff.slot, handoff.key) == (OWN, socket.inet_aton(CLIENT))


def test_same_fields_again_are_looked_at_when_something_has_changed() -> None:
    """
    What was found of a connection's fields holds until the slots change, or somebody else
    was served on it.
    """
    rig = Rig("header:X-User,ip")
    handoff = rig.handoff()
    head = Head(b"GET", b"/", [(b"x-user", MINE)])
    for _ in range(3):
        assert rig.rehoming.route(head, handoff) is None
    other = next(key for key in KEYS if key != MINE and rig.places.slot_of(key) == OWN)
    rig.ask(handoff, x_user=other)
    assert handoff.key == other
    assert rig.rehoming.route(head, handoff) is None
    assert handoff.key == MINE
    rig.places.update(SLOTS, [0, 2, 3])
    assert rig.rehoming.route(head, handoff) is not None


@pytest.mark.parametrize("entry", ["query:user", "path:/([^/]+)"])
def test_same_fields_say_nothing_of_the_target(entry: str) -> None:
    """
    Where the target counts, requests with the same fields differ.
    """
    rig = Rig(f"{entry},ip")
    handoff = rig.handoff()
    fields = [(b"host", b"h")]
    targets = [b"/%b?user=%b" % (key, key) for key in (MINE, OTHERS)]
    first, second = (rig.rehoming.route(Head(b"GET", t, fields), handoff) for t in targets)
    assert first is None
    assert second is not None


def test_token_of_another_slot_leaves() -> None:
    """
    A request goes to the slot that its token names, if that is available.
    """
    rig = Rig("cookie:stickyd,ip")
    cookie = b"stickyd=" + SIGNER.mint(3).encode()
    gone = rig.ask(rig.handoff(), cookie=cookie)
    assert said(gone) == (3, socket.inet_aton(CLIENT), Purpose.CONNECTION, Flag.PLACED)
    rig.places.update(SLOTS, [0, 1, 2])
    address = socket.inet_aton(CLIENT)
    assert rig.places.slot_of(address) != OWN
    assert said(rig.ask(rig.handoff(), cookie=cookie))[:2] == (BY_KEY, address)


def test_token_of_a_gone_slot_goes_where_its_sessions_went() -> None:
    """
    Without any other entry to decide, the worker places such a client as sessions are.
    """
    rig = Rig("cookie:stickyd")
    rig.places.update(SLOTS, [0, 1, 2])
    handoff = rig.handoff()
    gone = rig.ask(handoff, cookie=b"stickyd=" + SIGNER.mint(3).encode())
    home = rig.places.home_of(slot_identity(3, b""))
    assert said(gone) == (
        None if home == OWN else (BY_KEY, slot_identity(3, b""), Purpose.CONNECTION, Flag.PLACED)
    )


def test_placed_request_is_served_whatever_we_think() -> None:
    """
    The first request of a connection that somebody has placed is served; the next is
    looked at again.
    """
    rig = Rig("header:X-User,ip")
    handoff = rig.handoff(flags=Flag.PLACED | Flag.SECURE)
    assert rig.ask(handoff, x_user=OTHERS) is None
    assert handoff.flags == Flag.SECURE
    assert handoff.key == b"as it came"
    gone = rig.ask(handoff, x_user=OTHERS)
    assert said(gone) == (BY_KEY, OTHERS, Purpose.CONNECTION, Flag.PLACED | Flag.SECURE)


@pytest.mark.parametrize("paused", [False, True])
def test_everything_is_served_where_nothing_is_known(paused: bool) -> None:
    """
    Before the primary has told of the slots, and while the server stops, nobody is sent
    away.
    """
    rig = Rig("header:X-User,ip", told=paused)
    if paused:
        rig.rehoming.pause()
    assert rig.ask(rig.handoff(), x_user=OTHERS) is None


def test_learned_id_is_asked_for_once() -> None:
    """
    An id that another worker may have minted is the primary's to place; if it sends it
    here, it is ours from then on.
    """
    rig = Rig("learn:header:X-Id,ip")
    handoff = rig.handoff(host=PROXY)
    gone = rig.ask(handoff, x_id=b"id")
    assert said(gone) == (BY_KEY, b"as it came", Purpose.RESOLVE, 0)
    assert rig.ask(rig.handoff(host=PROXY, flags=Flag.PLACED), x_id=b"id") is None
    assert rig.ask(handoff, x_id=b"id") is None
    assert (handoff.slot, handoff.key) == (OWN, socket.inet_aton(PROXY))


def test_id_that_was_minted_here_is_served_here() -> None:
    """
    A claim of our own is as good as the primary's word.
    """
    rig = Rig("learn:header:X-Id,ip")
    rig.ids.claim([learned_id(HeaderKey("X-Id"), b"id")])
    assert rig.ask(rig.handoff(), x_id=b"id") is None


def test_newcomer_on_his_own_connection_stays() -> None:
    """
    A client whom no entry knows stays where its connection is, and belongs there from then on.
    """
    rig = Rig("cookie:stickyd")
    handoff = rig.handoff()
    assert rig.ask(handoff) is None
    assert (handoff.slot, handoff.key) == (OWN, b"")


def test_newcomer_on_a_proxys_connection_is_placed_anew() -> None:
    """
    Each newcomer whom a trusted proxy brings goes to the primary once, as nothing but the
    client before it has led the connection here.
    """
    rig = Rig("cookie:stickyd")
    handoff = rig.handoff(host=PROXY, flags=Flag.PLACED)
    assert rig.ask(handoff, x_forwarded_for=b"192.0.2.1") is None
    assert rig.ask(handoff, x_forwarded_for=b"192.0.2.1") is None
    gone = rig.ask(handoff, x_forwarded_for=b"192.0.2.2")
    assert gone is not None
    assert gone.purpose == Purpose.RESOLVE
    # Somebody who is known, in between.
    assert rig.ask(handoff, cookie=b"stickyd=" + SIGNER.mint(OWN).encode()) is None
    assert rig.ask(handoff, x_forwarded_for=b"192.0.2.1") is not None
    # A proxy that does not say who it is.
    assert rig.ask(handoff) is not None


def test_address_that_a_proxy_tells_counts() -> None:
    """
    With the address as the key each request of a trusted proxy goes by what it tells.
    """
    rig = Rig("ip")
    handoff = rig.handoff(host=PROXY)
    slots = set()
    for number in range(20):
        address = f"192.0.2.{number}"
        gone = rig.ask(handoff, x_forwarded_for=address.encode())
        key = handoff.key if gone is None else gone.key
        assert key == socket.inet_aton(address)
        slots.add(OWN if gone is None else Rendezvous(SLOTS).slot_of(key))
    assert slots == set(range(SLOTS))


def test_handshake_that_the_primary_saw_counts() -> None:
    """
    Where the server name places a connection, its address sends nobody away from there.
    """
    rig = Rig("header:X-User,sni,ip")
    handoff = rig.handoff()
    hosts = [f"192.0.2.{number}" for number in range(20)]
    for handoff in map(rig.handoff, hosts):
        assert rig.ask(handoff) is None
        assert handoff.key == b"as it came"
    assert rig.ask(handoff, x_user=OTHERS) is not None


def test_least_leaves_keys_to_the_primary() -> None:
    """
    With the placement ``least`` only the primary knows where a key belongs: it is asked
    about those that it has not sent here.
    """
    rig = Rig("header:X-User,ip", placement="least")
    handoff = rig.handoff()
    gone = rig.ask(handoff, x_user=OTHERS)
    assert gone is not None
    assert gone.purpose == Purpose.RESOLVE
    assert rig.ask(rig.handoff(flags=Flag.PLACED), x_user=OTHERS) is None
    assert rig.ask(handoff, x_user=OTHERS) is None
    assert (handoff.slot, handoff.key) == (BY_KEY, OTHERS)


@pytest.mark.parametrize(
    ("entries", "trust", "needed"),
    [("ip", "", False), ("ip", "10.0.0.0/8", True), ("cookie:a", "", True), ("sni,ip", "", False)],
)
def test_requests_are_looked_at_only_if_they_can_say_something(
    entries: str, trust: str, needed: bool
) -> None:
    """
    Where the connection says it all, no request is looked at.
    """
    networks = Networks.parse(trust)
    resolver = Resolver(parse_affinity(entries), SIGNER, lambda _: True, networks)
    rig = Rig(entries)
    rehoming = Rehoming(resolver, rig.places, rig.ids, OwnKeys(Clock()), rig.outbox, networks)
    assert rehoming.needed == needed


def keeping(entries: str, placement: str = "rendezvous") -> Rig:
    """
    The worker of generation 2 in slot 1; the worker of generation 1 keeps its clients.
    """
    rig = Rig(entries, placement, generation=2)
    rig.places.note_keepers([OWN, 1], keyed=True)
    return rig


def token(slot: int, generation: int) -> bytes:
    """
    A cookie.
    """
    return b"stickyd=" + SIGNER.mint(slot, generation=generation).encode()


def test_a_token_of_a_kept_generation_goes_to_its_worker() -> None:
    """
    A request goes to whoever knows its client, in the same slot too; a generation that is gone, or
    none, is of whoever has the slot.
    """
    rig = keeping("cookie:stickyd")
    gone = rig.ask(rig.handoff(), cookie=token(OWN, 1))
    assert gone is not None
    assert (gone.slot, gone.generation, gone.purpose) == (OWN, 1, Purpose.KEPT)
    for generation in (0, 2, 3):
        assert rig.ask(rig.handoff(), cookie=token(OWN, generation)) is None
    elsewhere = rig.ask(rig.handoff(), cookie=token(3, 1))
    assert elsewhere is not None
    assert (elsewhere.slot, elsewhere.purpose) == (3, Purpose.CONNECTION)
    # The primary may know that the keeper has ended.
    assert rig.ask(rig.handoff(flags=Flag.PLACED), cookie=token(OWN, 1)) is None


def test_a_token_of_a_slot_that_is_gone_leads_to_its_keeper() -> None:
    """
    A worker whose slot a resize took away still has its clients.
    """
    rig = keeping("cookie:stickyd")
    rig.places.note_keepers([9, 1], keyed=False)
    gone = rig.ask(rig.handoff(), cookie=token(9, 1))
    assert gone is not None
    assert (gone.slot, gone.generation, gone.purpose) == (9, 1, Purpose.KEPT)


def test_a_relieved_worker_serves_whom_it_knows_and_sends_on_the_others() -> None:
    """
    Those that were served here before go on; a client that it never saw, or has released, is told
    to the primary as one that has moved on, whoever placed it here.
    """
    rig = Rig("cookie:stickyd", generation=1)
    known = token(OWN, 1)
    assert rig.ask(rig.handoff(), cookie=known) is None
    rig.known.keep(True, lambda key: True)
    rig.places.note_keepers([OWN, 1], keyed=False)
    handoff = rig.handoff(flags=Flag.PLACED)
    assert rig.ask(handoff, cookie=known) is None
    for flags in (0, Flag.PLACED):
        sent_on = rig.ask(rig.handoff(flags=flags), cookie=token(OWN, 1))
        assert sent_on is not None
        assert sent_on.flags == Flag.PLACED | Flag.MOVED_ON
        assert (sent_on.slot, sent_on.purpose) == (OWN, Purpose.CONNECTION)
    assert handoff.client is not None
    rig.known.release(handoff.client)
    assert rig.ask(rig.handoff(), cookie=known) is not None
    newcomer = rig.ask(rig.handoff())
    assert newcomer is not None
    assert newcomer.purpose == Purpose.RESOLVE


def test_a_key_that_another_worker_may_keep_is_asked_for_once() -> None:
    """
    While some clients are kept by their keys only the primary knows whose a new one is.
    """
    rig = keeping("header:X-User")
    asked = rig.ask(rig.handoff(), x_user=MINE)
    assert asked is not None
    assert asked.purpose == Purpose.RESOLVE
    assert rig.ask(rig.handoff(flags=Flag.PLACED), x_user=MINE) is None
    assert rig.ask(rig.handoff(), x_user=MINE) is None
    rig.places.note_keepers([], keyed=False)
    other = next(key for key in KEYS if key != MINE and rig.places.slot_of(key) == OWN)
    assert rig.ask(rig.handoff(), x_user=other) is None


def test_a_known_key_stays_whatever_the_placement_says() -> None:
    """
    A resize is for newcomers.
    """
    rig = Rig("header:X-User", generation=1)
    assert rig.ask(rig.handoff(flags=Flag.PLACED), x_user=OTHERS) is None
    assert rig.ask(rig.handoff(), x_user=OTHERS) is None
    rig.known.keep(True, lambda key: True)
    assert rig.ask(rig.handoff(), x_user=OTHERS) is None
    mine = rig.ask(rig.handoff(), x_user=MINE)
    assert said(mine) == (BY_KEY, MINE, Purpose.CONNECTION, Flag.PLACED | Flag.MOVED_ON)


def test_learned_ids_of_a_relieved_worker() -> None:
    """
    It serves those that are its own, and asks for others.
    """
    rig = Rig("learn:header:X-Id", generation=1)
    assert rig.ask(rig.handoff(flags=Flag.PLACED), x_id=b"one") is None
    rig.known.keep(True, lambda key: True)
    assert rig.ask(rig.handoff(), x_id=b"one") is None
    asked = rig.ask(rig.handoff(), x_id=b"two")
    assert asked is not None
    assert asked.purpose == Purpose.RESOLVE
    sent_on = rig.ask(rig.handoff(flags=Flag.PLACED), x_id=b"two")
    assert sent_on is not None
    assert sent_on.flags == Flag.PLACED | Flag.MOVED_ON


@pytest.mark.parametrize("entries", ["cookie:stickyd", "cookie:stickyd,ip"])
def test_newcomer_has_what_its_cookie_will_say(entries: str) -> None:
    """
    A client that is about to get a cookie is told by what that will say, for the sessions that it
    begins; it is known when it has got it.
    """
    rig = Rig(entries, generation=3)
    handoff = rig.handoff(flags=Flag.PLACED)
    assert rig.ask(handoff) is None
    assert handoff.client == TOKEN + b"made"
    assert handoff.client not in rig.known

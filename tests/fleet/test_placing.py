"""
Newcomers, claims, and connections that only the primary can place.
"""

from __future__ import annotations

import json

import pytest

from stickyd.affinity.address import IpKey
from stickyd.affinity.keys import CookieKey
from stickyd.affinity.resolve import learned_id
from stickyd.affinity.token import Signer
from stickyd.handoff.frame import BY_KEY, Flag, Handoff, Purpose
from tests.fleet.test_fleet import Rig

SIGNER = Signer([b"a secret of some length"])
LEARNED = [learned_id(CookieKey("sid"), value) for value in (b"a", b"b", b"c")]


def rig(count: int = 3, entries: str = "learn:cookie:sid,cookie:stickyd") -> Rig:
    """
    A fleet that serves, and can resolve.
    """
    made = Rig(count, entries=entries, signer=SIGNER)
    made.ready(*range(count))
    return made


def newcomer(made: Rig) -> Handoff:
    """
    Deliver a connection without a key.
    """
    made.numbers += 1
    handoff = Handoff(made.numbers, "192.0.2.1", 1, b"")
    made.fleet.deliver(handoff)
    return handoff


def resolved(made: Rig, request: bytes) -> Handoff:
    """
    Give a connection back with this request in it.
    """
    made.numbers += 1
    handoff = Handoff(
        made.numbers, "192.0.2.1", 1, b"old", request, BY_KEY, Purpose.RESOLVE, Flag.CLAIMED
    )
    made.fleet.resolve(handoff)
    return handoff


def test_newcomers_spread_and_are_told_their_slot() -> None:
    """
    One after the other they go to whoever has least, in turn where all have the same.
    """
    made = rig()
    slots = [newcomer(made).slot for _ in range(6)]
    assert slots == [0, 1, 2, 0, 1, 2]
    assert [len(made.worker(slot).sent) for slot in range(3)] == [2, 2, 2]


def test_load_is_what_is_served_what_is_coming_and_what_waits() -> None:
    """
    Heartbeats, connections in flight and the queue all count.
    """
    made = rig()
    made.worker(0).connections = 2
    for _ in range(2):
        made.deliver(1)
    made.worker(2).window = 0
    made.deliver(2)
    assert [slot.load for slot in made.fleet.slots] == [2, 2, 1]
    assert newcomer(made).slot == 2
    assert [newcomer(made).slot for _ in range(3)] == [0, 1, 2]


def test_newcomer_does_not_wait_for_a_worker_if_another_serves() -> None:
    """
    A slot whose worker has died has nothing to do, and yet is no place for newcomers.
    """
    made = rig()
    for slot in (0, 1):
        made.worker(slot).connections = 1000
    made.worker(2).died("died of signal 9 (SIGKILL)")
    assert newcomer(made).slot == 0
    made.clock.advance(0)
    made.fail(2)
    assert [newcomer(made).slot for _ in range(4)] == [1, 0, 1, 0]


def test_newcomer_whose_slot_goes_is_a_newcomer_again() -> None:
    """
    While it waits for a worker its slot fails: it goes where there is one.
    """
    made = rig(2)
    made.worker(0).connections = 5
    made.worker(1).window = 0
    handoff = newcomer(made)
    assert (handoff.slot, list(made.fleet.slots[1].queue)) == (1, [handoff])
    made.worker(1).died("died of signal 9 (SIGKILL)")
    made.clock.advance(0)
    made.fail(1)
    assert (handoff.slot, made.worker(0).sent) == (0, [handoff])


def test_newcomers_wait_for_a_resize_too() -> None:
    """
    While the fleet is held nobody is placed by load either.
    """
    made = rig()
    made.fleet.hold()
    handoff = newcomer(made)
    assert (handoff.slot, made.worker(0).sent) == (BY_KEY, [])
    made.fleet.place_again()
    assert made.worker(handoff.slot).sent == [handoff]


def test_those_who_wait_through_a_resize_keep_the_slot_that_their_request_names() -> None:
    """
    Who belongs to a slot by a token stays with it, whatever its key says; if it is gone it is
    placed by the key, as is everybody else.
    """
    made = rig()
    made.worker(1).window = made.worker(2).window = 0
    stays, goes = made.deliver(0, slot=1), made.deliver(0, slot=2)
    by_key = made.deliver(5)
    fleet = made.fleet
    fleet.hold()
    fleet.hold_first([handoff for slot in (1, 2) for handoff in fleet.slots[slot].release()])
    made.worker(1).window = 64
    fleet.place_again(2)
    assert made.worker(0).sent == [goes]
    assert made.worker(1).sent == [stays, by_key]
    assert not made.worker(2).sent


def test_claimed_id_leads_to_its_slot() -> None:
    """
    Who has minted an id gets whoever sends it, with the bytes that another worker read.
    """
    made = rig()
    made.fleet.claim(2, LEARNED[:1])
    made.fleet.claim(1, LEARNED[1:2])
    for value, slot in ((b"a", 2), (b"b", 1)):
        request = b"GET / HTTP/1.1\r\nCookie: sid=" + value + b"\r\n\r\nmore"
        handoff = resolved(made, request)
        assert made.worker(slot).sent == [handoff]
        assert (handoff.slot, handoff.unread) == (slot, request)
        assert handoff.purpose == Purpose.CONNECTION
        assert handoff.flags == Flag.PLACED | Flag.CLAIMED


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nCookie: sid=c\r\n\r\n", b"GET", b"\x16"])
def test_unknown_id_falls_through(request_: bytes) -> None:
    """
    So does a request that is none: the client is placed by the rest of the list.
    """
    made = rig()
    made.worker(0).connections = 9
    handoff = resolved(made, request_)
    assert (handoff.slot, handoff.key, handoff.flags & Flag.PLACED) == (1, b"", Flag.PLACED)
    made = rig(entries="learn:cookie:sid,ip")
    assert resolved(made, request_).key == IpKey().key_of("192.0.2.1")


def test_claim_of_a_slot_that_is_gone_counts_for_nothing() -> None:
    """
    Neither of one that has failed, nor of one that a resize took away, nor a late one.
    """
    made = rig()
    made.fleet.claim(2, LEARNED)
    made.worker(2).died("died of signal 9 (SIGKILL)")
    made.clock.advance(0)
    made.fail(2)
    request = b"GET / HTTP/1.1\r\nCookie: sid=a\r\n\r\n"
    assert resolved(made, request).slot != 2
    made.fleet.place_again(2)
    made.fleet.claim(2, LEARNED)
    assert len(made.fleet.table.newcomers) == 0


def test_claims_outlive_the_primary() -> None:
    """
    The table goes along when the primary replaces itself.
    """
    made = rig()
    made.fleet.claim(2, LEARNED[:1])
    plain = json.loads(json.dumps({"claims": made.fleet.dump_state()["claims"]}))
    again = rig()
    again.fleet.table.newcomers.restore(plain["claims"])
    assert [again.fleet.table.newcomers.known(each) for each in LEARNED] == [2, None, None]

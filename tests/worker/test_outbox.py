"""
Connections on their way out of a worker.
"""

from __future__ import annotations

import os
import socket

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY, MAX_UNREAD_BYTES, Flag, Handoff, Purpose
from stickyd.testing import FakeRefusal, FakeSpawner, FakeWorker
from stickyd.worker.outbox import Outbox


def primary() -> FakeWorker:
    """
    The way to the primary: it keeps what it is sent until it acknowledges.
    """
    slot = Slot(0, Clock(), QueueLimits(1, 1.0), FakeRefusal())
    return FakeSpawner().spawn(slot, lambda: None, lambda _: None)


def handoff(number: int) -> Handoff:
    """
    A handoff that says who it is.
    """
    return Handoff(number, f"192.0.2.{number}", number, b"key")


def test_order_is_kept_when_there_is_no_room() -> None:
    """
    What does not fit waits, and goes first when there is room.
    """
    way, outbox = primary(), Outbox()
    outbox.open(way)
    way.window = 2
    sent = [handoff(number) for number in range(5)]
    for each in sent:
        outbox.send(each)
    assert way.sent == sent[:2]
    way.in_flight.clear()
    outbox.room()
    assert way.sent == sent[:4]
    returned = handoff(9)
    outbox.returned(returned)
    way.in_flight.clear()
    outbox.room()
    assert way.sent == [*sent[:4], returned, sent[4]]


def test_nothing_leaves_before_there_is_a_way() -> None:
    """
    What is sent before the channel is there leaves with the first room.
    """
    way, outbox = primary(), Outbox()
    outbox.send(handoff(1))
    outbox.open(way)
    outbox.room()
    assert [each.host for each in way.sent] == ["192.0.2.1"]


def test_empty_is_told_when_the_primary_has_everything() -> None:
    """
    What waits, what is in flight and what is still to come all count.
    """
    way, outbox = primary(), Outbox()
    outbox.open(way)
    before: Deferred[None] = Deferred()
    outbox.send_after(before, handoff(1))
    fired: list[None] = []
    outbox.when_empty().addCallback(fired.append)
    assert way.sent == []
    before.callback(None)
    assert len(way.sent) == 1
    outbox.room()
    assert fired == []
    way.in_flight.clear()
    outbox.room()
    assert fired == [None]
    outbox.when_empty().addCallback(fired.append)
    assert fired == [None, None]


def test_nobody_waits_for_a_dead_primary() -> None:
    """
    When the primary is gone, waiting is over.
    """
    way, outbox = primary(), Outbox()
    outbox.open(way)
    way.window = 0
    outbox.send(handoff(1))
    fired: list[None] = []
    outbox.when_empty().addCallback(fired.append)
    outbox.give_up()
    assert fired == [None]


def test_what_lasts_goes_along() -> None:
    """
    Of what was said of a connection, that lasts which is true wherever it goes.
    """
    handoff = Handoff(0, "192.0.2.7", 4711, b"old", slot=2)
    handoff.local = "192.0.2.1", 443
    handoff.flags = Flag.SECURE | Flag.CLAIMED | Flag.PLACED
    sock, client = socket.socketpair()
    with client:
        packed = Outbox().pack(sock, b"GET", handoff, BY_KEY, b"new", purpose=Purpose.RESOLVE)
        assert packed is not None
        os.close(packed.descriptor)
    assert (packed.host, packed.port, packed.local) == ("192.0.2.7", 4711, ("192.0.2.1", 443))
    assert (packed.key, packed.slot, packed.unread) == (b"new", BY_KEY, b"GET")
    assert (packed.purpose, packed.flags) == (Purpose.RESOLVE, Flag.SECURE | Flag.CLAIMED)


def test_too_much_unread_is_a_close() -> None:
    """
    A connection of which more was read than a handoff holds is closed.
    """
    sock, client = socket.socketpair()
    with client:
        handoff = Handoff(0, "192.0.2.7", 4711, b"k")
        assert Outbox().pack(sock, b"x" * (MAX_UNREAD_BYTES + 1), handoff, 0, b"k") is None
        assert client.recv(1) == b""

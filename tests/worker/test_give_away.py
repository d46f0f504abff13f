"""
Giving away what is not this worker's any more.
"""

from __future__ import annotations

import os
import socket

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY, Flag, Handoff
from stickyd.placement.rendezvous import Rendezvous
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.testing import FakeHost, FakeRefusal, FakeSpawner
from stickyd.worker.give_away import Retirement
from stickyd.worker.outbox import Outbox
from stickyd.worker.slot_map import SlotMap

PEER = IPv4Address("TCP", "192.0.2.1", 1)


def key_of(slot: int, slots: int) -> bytes:
    """
    A key that belongs to a slot.
    """
    placement = Rendezvous(slots)
    return next(key for key in (b"%d" % n for n in range(99)) if placement.slot_of(key) == slot)


class Rig:
    """
    A worker in slot 0 of two, with a host that serves nothing, and the way to the primary.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.host = FakeHost()
        self.sessions = SessionRegistry(MemorySessionStore(self.clock), self.clock)
        self.sent: list[int] = []
        self.slow: Deferred[None] | None = None
        self.outbox = outbox = Outbox()
        slot = Slot(0, self.clock, QueueLimits(1, 1.0), FakeRefusal())
        self.primary = FakeSpawner().spawn(slot, lambda: None, lambda _: None)
        outbox.open(self.primary)
        places = SlotMap(0, "rendezvous")
        places.update(2, [0, 1])
        self.retirement = Retirement(self.host, self.sessions, outbox, self.send_sessions, places)

    def send_sessions(self, slot: int, chunk: bytes) -> Deferred[None]:
        """
        Note to which slot sessions went.
        """
        self.sent.append(slot)
        return self.slow or succeed(None)

    def store(self, key: bytes) -> None:
        """
        Have a session of a client.
        """
        self.sessions.create(key).save()

    def adopted(self, key: bytes, flags: int = 0) -> tuple[socket.socket, Handoff]:
        """
        A connection that is served here.
        """
        ours, theirs = socket.socketpair()
        theirs.close()
        handoff = Handoff(ours.fileno(), "192.0.2.1", 1, key, flags=flags)
        self.host.adopt(ours, PEER, handoff)
        return ours, handoff

    def give(self, key: bytes, flags: int = 0) -> Handoff | None:
        """
        Have the host give a connection away, as it does with each that goes.

        :return: what the primary gets, or :obj:`None` if it stays.
        """
        goes, give = self.host.given_away[-1]
        sock, handoff = self.adopted(key, flags)
        if not goes(handoff):
            sock.close()
            return None
        give(sock, b"unread", handoff)
        given = self.primary.sent[-1]
        os.close(given.descriptor)
        return given


def test_everything_goes_to_the_successor() -> None:
    """
    Connections and sessions go to the own slot's next worker, with the bytes that were read
    and with what was said of their next request.
    """
    rig = Rig()
    rig.store(b"anybody")
    released: list[None] = []
    rig.retirement.release(0, []).addCallback(released.append)
    assert released == [None]
    assert rig.sent == [0]
    given = rig.give(key_of(0, 2), Flag.PLACED)
    assert given is not None
    assert (given.unread, given.slot, given.flags) == (b"unread", BY_KEY, Flag.PLACED)
    rig.sessions.stop()


def test_what_belongs_elsewhere_goes_by_a_placement() -> None:
    """
    Only clients of other slots go, each with its session; the own ones stay.
    """
    rig = Rig()
    rig.store(key_of(0, 2))
    rig.store(key_of(1, 2))
    rig.retirement.release(2, [0, 1])
    assert rig.sent == [1]
    assert rig.give(key_of(0, 2)) is None
    assert rig.give(key_of(1, 2)) is not None
    rig.sessions.stop()


def test_late_connection_is_diverted_to_the_successor() -> None:
    """
    One that was on its way when everything was given away goes on unread, as it came.
    """
    rig = Rig()
    late = Handoff(7, "192.0.2.1", 1, key_of(0, 2))
    assert not rig.retirement.divert(late)
    rig.retirement.release(0, [])
    assert rig.retirement.divert(late)
    assert rig.primary.sent == [late]


def test_nothing_is_diverted_by_a_placement() -> None:
    """
    Who comes while this worker goes on is served here, even if it seems to belong elsewhere:
    the primary may know better, and connections must not go in circles.
    """
    rig = Rig()
    rig.retirement.release(2, [0, 1])
    assert not rig.retirement.divert(Handoff(7, "192.0.2.1", 1, key_of(1, 2)))
    assert rig.primary.sent == []


def test_leaving_worker_diverts_what_belongs_elsewhere() -> None:
    """
    A worker that finishes begins nothing for the clients of others, whom it would have to
    cut off; its own have nowhere to go.
    """
    rig = Rig()
    rig.retirement.release(2, [1])
    rig.retirement.leave()
    late = Handoff(7, "192.0.2.1", 1, key_of(0, 2))
    assert rig.retirement.divert(late)
    assert rig.primary.sent == [late]
    rig.retirement.release(2, [0])
    assert not rig.retirement.divert(late)


def test_worker_that_stays_keeps_everything() -> None:
    """
    Without a successor after all, connections are served again, those that ask to go stay,
    and sessions are not carried.
    """
    rig = Rig()
    rig.retirement.release(2, [0, 1])
    rig.retirement.release(0, [])
    rig.retirement.stay()
    assert not rig.retirement.divert(Handoff(7, "192.0.2.1", 1, key_of(0, 2)))
    assert rig.give(key_of(0, 2)) is None
    assert rig.give(key_of(1, 2)) is None
    rig.store(key_of(1, 2))
    settled: list[None] = []
    rig.retirement.settled().addCallback(settled.append)
    assert settled == [None]
    assert rig.sent == []
    rig.sessions.stop()


def test_worker_that_stays_can_be_relieved_again() -> None:
    """
    The next successor gets everything.
    """
    rig = Rig()
    rig.retirement.release(0, [])
    rig.retirement.stay()
    rig.retirement.release(0, [])
    assert rig.retirement.divert(Handoff(7, "192.0.2.1", 1, b"key"))


def test_who_is_kept_keeps_its_session() -> None:
    """
    A worker that keeps clients gives away the sessions of all others: to its successor, or to where
    a placement has them; and those of clients that it keeps no longer when it is told to.
    """
    rig = Rig()
    known = {b"ka", b"kb"}
    for name in (b"ka", b"kb", b"kc"):
        live = rig.sessions.create(key_of(0, 2))
        live.note_client(name)
        live.save()
    done: list[None] = []
    rig.retirement.keep(0, [], lambda client, _: client in known).addCallback(done.append)
    rig.clock.advance(0)
    assert (done, rig.sent, rig.sessions.count) == ([None], [0], 2)
    known.remove(b"ka")
    rig.retirement.carry_strangers().addCallback(done.append)
    rig.clock.advance(0)
    assert (done, rig.sent, rig.sessions.count) == ([None] * 2, [0, 0], 1)
    rig.retirement.keep(2, [0, 1], lambda client, _: False)
    rig.clock.advance(0)
    assert rig.sent == [0, 0]  # it belongs here
    rig.retirement.keep(2, [1], lambda client, _: False)
    rig.clock.advance(0)
    assert (rig.sent, rig.sessions.count) == ([0, 0, 1], 0)
    rig.sessions.stop()


def test_what_a_request_of_a_released_client_holds_follows() -> None:
    """
    It goes when the request is about to be answered.
    """
    rig = Rig()
    known = {b"ka"}
    live = rig.sessions.create(key_of(0, 2))
    live.note_client(b"ka")
    live.save()
    rig.retirement.keep(0, [], lambda client, _: client in known)
    rig.clock.advance(0)
    live.hold()
    known.clear()
    rig.retirement.carry_strangers()
    rig.clock.advance(0)
    assert rig.sessions.count == 1
    rig.sessions.let_go(live)
    assert rig.sessions.count == 0
    rig.sessions.stop()


def test_who_moves_on_goes_behind_its_session() -> None:
    """
    A connection of a client that is kept no longer waits until the sessions are where it goes.
    """
    rig = Rig()
    live = rig.sessions.create(key_of(0, 2))
    live.note_client(b"ka")
    live.save()
    rig.slow = Deferred()
    rig.retirement.keep(0, [], lambda client, _: False)
    mover = Handoff(7, "192.0.2.1", 1, key_of(0, 2))
    rig.outbox.move_on(mover)
    assert rig.primary.sent == []
    rig.slow.callback(None)
    rig.clock.advance(0)
    assert rig.primary.sent == [mover]
    rig.outbox.move_on(mover)
    assert rig.primary.sent == [mover, mover]
    rig.sessions.stop()

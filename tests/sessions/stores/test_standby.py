"""
Tests of going on in memory while a store is away.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from stickyd.errors import NoSuchSession, SessionConflict, StoreAway
from stickyd.sessions.answers import result_of
from stickyd.sessions.conformance import SessionStoreConformance
from stickyd.sessions.record import EndReason, SessionRecord
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.stores.standby import RETRY_SECONDS, StandbyStore
from tests.sessions.faulty import Fate, FaultyStore

_T = TypeVar("_T")

START = 1_700_000_000.0


class TestStandbyStore(SessionStoreConformance, SynchronousTestCase):
    """
    While the store is there, it is as that is.
    """

    def make_store(self, clock: Clock) -> StandbyStore:
        return StandbyStore(MemorySessionStore(clock), clock, 100)


class World:
    """
    A store that can be away, and one that others use beside it.
    """

    def __init__(self, most: int = 100) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.behind = MemorySessionStore(self.clock)
        self.line = FaultyStore(self.behind)
        self.store = StandbyStore(self.line, self.clock, most)
        self.told: list[tuple[bytes, EndReason]] = []
        self.store.observe(lambda uid, reason: self.told.append((uid, reason)))

    def settle(self, deferred: Deferred[_T]) -> _T:
        """
        Wait for something.
        """
        self.line.run()
        return result_of(deferred)

    def away(self, fate: Fate = Fate.REFUSED) -> None:
        """
        Have the store be away for long.
        """
        self.line.fates = [fate] * 1_000

    def back(self) -> None:
        """
        Have it there again, and what was kept written.
        """
        self.line.fates = []
        for _ in range(3):
            self.clock.advance(RETRY_SECONDS)
            self.line.run()

    def saved(self, n: int = 1) -> SessionRecord:
        """
        Store a session.
        """
        record = SessionRecord(b"u" * 32, 0, START, START, 900.0, inf, b'{"n":%d}' % n)
        return self.settle(self.store.save(record, b"first"))

    def stored(self) -> SessionRecord | None:
        """
        What the store has.
        """
        return result_of(self.behind.load(b"u" * 32))


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.LOST])
def test_goes_on_in_memory(fate: Fate) -> None:
    """
    Changes while the store is away are kept, and written when it is there again, be it that the
    first was done or not; and the session goes on.
    """
    world = World()
    record = world.saved()
    world.away(fate)
    for n in range(2, 5):
        record = world.settle(world.store.save(replace(record, data=b'{"n":%d}' % n), b"%d" % n))
        assert record.version == n
        if fate is Fate.LOST:
            world.away()
    assert world.settle(world.store.load(record.uid)) == record
    assert world.settle(world.store.version(record.uid)) == 4
    assert world.settle(world.store.touch(record.uid)) is True
    world.back()
    stored = world.stored()
    assert stored is not None
    assert stored.data == b'{"n":4}'
    assert world.settle(world.store.load(record.uid)) == record
    assert world.settle(world.store.version(record.uid)) == record.version
    again = world.settle(world.store.save(replace(record, data=b'{"n":5}'), b"5"))
    assert again.version == 5
    stored = world.stored()
    assert stored is not None
    assert stored.data == b'{"n":5}'


def test_conflict_in_memory() -> None:
    """
    What is kept has versions too.
    """
    world = World()
    record = world.saved()
    world.away()
    world.settle(world.store.save(record, b"2"))
    with pytest.raises(SessionConflict):
        world.settle(world.store.save(record, b"3"))


def test_somebody_else_has_written_meanwhile() -> None:
    """
    What others have written counts; what was kept is lost, counted and told.
    """
    world = World()
    record = world.saved()
    world.away()
    world.settle(world.store.save(replace(record, data=b'{"n":2}'), b"2"))
    result_of(world.behind.save(replace(record, data=b'{"n":9}'), b"9"))
    with capturedLogs() as logged:
        world.back()
    stored = world.stored()
    assert stored is not None
    assert stored.data == b'{"n":9}'
    assert (world.store.lost, world.told) == (1, [(record.uid, EndReason.SUPERSEDED)])
    assert "what was kept in memory" in logged[-1]["log_format"]


def test_logout_while_the_store_is_away() -> None:
    """
    Who logs out is logged out here at once, and everywhere when the store is there again.
    """
    world = World()
    record = world.saved()
    world.away()
    assert world.settle(world.store.delete(record.uid)) is True
    assert world.settle(world.store.load(record.uid)) is None
    with pytest.raises(NoSuchSession):
        world.settle(world.store.save(record, b"2"))
    world.back()
    assert world.stored() is None


def test_what_is_not_here_cannot_be_had() -> None:
    """
    A session without a copy is not taken for one that there is not, and nobody gets a new id.
    """
    world = World()
    record = world.saved()
    world.away()
    with pytest.raises(StoreAway):
        world.settle(world.store.load(record.uid))
    world.settle(world.store.save(record, b"2"))
    with pytest.raises(StoreAway):
        world.settle(world.store.alias(record.uid, 2, b"v" * 32, 10))


def test_bound() -> None:
    """
    No more is kept than there is room for.
    """
    world = World(most=0)
    record = world.saved()
    world.away()
    with pytest.raises(StoreAway):
        world.settle(world.store.save(record, b"2"))


def test_stop_writes_what_it_can() -> None:
    """
    At a stop what is kept is written if the store is there.
    """
    world = World()
    record = world.saved()
    world.line.fates = [Fate.REFUSED]
    world.settle(world.store.save(replace(record, data=b'{"n":2}'), b"2"))
    world.settle(world.store.stop())
    stored = world.stored()
    assert stored is not None
    assert stored.data == b'{"n":2}'

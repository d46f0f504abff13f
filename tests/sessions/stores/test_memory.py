"""
Tests of the store in memory.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, inf

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stickyd.errors import (
    NoSuchSession,
    SessionConflict,
    SessionError,
    SessionMoved,
    SessionTooLarge,
)
from stickyd.sessions.answers import result_of
from stickyd.sessions.conformance_carried import CarriedStoreConformance
from stickyd.sessions.record import EndReason, SessionRecord
from stickyd.sessions.stores.eviction import SHARE
from stickyd.sessions.stores.memory import OVERHEAD, MemorySessionStore


class TestMemoryStore(CarriedStoreConformance, SynchronousTestCase):
    """
    The memory store keeps the contract of all stores.
    """

    def make_store(self, clock: Clock) -> MemorySessionStore:
        return MemorySessionStore(clock)


def record_of(number: int, **fields: object) -> SessionRecord:
    """
    Make a record that was never stored.
    """
    plain = SessionRecord(
        uid=b"%032d" % number, version=0, created=0.0, touched=0.0, idle=100.0, lifetime=inf
    )
    return replace(plain, **fields)  # type: ignore[arg-type]  # the tests give the right ones


def uids(store: MemorySessionStore) -> set[int]:
    """
    Tell which of them are stored.
    """
    return {int(record.uid) for batch in store.enumerate(50) for record in result_of(batch)}


def test_count_bound_evicts_least_recently_used() -> None:
    """
    With one session too many, the one not used for longest goes, is counted and told of.
    """
    store = MemorySessionStore(Clock(), max_count=3)
    told: list[tuple[bytes, EndReason]] = []
    store.observe(lambda uid, reason: told.append((uid, reason)))
    for number in range(3):
        result_of(store.save(record_of(number)))
    result_of(store.touch(record_of(0).uid))
    result_of(store.save(record_of(3)))
    assert uids(store) == {0, 2, 3}
    assert told == [(record_of(1).uid, EndReason.EVICTED)]
    assert store.evicted == 1
    assert store.expired == 0
    assert result_of(store.load(record_of(1).uid)) is None


def test_byte_bound_evicts_until_it_fits() -> None:
    """
    A large session makes as many others go as its size takes.
    """
    store = MemorySessionStore(Clock(), max_bytes=4 * (OVERHEAD + 2))
    for number in range(4):
        result_of(store.save(record_of(number)))
    result_of(store.save(record_of(4, data=b"x" * (OVERHEAD + 5))))
    assert uids(store) == {3, 4}
    assert store.size == OVERHEAD + 2 + 2 * OVERHEAD + 5
    assert store.evicted == 3


def test_too_large_for_the_store() -> None:
    """
    What does not fit even alone is refused, and nobody has to go for it.
    """
    store = MemorySessionStore(Clock(), max_bytes=2 * OVERHEAD)
    kept = result_of(store.save(record_of(0)))
    with pytest.raises(SessionTooLarge, match="counts 3073 bytes; the store has room for 3072"):
        result_of(store.save(record_of(1, key=b"k" * (OVERHEAD - 1))))
    with pytest.raises(SessionTooLarge):
        result_of(store.save(replace(kept, data=b"x" * 2_000)))
    with pytest.raises(SessionTooLarge):
        result_of(store.adopt(record_of(1, version=1, data=b"x" * 2_000)))
    assert result_of(store.load(kept.uid)) == kept
    assert store.evicted == 0


def test_size_goes_back_to_nothing() -> None:
    """
    When all sessions have gone, by each way that there is, nothing is counted any more.
    """
    clock = Clock()
    store = MemorySessionStore(clock)
    for number in range(4):
        stored = result_of(store.save(record_of(number, data=b"x" * number, key=b"key")))
        result_of(store.save(replace(stored, data=b"y" * 50)))
    result_of(store.delete(record_of(0).uid))
    result_of(store.move(record_of(1).uid))
    clock.advance(200)
    result_of(store.load(record_of(2).uid))
    result_of(store.expire(10))
    assert (len(store), store.size, store.expired) == (0, 0, 2)


def test_moves_are_bounded() -> None:
    """
    No more moves are remembered than the store may have sessions; the oldest is forgotten.
    """
    store = MemorySessionStore(Clock(), max_count=2)
    for number in range(3):
        result_of(store.save(record_of(number)))
        result_of(store.move(record_of(number).uid))
    assert result_of(store.load(record_of(0).uid)) is None
    for number in (1, 2):
        with pytest.raises(SessionMoved):
            result_of(store.load(record_of(number).uid))


def test_expire_is_bounded() -> None:
    """
    One call of expire() looks at no more sessions than it may, and says that there are more.
    """
    clock = Clock()
    store = MemorySessionStore(clock)
    for number in range(5):
        result_of(store.save(record_of(number)))
    clock.advance(1_000)
    assert result_of(store.expire(3)) is True
    assert store.expired == 3
    assert result_of(store.expire(3)) is False
    assert store.expired == 5


def test_an_id_stands_whole_in_no_message() -> None:
    """
    The messages of errors, which go to logs, have no more of an id than finds it there.
    """
    store = MemorySessionStore(Clock())
    record = record_of(int("9" * 32))
    stored = result_of(store.save(record))
    messages = []
    for attempt in (record, replace(stored, version=9)):
        with pytest.raises(SessionError) as caught:
            result_of(store.save(attempt))
        messages.append(str(caught.value))
    result_of(store.delete(record.uid))
    with pytest.raises(NoSuchSession) as gone:
        result_of(store.save(stored))
    messages.append(str(gone.value))
    assert all("999999..." in message and "9" * 7 not in message for message in messages)


@pytest.mark.parametrize("bounds", [{"max_count": 0}, {"max_bytes": 0}])
def test_no_room_at_all(bounds: dict[str, int]) -> None:
    """
    A store without room for anything cannot be made.
    """
    with pytest.raises(ValueError, match="must have room"):
        MemorySessionStore(Clock(), **bounds)


class _Model:
    """
    The store as a plain dict, in order of use, where everything is looked through.
    """

    def __init__(self, clock: Clock, max_count: int) -> None:
        self.clock = clock
        self.max_count = max_count
        self.records: dict[bytes, SessionRecord] = {}  # least recently used first
        self.used_again: set[bytes] = set()
        self.moved: dict[bytes, float] = {}

    def live(self, uid: bytes) -> SessionRecord | None:
        record = self.records.get(uid)
        if record is not None and record.due() <= self.clock.seconds():
            self.remove(uid)
            return None
        return record

    def remove(self, uid: bytes) -> None:
        self.records.pop(uid, None)
        self.used_again.discard(uid)

    def put(self, record: SessionRecord, used: bool = False) -> None:
        uid = record.uid
        self.moved.pop(uid, None)
        self.records.pop(uid, None)
        self.records[uid] = record
        if used or record.touched > record.created:
            self.used_again.add(uid)
        if len(self.records) > self.max_count:
            once = [each for each in self.records if each not in self.used_again]
            again = [each for each in self.records if each in self.used_again]
            lines = once + again if SHARE * len(once) > len(self.records) else again + once
            self.remove(next(each for each in lines if each != uid))

    def expected_of_save(self, record: SessionRecord) -> type[SessionError] | None:
        found = self.live(record.uid)
        if found is not None:
            return None if found.version == record.version else SessionConflict
        if record.uid in self.moved:
            return SessionMoved
        return NoSuchSession if record.version else None


class StoreAgainstModel(RuleBasedStateMachine):
    """
    Whatever is done in whatever order, the store answers as the model does.
    """

    records = Bundle("records")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemorySessionStore(self.clock, max_count=4)
        self.model = _Model(self.clock, 4)

    @rule(
        target=records,
        number=st.integers(0, 6),
        idle=st.sampled_from([5.0, 40.0, inf]),
        lifetime=st.sampled_from([20.0, inf]),
    )
    def new(self, number: int, idle: float, lifetime: float) -> SessionRecord:
        record = record_of(
            number,
            created=self.clock.seconds(),
            touched=self.clock.seconds(),
            idle=idle,
            lifetime=lifetime,
        )
        return self.save(record)

    @rule(target=records, record=records, data=st.binary(max_size=4))
    def change(self, record: SessionRecord, data: bytes) -> SessionRecord:
        return self.save(replace(record, data=data))

    def save(self, record: SessionRecord) -> SessionRecord:
        expected = self.model.expected_of_save(record)
        if expected is not None:
            with pytest.raises(expected):
                result_of(self.store.save(record))
            return record
        found = self.model.live(record.uid)
        touched = record.touched if found is None else max(found.touched, record.touched)
        stored = replace(record, version=record.version + 1, touched=touched)
        assert result_of(self.store.save(record)) == stored
        self.model.put(stored)
        # A session is over by its own times, even if it is only just stored.
        self.model.live(record.uid)
        return stored

    @rule(record=records)
    def load(self, record: SessionRecord) -> None:
        expected = self.model.live(record.uid)
        if expected is None and record.uid in self.model.moved:
            with pytest.raises(SessionMoved):
                result_of(self.store.load(record.uid))
        else:
            assert result_of(self.store.load(record.uid)) == expected

    @rule(record=records)
    def touch(self, record: SessionRecord) -> None:
        found = self.model.live(record.uid)
        assert result_of(self.store.touch(record.uid)) is (found is not None)
        if found is not None:
            self.model.put(replace(found, touched=self.clock.seconds()), used=True)

    @rule(record=records)
    def delete(self, record: SessionRecord) -> None:
        found = self.model.live(record.uid)
        assert result_of(self.store.delete(record.uid)) is (found is not None)
        self.model.remove(record.uid)

    @rule(record=records)
    def move(self, record: SessionRecord) -> None:
        found = self.model.live(record.uid)
        assert result_of(self.store.move(record.uid)) == found
        if found is not None:
            self.model.remove(record.uid)
            # Forgotten by an expire() after its bucket of the wheel, which is 8 seconds wide.
            due = found.due()
            self.model.moved[record.uid] = due if due == inf else 8.0 * ceil(due / 8)
            if len(self.model.moved) > self.model.max_count:
                del self.model.moved[next(iter(self.model.moved))]

    @rule(record=records, ahead=st.integers(1, 2))
    def adopt(self, record: SessionRecord, ahead: int) -> None:
        record = replace(record, version=record.version + ahead)
        found = self.model.live(record.uid)
        new = record.due() > self.clock.seconds() and (
            found is None or found.version < record.version
        )
        assert result_of(self.store.adopt(record)) is new
        if new:
            self.model.put(record)
        elif found is not None and found.version < record.version:
            del self.model.records[record.uid]

    @rule(seconds=st.sampled_from([1.0, 7.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(limit=st.integers(1, 20))
    def expire(self, limit: int) -> None:
        while result_of(self.store.expire(limit)):
            pass
        for uid, due in list(self.model.moved.items()):
            if due <= self.clock.seconds():
                del self.model.moved[uid]

    @invariant()
    def same_sessions(self) -> None:
        batches = self.store.enumerate(2)
        found = {record.uid: record for batch in batches for record in result_of(batch)}
        live = {uid: record for uid in list(self.model.records) if (record := self.model.live(uid))}
        assert found == live
        assert len(self.store) == len(live)
        assert self.store.size == sum(OVERHEAD + len(each.data) for each in live.values())


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

"""
Tests of carrying sessions from worker to worker.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from stickyd.errors import SessionMoved, TransferError
from stickyd.sessions.answers import result_of
from stickyd.sessions.plain import encode
from stickyd.sessions.record import KEY_LIMIT, UNKNOWN_CLIENT, EndReason, SessionRecord
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.transfer import (
    CHUNK,
    CHUNK_LEAST,
    ChunkReader,
    fits,
    join,
    line_pair,
    split,
)
from tests.sessions.test_late import LateStore

if TYPE_CHECKING:
    from stickyd.sessions.live import LiveSession

START = 1_700_000_000.0

TIMES = st.floats(0, 1e11)
RECORDS = st.builds(
    SessionRecord,
    uid=st.binary(min_size=1, max_size=16).map(lambda random: random.hex().encode()),
    version=st.integers(1, 2**63),
    created=TIMES,
    touched=TIMES,
    idle=st.floats(0.1, allow_nan=False),
    lifetime=st.floats(0.1, allow_nan=False),
    data=st.dictionaries(st.text(max_size=5), st.text() | st.binary(max_size=50)).map(encode),
    key=st.binary(max_size=50),
    secure=st.booleans(),
    alias=st.just(b"") | st.just(b"0123"),
    client=st.binary(max_size=50),
)


class Worker:
    """
    A process with sessions.
    """

    def __init__(self, clock: Clock, **bounds: int) -> None:
        self.store = MemorySessionStore(clock, **bounds)
        self.registry = SessionRegistry(self.store, clock)

    def saved(self, key: bytes = b"", **items: Any) -> LiveSession:
        """
        Make a session with data, and save it.
        """
        live = self.registry.create(key)
        live.data.update(items)
        result_of(live.save())
        return live

    def records(self) -> dict[bytes, SessionRecord]:
        """
        Tell all that is stored.
        """
        return {
            record.uid: record for batch in self.store.enumerate(100) for record in result_of(batch)
        }

    def take_in(self, *chunks: bytes) -> int:
        """
        Import chunks.
        """
        return sum(result_of(self.registry.import_chunk(chunk)) for chunk in chunks)


@pytest.fixture
def clock() -> Clock:
    """
    The clock of all workers.
    """
    clock = Clock()
    clock.advance(START)
    return clock


def record_of(size: int, key: bytes = b"", **fields: Any) -> SessionRecord:
    """
    Make a record with so many bytes of data.
    """
    plain = SessionRecord(
        b"a" * 32, 1, START, START, 900.0, inf, b'{"a":"%s"}' % (b"x" * (size - 8)), key
    )
    return replace(plain, **fields)


@given(st.lists(RECORDS, max_size=5))
def test_lines_there_and_back(records: list[SessionRecord]) -> None:
    """
    What is read from a chunk is what was written, in every field.
    """
    assert ChunkReader().read(join([line_pair(record) for record in records])) == records


@given(st.integers(8, 400_000), st.integers(0, KEY_LIMIT), st.integers(CHUNK_LEAST, CHUNK))
def test_split_there_and_back(size: int, key: int, limit: int) -> None:
    """
    A record that is split comes back whole with the last part, and no part is too large.
    """
    record = record_of(size, b"\xff" * key, client=b"k" + b"\xff" * key)
    chunks = list(split(record, limit))
    assert max(len(chunk) for chunk in chunks) <= limit
    reader = ChunkReader()
    assert [reader.read(chunk) for chunk in chunks] == [[]] * (len(chunks) - 1) + [[record]]


def test_parts_of_several_workers() -> None:
    """
    Parts that come from several workers in turns do not get mixed up.
    """
    one = record_of(100_000)
    two = record_of(100_000, uid=b"b" * 32)
    reader = ChunkReader()
    found = []
    for chunk, other in zip(split(one, CHUNK), split(two, CHUNK), strict=True):
        found += reader.read(chunk) + reader.read(other)
    assert found == [one, two]


def test_parts_begin_again() -> None:
    """
    A transfer that broke off and begins again is read.
    """
    record = record_of(100_000)
    first, last = split(record, CHUNK)
    later = replace(record, version=2)
    reader = ChunkReader()
    assert reader.read(first) == []
    assert [reader.read(chunk) for chunk in split(later, CHUNK)] == [[], [later]]
    with pytest.raises(TransferError, match="part 1 of 2 comes without the parts before it"):
        reader.read(last)


def test_part_of_another_version() -> None:
    """
    Parts of different versions are not put together.
    """
    first, _ = split(record_of(100_000), CHUNK)
    _, last = split(record_of(100_000, version=2), CHUNK)
    reader = ChunkReader()
    reader.read(first)
    with pytest.raises(TransferError, match="without the parts before it"):
        reader.read(last)


HEAD = b"stickyd-sessions 1\n"
FIELDS = b'["aa",1,0.0,0.0,1.0,1.0,"",false,0,1]\n'


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        b"stickyd-sessions 2\n",
        HEAD + FIELDS + b"{}",
        HEAD + FIELDS,
        HEAD + b"[]\n{}\n",
        HEAD + b"5\n{}\n",
        HEAD + FIELDS + b"[]\n",
        HEAD + FIELDS + b"{\n",
        HEAD + FIELDS.replace(b'""', b'"*"') + b"{}\n",
        HEAD + FIELDS.replace(b'"aa"', b"7") + b"{}\n",
        HEAD + FIELDS.replace(b'"aa"', '"é"'.encode()) + b"{}\n",
        HEAD + FIELDS.replace(b"0.0", b"null") + b"{}\n",
        HEAD + FIELDS.replace(b"0,1]", b'"0","1"]') + b"{}\n",
    ],
)
def test_not_a_chunk(chunk: bytes, clock: Clock) -> None:
    """
    What is not a chunk is refused whole, with one kind of error.
    """
    with pytest.raises(TransferError):
        Worker(clock).take_in(chunk)


def test_empty_chunk() -> None:
    """
    A chunk may have no session.
    """
    assert ChunkReader().read(join([])) == []


def test_fits() -> None:
    """
    The first line of a chunk counts too.
    """
    assert len(join([b"x" * 10])) == 29
    assert fits(10, 29)
    assert not fits(10, 28)


def test_all_sessions_move(clock: Clock) -> None:
    """
    After the transfer the other worker has the same ids, versions, times and data.
    """
    old, new = Worker(clock), Worker(clock)
    for number in range(500):
        old.saved(b"%d" % number, n=number, text="x" * number)
        clock.advance(0.25)
    before = old.records()
    chunks = list(old.registry.export_batches())
    assert len(chunks) > 1
    assert max(map(len, chunks)) < 60_000
    assert new.take_in(*chunks) == 500
    assert new.records() == before
    assert old.records() == {}
    assert len(old.store) == 0


def test_moved_is_frozen_at_the_source(clock: Clock) -> None:
    """
    Once its chunk is given out, a session can be read at the source, but neither changed nor
    loaded, and its users are told that it moved.
    """
    old = Worker(clock)
    live = old.saved(n=[1])
    nested = live.data["n"]
    ends: list[EndReason] = []
    live.call_when_gone(ends.append)
    list(old.registry.export_batches())
    assert ends == [EndReason.MOVED]
    assert live.data["n"] == [1]
    with pytest.raises(SessionMoved):
        live.data["n"] = 2
    with pytest.raises(SessionMoved):
        live.idle = 5
    with pytest.raises(SessionMoved):
        result_of(old.registry.load(live.uid))
    with pytest.raises(SessionMoved):
        result_of(live.regenerate())
    result_of(live.save())
    nested.append(2)
    with pytest.raises(SessionMoved):
        result_of(live.save())


def test_last_changes_go_along(clock: Clock) -> None:
    """
    What was not saved yet is saved before the session leaves.
    """
    old, new = Worker(clock), Worker(clock)
    live = old.saved(n=[1])
    live.data["n"].append(2)
    live.idle = 77
    new.take_in(*old.registry.export_batches())
    moved = result_of(new.registry.load(live.uid))
    assert moved is not None
    assert (dict(moved.data), moved.version, moved.idle) == ({"n": [1, 2]}, 2, 77)


def test_what_cannot_be_carried_stays(clock: Clock) -> None:
    """
    A session whose last changes cannot be carried leaves as it was saved, and this is logged.
    """
    old, new = Worker(clock), Worker(clock)
    live = old.saved(n=[1])
    live.data["n"].append(object())
    with capturedLogs() as events:
        new.take_in(*old.registry.export_batches())
    assert "leaves without its last changes" in events[-1]["log_format"]
    moved = result_of(new.registry.load(live.uid))
    assert moved is not None
    assert dict(moved.data) == {"n": [1]}


def test_before_leaving(clock: Clock) -> None:
    """
    Who asked for it can put into the data what shall go along; one who fails harms nobody.
    """
    old, new = Worker(clock), Worker(clock)
    live = old.saved()
    live.call_before_leaving(lambda: 1 / 0)
    live.call_before_leaving(lambda: live.data.update(cart=[1]))
    with capturedLogs() as events:
        new.take_in(*old.registry.export_batches())
    assert "a callback before the session leaves has failed" in events[-1]["log_format"]
    moved = result_of(new.registry.load(live.uid))
    assert moved is not None
    assert dict(moved.data) == {"cart": [1]}


def test_held_sessions_wait(clock: Clock) -> None:
    """
    A session that a request uses does not leave before it is released.
    """
    old, new = Worker(clock), Worker(clock)
    held, free = old.saved(n=1), old.saved(n=2)
    held.hold()
    assert new.take_in(*old.registry.export_batches()) == 1
    assert free.ended is EndReason.MOVED
    waiting = held.when_released()
    held.data["n"] = 3
    result_of(held.save())
    held.release()
    result_of(waiting)
    assert new.take_in(*old.registry.export_batches()) == 1
    moved = result_of(new.registry.load(held.uid))
    assert moved is not None
    assert dict(moved.data) == {"n": 3}


def test_select_by_key(clock: Clock) -> None:
    """
    Only the sessions whose keys are selected leave, as a resize needs it.
    """
    old, new = Worker(clock), Worker(clock)
    for key in (b"a", b"b", b"c", b"b"):
        old.saved(key)
    new.take_in(*old.registry.export_batches(lambda record: record.key == b"b"))
    assert sorted(record.key for record in old.records().values()) == [b"a", b"c"]
    assert [record.key for record in new.records().values()] == [b"b", b"b"]


def test_large_session(clock: Clock) -> None:
    """
    A session larger than a chunk comes in several, among others that come whole.
    """
    old, new = Worker(clock), Worker(clock)
    for size in (10, 200_000, 10, 30_000, 59_500, 30_000):
        old.saved(text="x" * size)
    before = old.records()
    chunks = list(old.registry.export_batches())
    assert max(map(len, chunks)) < 60_000
    assert new.take_in(*chunks) == 6
    assert new.records() == before


def test_broken_off_between_chunks(clock: Clock) -> None:
    """
    Of a transfer that is broken off, the chunks given out have left and all else is here.
    """
    old, new = Worker(clock), Worker(clock)
    for _ in range(10):
        old.saved(text="x" * 20_000)
    export = old.registry.export_batches()
    first = next(export)
    export.close()  # type: ignore[attr-defined]  # a generator, to those who know
    assert new.take_in(first) == 2
    assert len(old.records()) == 8


def test_broken_off_within_a_session(clock: Clock) -> None:
    """
    A session of which only some parts were taken is here again.
    """
    old, new = Worker(clock), Worker(clock)
    live = old.saved(text="x" * 200_000)
    before = old.records()
    export = old.registry.export_batches()
    assert new.take_in(next(export)) == 0
    export.close()  # type: ignore[attr-defined]  # a generator, to those who know
    assert old.records() == before
    assert result_of(old.registry.load(live.uid)) is not None
    assert new.records() == {}


def test_undelivered_chunk_is_given_back(clock: Clock) -> None:
    """
    A chunk that could not be delivered brings its sessions back to the source.
    """
    old = Worker(clock)
    live = old.saved(n=1)
    before = old.records()
    [chunk] = old.registry.export_batches()
    assert old.take_in(chunk) == 1
    assert old.records() == before
    again = result_of(old.registry.load(live.uid))
    assert again is not None
    again.data["n"] = 2
    result_of(again.save())


def test_selection_that_fails(clock: Clock) -> None:
    """
    If the export fails midway, the sessions of the chunk in hand are here again.
    """
    old = Worker(clock)
    for _ in range(3):
        old.saved()
    before = old.records()
    calls: list[SessionRecord] = []

    def select(record: SessionRecord) -> bool:
        calls.append(record)
        return len(calls) < 3 or 1 / 0 > 0

    with pytest.raises(ZeroDivisionError):
        list(old.registry.export_batches(select))
    assert old.records() == before


def test_changes_between_chunks(clock: Clock) -> None:
    """
    While a chunk is under way, sessions still here may be used, held, deleted or moved.
    """
    old, new = Worker(clock), Worker(clock)
    text = "x" * 25_000
    sessions = [old.saved(n=0, text=text) for _ in range(8)]
    export = old.registry.export_batches()
    taken = [next(export)]  # the first two
    sessions[2].data["n"] = 1
    taken.append(next(export))  # the third, as it is now, and the fourth
    sessions[4].hold()
    result_of(sessions[5].delete())
    [*others] = old.registry.export_batches(lambda record: record.uid == sessions[6].uid)
    taken += [*export, *others]
    assert new.take_in(*taken) == 6
    moved = result_of(new.registry.load(sessions[2].uid))
    assert moved is not None
    assert moved.data["n"] == 1
    assert list(old.records()) == [sessions[4].uid]


def test_import_again(clock: Clock) -> None:
    """
    A chunk that comes twice changes nothing the second time.
    """
    old, new = Worker(clock), Worker(clock)
    live = old.saved(n=1)
    [chunk] = old.registry.export_batches()
    assert new.take_in(chunk) == 1
    moved = result_of(new.registry.load(live.uid))
    assert moved is not None
    moved.data["n"] = 2
    result_of(moved.save())
    assert new.take_in(chunk) == 0
    assert dict(moved.data) == {"n": 2}
    assert moved.ended is None


def test_import_over_an_older_one(clock: Clock) -> None:
    """
    Who uses an older version of a session that is carried here is told that it is out of date.
    """
    new = Worker(clock)
    live = new.saved(n=1)
    record = replace(new.records()[live.uid], version=5, data=b'{"n":5}')
    assert new.take_in(join([line_pair(record)])) == 1
    assert live.ended is EndReason.SUPERSEDED
    again = result_of(new.registry.load(live.uid))
    assert again is not None
    assert dict(again.data) == {"n": 5}


def test_there_and_back_again(clock: Clock) -> None:
    """
    A session that moves away and back is a session as any other.
    """
    old, new = Worker(clock), Worker(clock)
    live = old.saved(n=1)
    new.take_in(*old.registry.export_batches())
    old.take_in(*new.registry.export_batches())
    again = result_of(old.registry.load(live.uid))
    assert again is not None
    again.data["n"] = 2
    result_of(again.save())
    with pytest.raises(SessionMoved):
        result_of(new.registry.load(live.uid))


def test_no_room_at_the_target(clock: Clock) -> None:
    """
    A session for which there is no room is logged, and the others of its chunk come in.
    """
    old, new = Worker(clock), Worker(clock, max_bytes=10_000)
    old.saved(n=1)
    old.saved(text="x" * 20_000)
    with capturedLogs() as events:
        assert new.take_in(*old.registry.export_batches()) == 1
    assert "a session that was carried here is lost" in events[-1]["log_format"]


def test_imported_sessions_expire(clock: Clock) -> None:
    """
    A worker that has only imported sessions searches for those that are over too.
    """
    old, new = Worker(clock), Worker(clock)
    old.saved()
    new.take_in(*old.registry.export_batches())
    clock.advance(2_000)
    assert new.store.expired == 1


def test_chunk_too_small(clock: Clock) -> None:
    """
    A chunk into which not every session's fields fit is not begun.
    """
    with pytest.raises(ValueError, match="a chunk must have room for 49152 bytes, not 49151"):
        Worker(clock).registry.export_batches(max_bytes=CHUNK_LEAST - 1)


def test_shared_store_carries_nothing(clock: Clock) -> None:
    """
    From a store that the other worker sees too, nothing is taken out.
    """
    store = LateStore(clock)
    registry = SessionRegistry(store, clock)
    saving = registry.create().save()
    store.run()
    result_of(saving)
    assert list(registry.export_batches()) == []
    assert store.run() == 0


def test_whose_a_session_is_goes_along(clock: Clock) -> None:
    """
    What the client is known by is carried, where workers keep their clients; of a session whose
    sender did not say, nobody is the client.
    """
    old, new = Worker(clock), Worker(clock)
    for worker in (old, new):
        worker.registry.watch_clients(lambda client, is_there: None)
    named, unnamed = old.registry.create(b"1"), old.registry.create(b"2")
    named.note_client(b"tone")
    for live in (named, unnamed):
        result_of(live.save())
    assert new.take_in(*old.registry.export_batches()) == 2
    clients = {uid: record.client for uid, record in new.records().items()}
    assert clients == {named.uid: b"tone", unnamed.uid: UNKNOWN_CLIENT}
    found = new.registry.find(named.uid)
    assert found is not None
    assert found.client == b"tone"
    found.note_client(b"ttwo")
    assert found.unsaved
    result_of(found.save())
    assert new.records()[named.uid].client == b"ttwo"

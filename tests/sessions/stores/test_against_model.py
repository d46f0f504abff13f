"""
Whatever is done in whatever order: each store that is carried answers as a plain dict does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import example, given, settings

from stickyd.errors import NoSuchSession, SessionConflict, SessionError, SessionMoved
from stickyd.sessions.record import SessionRecord, hidden_id
from stickyd.sessions.stores.opening import StoreContext, open_store
from stickyd.settings.session_url import parse_session_url
from tests.sessions.stores.threads import ThreadClock

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

START = 1_700_000_000.0

UIDS = [b"%032d" % number for number in range(4)]

uids = st.sampled_from(UIDS)

#: What is done: a name, and what it is done with.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), uids, st.sampled_from([5.0, 40.0, inf])),
        st.tuples(st.just("change"), uids, st.integers(-1, 1), st.binary(max_size=2)),
        st.tuples(st.sampled_from(["load", "version", "touch", "delete", "move", "moved"]), uids),
        st.tuples(st.just("alias"), uids, uids, st.integers(0, 1)),
        st.tuples(st.just("adopt"), uids, st.integers(0, 2)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 7.0, 30.0])),
        st.tuples(st.just("expire")),
    ),
    max_size=30,
)


@dataclass
class Model:
    """
    The records, and when those are over that were taken out.
    """

    clock: ThreadClock
    records: dict[bytes, SessionRecord] = field(default_factory=dict)
    moved: dict[bytes, float] = field(default_factory=dict)
    nonces: dict[bytes, bytes] = field(default_factory=dict)

    def find(self, uid: bytes) -> SessionRecord | None:
        """
        :return: what is there, be it an alias.
        """
        record = self.records.get(uid)
        return record if record is not None and record.due() > self.clock.seconds() else None

    def is_moved(self, uid: bytes) -> bool:
        """
        Whether a session is known as moved.
        """
        return self.find(uid) is None and self.moved.get(uid, 0.0) > self.clock.seconds()

    def load(self, uid: bytes) -> SessionRecord | type[SessionError] | None:
        """
        :return: what a load gives, or the error.
        """
        seen: set[bytes] = set()
        record = self.find(uid)
        while record is not None and record.alias and uid not in seen:
            seen.add(uid)
            uid = record.alias
            record = self.find(uid)
        return SessionMoved if self.is_moved(uid) else record

    def put(self, record: SessionRecord) -> None:
        """
        Have a record.
        """
        self.moved.pop(record.uid, None)
        self.records[record.uid] = record


class Trial:
    """
    A store, and the model of it.
    """

    def __init__(self, url: str) -> None:
        self.clock = ThreadClock()
        self.clock.advance(START)
        self.store: Any = open_store(parse_session_url(url), StoreContext(self.clock, self.clock))
        self.settle(self.store.start(0))
        self.model = Model(self.clock)

    def settle(self, deferred: Deferred[Any]) -> Any:
        """
        Wait for something.
        """
        return self.clock.settle(deferred)

    def outcome(self, deferred: Deferred[Any]) -> Any:
        """
        :return: the result, with ids for what stands for them; or the type of the error.
        """
        try:
            found = self.settle(deferred)
        except SessionError as error:
            return type(error)
        return self.named(found) if isinstance(found, SessionRecord) else found

    def named(self, record: SessionRecord) -> SessionRecord:
        """
        Have ids in place of what stands for them.
        """
        names = {hidden_id(uid): uid for uid in UIDS}
        return replace(
            record,
            uid=names.get(hidden_id(record.uid), record.uid),
            alias=names.get(hidden_id(record.alias), b"") if record.alias else b"",
        )

    def save(self, record: SessionRecord, nonce: bytes) -> None:
        """
        Save a record, and then once more, as if the answer had been lost.
        """
        model, uid = self.model, record.uid
        found = model.find(uid)
        expected: Any
        if model.is_moved(uid):
            expected = SessionMoved
        elif found is None:
            expected = (
                NoSuchSession if record.version else record.revised(1, record.touched, record.data)
            )
        elif found.version != record.version or found.alias:
            expected = SessionConflict
        else:
            touched = max(found.touched, record.touched)
            expected = record.revised(record.version + 1, touched, record.data)
        for _ in range(2):
            assert self.outcome(self.store.save(record, nonce)) == expected
            if isinstance(expected, SessionRecord):
                model.put(expected)
                if model.find(uid) is None:
                    break  # over at once, so there is nothing to be found done

    def do(self, number: int, step: tuple[Any, ...]) -> None:
        """
        Do something to both.
        """
        name, *arguments = step
        getattr(self, f"do_{name}")(number, *arguments)

    def do_new(self, number: int, uid: bytes, idle: float) -> None:
        now = self.clock.seconds()
        self.save(SessionRecord(uid, 0, now, now, idle, inf, b'{"n":0}'), b"new %d" % number)

    def do_change(self, number: int, uid: bytes, off: int, data: bytes) -> None:
        record = self.model.records.get(uid)
        if record is None or record.alias or record.version + off < 1:
            return
        changed = replace(
            record, version=record.version + off, data=b'{"n":"%s"}' % data.hex().encode()
        )
        self.save(changed, b"change %d" % number)

    def do_load(self, number: int, uid: bytes) -> None:
        assert self.outcome(self.store.load(uid)) == self.model.load(uid)

    def do_version(self, number: int, uid: bytes) -> None:
        found = self.model.find(uid)
        expected: Any = None if found is None or found.alias else found.version
        if self.model.is_moved(uid):
            expected = SessionMoved
        assert self.outcome(self.store.version(uid)) == expected

    def do_touch(self, number: int, uid: bytes) -> None:
        found = self.model.find(uid)
        there = found is not None and not found.alias
        assert self.outcome(self.store.touch(uid)) is there
        if found is not None and there:
            self.model.records[uid] = replace(found, touched=self.clock.seconds())

    def do_delete(self, number: int, uid: bytes) -> None:
        there = False
        found = self.model.find(uid)
        target = uid
        while found is not None:
            del self.model.records[target]
            there = not found.alias
            target = found.alias
            found = self.model.find(target) if target else None
        assert self.outcome(self.store.delete(uid)) is there

    def do_alias(self, number: int, old: bytes, new: bytes, off: int) -> None:
        if old == new or self.model.load(new) is not self.model.find(new):
            return
        found = self.model.find(old)
        expected: Any = True
        if found is None:
            expected = False
        elif found.alias != new and (found.alias or off):
            expected = SessionConflict
        version = (0 if found is None else found.version) + off
        assert self.outcome(self.store.alias(old, version, new, 10.0)) == expected
        if expected is True and found is not None and not found.alias:
            now = self.clock.seconds()
            self.model.put(
                SessionRecord(
                    *(old, found.version + 1, now, now, 10.0, 10.0, b"{}"),
                    key=found.key,
                    secure=found.secure,
                    alias=new,
                )
            )

    def do_move(self, number: int, uid: bytes) -> None:
        found = self.model.find(uid)
        assert self.outcome(self.store.move(uid)) == found
        if found is not None:
            del self.model.records[uid]
            self.model.moved[uid] = found.due()

    def do_moved(self, number: int, uid: bytes) -> None:
        if self.model.is_moved(uid):
            assert self.outcome(self.store.moved(uid)) is None

    def do_adopt(self, number: int, uid: bytes, ahead: int) -> None:
        now = self.clock.seconds()
        found = self.model.find(uid)
        version = ahead if found is None else found.version + ahead - 1
        if version < 1:
            return
        record = SessionRecord(uid, version, now, now, 40.0, inf, b'{"a":1}')
        new = found is None or found.version < version
        assert self.outcome(self.store.adopt(record)) is new
        if new:
            self.model.put(record)

    def do_wait(self, number: int, seconds: float) -> None:
        self.clock.advance(seconds)

    def do_expire(self, number: int) -> None:
        while self.settle(self.store.expire(2)):
            pass

    def check(self) -> None:
        """
        Compare everything.
        """
        batches = [self.settle(batch) for batch in self.store.enumerate(2)]
        found = {each.uid: each for batch in batches for each in map(self.named, batch)}
        live = {uid: record for uid in UIDS if (record := self.model.find(uid)) is not None}
        assert found == live


def run(url: str, steps: list[tuple[Any, ...]]) -> None:
    """
    Do all steps, and compare everything after each.
    """
    trial = Trial(url)
    for number, step in enumerate(steps):
        trial.do(number, step)
        trial.check()
    trial.settle(trial.store.stop())


@settings(deadline=None)
@given(steps=STEPS)
def test_memory(steps: list[tuple[Any, ...]]) -> None:
    """
    Saves, repeated ones too, uses, aliases, ends and moves in any order.
    """
    run("memory", steps)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
@example([("new", UIDS[0], 40.0), ("wait", 1.0), ("adopt", UIDS[0], 2)])  # begun anew elsewhere
def test_sqlite(steps: list[tuple[Any, ...]]) -> None:
    """
    The same in a file.
    """
    with TemporaryDirectory() as directory:
        run(f"sqlite:{directory}", steps)

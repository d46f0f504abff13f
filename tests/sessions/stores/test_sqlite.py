"""
Tests of the store in SQLite files.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from twisted.internet.defer import succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from stickyd.errors import SessionMoved, SettingError, StoreAway
from stickyd.sessions.conformance_carried import CarriedStoreConformance
from stickyd.sessions.conformance_harness import START
from stickyd.sessions.record import EndReason, SessionRecord
from stickyd.sessions.stores.opening import StoreContext, open_store
from stickyd.settings.session_url import parse_session_url, parse_sqlite
from tests.sessions.stores.threads import ThreadClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

    from stickyd.sessions.interfaces import ICarriedStore
    from stickyd.sessions.stores.sqlite import SqliteSessionStore

_T = TypeVar("_T")


def make_store(
    directory: Path, clock: ThreadClock, query: str = "", **options: Any
) -> SqliteSessionStore:
    """
    Make a store as a worker does.
    """
    url = parse_session_url(f"sqlite:{directory}{query}")
    store: Any = open_store(url, StoreContext(clock, clock, **options))
    return cast("SqliteSessionStore", store)


class TestSqliteStore(CarriedStoreConformance, SynchronousTestCase):
    """
    The store keeps the contract.
    """

    keys: tuple[bytes, ...] = ()

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        super().setUp()

    def make_clock(self) -> Clock:
        self.threads = ThreadClock()
        return self.threads

    def make_store(self, clock: Clock) -> ICarriedStore:
        return make_store(self.directory, self.threads, keys=self.keys)

    def settle(self, deferred: Deferred[_T]) -> _T:
        return self.threads.settle(deferred)


class TestSealedSqliteStore(TestSqliteStore):
    """
    So it does with its records encrypted.
    """

    keys = (b"a secret of sixteen bytes", b"another one of many bytes")


@pytest.fixture
def threads() -> ThreadClock:
    """
    A clock at a time of our day.
    """
    clock = ThreadClock()
    clock.advance(START)
    return clock


def opened(
    directory: Path, threads: ThreadClock, slot: int = 0, **options: Any
) -> SqliteSessionStore:
    """
    Open a store.
    """
    store = make_store(directory, threads, **options)
    threads.settle(store.start(slot))
    return store


def record_of(number: int, **fields: Any) -> SessionRecord:
    """
    Make a record that was never stored.
    """
    uid = b"%032d" % number
    return replace(SessionRecord(uid, 0, START, START, 900.0, inf, data=b'{"n":1}'), **fields)


def in_file(directory: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """
    Have SQLite do something with the file of slot 0, which nobody has open.
    """
    with closing(sqlite3.connect(directory / "slot-0.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def test_what_was_committed_is_found_by_the_next(tmp_path: Path, threads: ThreadClock) -> None:
    """
    The next process finds what was saved; nobody finds an id in the files, nor anybody but the
    user.
    """
    store = opened(tmp_path, threads)
    record = threads.settle(store.save(record_of(7)))
    threads.settle(store.stop())
    with pytest.raises(StoreAway):
        threads.settle(store.load(record.uid))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert record.uid not in content
    assert sha256(record.uid).digest() in content
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    again = opened(tmp_path, threads)
    assert threads.settle(again.load(record.uid)) == record
    threads.settle(again.stop())


def test_one_commit_for_all_that_gathers(tmp_path: Path, threads: ThreadClock) -> None:
    """
    What is asked for in one turn of the loop is a few transactions, not one each.
    """
    store = opened(tmp_path, threads)
    saving = [store.save(record_of(number)) for number in range(400)]
    for each in saving:
        threads.settle(each)
    assert store.calls == 400
    assert store.commits < 40
    threads.settle(store.stop())


def damage(path: Path) -> None:
    """
    Write over the pages of a table.
    """
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def be_of_another(path: Path) -> None:
    """
    Be a database of another program.
    """
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE precious (a)")
        connection.execute("INSERT INTO precious VALUES ('kept')")


def be_later(path: Path) -> None:
    """
    Be written by a later version.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version=99")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (damage, "it is damaged"),
        (lambda path: path.write_bytes(b"x" * 5000), "it is no SQLite database"),
        (be_of_another, "it is a database of another program; name another directory"),
        (be_later, "it was written by a later version of stickyd"),
    ],
)
@pytest.mark.parametrize("slot", [0, -1])
def test_file_that_is_not_ours(
    spoil: Callable[[Path], None], problem: str, slot: int, tmp_path: Path, threads: ThreadClock
) -> None:
    """
    A worker does not start on a file that is not what we have written, nor is a trial content
    with it; one line says so, and the file stays as it is.
    """
    store = opened(tmp_path, threads)
    for number in range(200):
        threads.settle(store.save(record_of(number)))
    threads.settle(store.stop())
    path = tmp_path / "slot-0.db"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(SettingError, match=problem) as raised:
        opened(tmp_path, threads, slot)
    assert "\n" not in str(raised.value)
    assert f"--sessions sqlite:{tmp_path}: {path}: " in str(raised.value)
    assert path.read_bytes() == before


def test_file_that_another_program_has_open(tmp_path: Path, threads: ThreadClock) -> None:
    """
    While another program writes the file a worker does not start.
    """
    threads.settle(opened(tmp_path, threads).stop())
    with closing(sqlite3.connect(tmp_path / "slot-0.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM session")
        with pytest.raises(SettingError, match="another program has it open; end that"):
            opened(tmp_path, threads)
        other.execute("ROLLBACK")


@pytest.mark.parametrize("slot", [0, -1])
def test_directory_that_cannot_be(slot: int, tmp_path: Path, threads: ThreadClock) -> None:
    """
    A directory that is a file is one line.
    """
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingError, match="name a directory that the workers' user may write to"):
        opened(tmp_path / "file", threads, slot)


def limit_pages(store: SqliteSessionStore, threads: ThreadClock, pages: int) -> None:
    """
    Have the disk be full when the file has so many pages.
    """

    def limit() -> None:
        store._file._connection.execute(f"PRAGMA max_page_count={pages}").fetchone()

    threads.settle(store._do_alone(limit))


def test_disk_that_is_full(tmp_path: Path, threads: ThreadClock) -> None:
    """
    While the disk is full what writes is told to come again, what reads is answered; nothing
    that was stored is lost, and it goes on when there is room.
    """
    store = opened(tmp_path, threads)
    record = threads.settle(store.save(record_of(1)))
    limit_pages(store, threads, 20)
    with capturedLogs() as logged:
        large = record_of(2, data=b'{"a":"%s"}' % (b"x" * 200_000))
        writing, reading = store.save(large), store.load(record.uid)
        with pytest.raises(StoreAway, match="the disk is full"):
            threads.settle(writing)
        assert threads.settle(reading) == record
    assert any("the disk is full" in formatEvent(event) for event in logged)
    limit_pages(store, threads, 1_000_000)
    assert threads.settle(store.save(large)).version == 1
    threads.settle(store.stop())


def test_record_that_cannot_be_read(tmp_path: Path, threads: ThreadClock) -> None:
    """
    It is kept, counted and logged once by the hash of its id, and as if there were none; a new
    session may take its place.
    """
    store = opened(tmp_path, threads)
    records = [threads.settle(store.save(record_of(number))) for number in range(3)]
    threads.settle(store.stop())
    in_file(tmp_path, "UPDATE session SET data=?", b'{"n":')
    store = opened(tmp_path, threads)
    with capturedLogs() as logged:
        for record in records:
            assert threads.settle(store.load(record.uid)) is None
        assert [found for batch in store.enumerate(10) for found in threads.settle(batch)] == []
    lines = [formatEvent(event) for event in logged]
    assert len(lines) == 1
    assert sha256(records[0].uid).hexdigest() in lines[0]
    assert store.unreadable >= 3
    new = threads.settle(store.save(record_of(0, data=b'{"n":5}')))
    assert threads.settle(store.load(new.uid)) == new
    threads.settle(store.stop())
    assert in_file(tmp_path, "SELECT count(*) FROM session") == [(3,)]
    assert in_file(tmp_path, "SELECT data FROM unreadable") == [(b'{"n":',)]


def test_sealed_records(tmp_path: Path, threads: ThreadClock) -> None:
    """
    Nobody reads a record without the key, and none is read under another id or version; a
    former key reads on.
    """
    one, two = b"the first secret of all", b"the second secret of all"
    store = opened(tmp_path, threads, keys=(one,))
    records = [
        threads.settle(store.save(record_of(number, data=b'{"n":"secret"}'))) for number in range(4)
    ]
    threads.settle(store.stop())
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    names = [sha256(record.uid).digest() for record in records]
    in_file(tmp_path, "UPDATE session SET version=2 WHERE name=?", names[1])
    (data,) = in_file(tmp_path, "SELECT data FROM session WHERE name=?", names[0])[0]
    in_file(tmp_path, "UPDATE session SET data=? WHERE name=?", data, names[2])
    in_file(tmp_path, "UPDATE session SET data=? WHERE name=?", b"{}", names[3])
    found = {}
    with capturedLogs():
        for keys in ((one,), (two, one), (two,), ()):
            store = opened(tmp_path, threads, keys=keys)
            found[keys] = [threads.settle(store.load(record.uid)) for record in records]
            threads.settle(store.stop())
    assert found[(one,)] == found[(two, one)] == [records[0], None, None, None]
    assert found[(two,)] == [None] * 4
    assert found[()][:3] == [None] * 3


def test_full_store_makes_room(tmp_path: Path, threads: ThreadClock) -> None:
    """
    A file that has too many sessions gives up those of one request, and tells of them.
    """
    store = opened(tmp_path, threads, max_count=100)
    told: list[EndReason] = []
    store.observe(lambda uid, reason: told.append(reason))
    used = threads.settle(store.save(record_of(0, touched=START + 1)))
    for number in range(1, 120):
        threads.settle(store.save(record_of(number)))
    assert threads.settle(store.load(used.uid)) == used
    assert set(told) == {EndReason.EVICTED}
    assert 15 <= len(told) <= 40
    threads.settle(store.stop())


def test_handed_over(tmp_path: Path, threads: ThreadClock) -> None:
    """
    After a hand-over the next worker has the file; what is held here is stored there, and the
    rest has moved.
    """
    store = opened(tmp_path, threads)
    held, other, ended = (threads.settle(store.save(record_of(n))) for n in range(3))
    forwarded: list[SessionRecord] = []

    def forward(record: SessionRecord) -> Deferred[None]:
        forwarded.append(record)
        return succeed(None)

    handing = store.hand_over([held.uid, ended.uid], forward)
    saving = store.save(replace(held, data=b'{"n":2}'))
    threads.settle(handing)
    changed = threads.settle(saving)
    assert forwarded == [changed]
    with pytest.raises(SessionMoved):
        threads.settle(store.load(other.uid))
    successor = opened(tmp_path, threads)
    assert threads.settle(successor.load(held.uid)) == held
    assert threads.settle(successor.adopt(changed)) is True
    assert threads.settle(store.delete(ended.uid)) is True
    assert threads.settle(successor.adopt(forwarded[-1])) is False
    assert threads.settle(successor.load(ended.uid)) is None
    again = threads.settle(store.save(changed))
    threads.settle(successor.stop())
    # The successor has died: everything is here again, and what it did not get too.
    store.take_back()
    assert threads.settle(store.load(other.uid)) == other
    assert threads.settle(store.load(held.uid)) == again
    assert threads.settle(store.load(ended.uid)) is None
    threads.settle(store.stop())


def test_leftovers(tmp_path: Path, threads: ThreadClock) -> None:
    """
    The sessions of a slot that is gone are taken over, and its file goes; one that has records
    that cannot be read stays.
    """
    gone = opened(tmp_path, threads, 3)
    records = [threads.settle(gone.save(record_of(number))) for number in range(5)]
    threads.settle(gone.stop())
    store = opened(tmp_path, threads, 1)
    assert threads.settle(store.claim_leftovers(2)) == 5
    assert threads.settle(store.load(records[0].uid)) == records[0]
    assert not (tmp_path / "slot-3.db").exists()
    assert threads.settle(store.claim_leftovers(2)) == 0
    threads.settle(store.stop())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:", "name a directory, as in"),
        ("sqlite:?sync=full", "name a directory, as in"),
        ("sqlite://host/a", "'host' would be a host; write sqlite:/DIRECTORY"),
        ("sqlite:/a?sync=often", "sync=often means nothing to sqlite"),
        ("sqlite:/a?wait=1", "wait=1 means nothing to sqlite"),
    ],
)
def test_url_that_means_nothing(url: str, problem: str) -> None:
    """
    What cannot be meant is one line.
    """
    with pytest.raises(SettingError, match=problem):
        parse_session_url(url)


def test_urls_that_mean_something() -> None:
    """
    A directory may be written in each of the usual ways.
    """
    for url, expected in {
        "sqlite:/a/b": ("/a/b", False),
        "sqlite:///a/b?sync=full": ("/a/b", True),
        "sqlite:here": ("here", False),
        "sqlite:/a%20b": ("/a b", False),
    }.items():
        assert parse_sqlite(parse_session_url(url)) == expected


def test_warnings(tmp_path: Path, threads: ThreadClock) -> None:
    """
    An operator is told that others may look into the directory.
    """
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    store = opened(directory, threads, -1)
    (line,) = threads.settle(store.check())
    assert "chmod 700" in line
    directory.chmod(0o700)
    assert threads.settle(store.check()) == []

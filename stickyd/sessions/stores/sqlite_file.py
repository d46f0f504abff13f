"""
The SQLite file of one slot.

Everything here is called by one thread, and blocks it.  What is asked for together is one
transaction (:meth:`SessionFile.together`), so that many writes cost one commit.

``locking_mode=EXCLUSIVE`` comes before WAL: then there is no shared memory, and no second
connection, with which SQLite up to 3.51.2 could lose commits (the WAL-reset bug).  A commit
outlives the process with ``synchronous=NORMAL``, and a power cut too with ``FULL``.

A row is found by the hash of the id.  ``tick`` is when the session is over, in units of 16
seconds, rounded up: coarse, so that using a session does not move it in the index each time.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import contextmanager
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from stickyd.errors import (
    NoSuchSession,
    SessionConflict,
    SessionMoved,
    SettingError,
)
from stickyd.sessions.record import HIDDEN, EndReason, HiddenId, SessionRecord, hidden_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stickyd.sessions.stores.sealer import Sealer
    from stickyd.sessions.stores.unreadable import RecordReader

#: Tells our files from those of others, see https://sqlite.org/pragma.html#pragma_application_id.
APPLICATION_ID = 0x73_74_6B_79

#: The layout of the tables.
LAYOUT = 1

#: The most bytes that the log of changes keeps when it is done with.
JOURNAL_BYTES = 16 * 1024 * 1024

_TICK_SECONDS = 16.0

_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

_TABLES = """
CREATE TABLE session (
    name BLOB PRIMARY KEY, version INTEGER NOT NULL, nonce BLOB NOT NULL,
    created REAL NOT NULL, touched REAL NOT NULL, idle REAL NOT NULL, lifetime REAL NOT NULL,
    tick INTEGER, secure INTEGER NOT NULL, alias BLOB NOT NULL, key BLOB NOT NULL,
    data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX session_tick ON session (tick);
CREATE TABLE unreadable AS SELECT * FROM session
"""

_COLUMNS = "name, version, nonce, created, touched, idle, lifetime, secure, alias, key, data"
_ALIASES = 8  # how many are followed: a session that has got as many ids in a few seconds


def name_of(uid: bytes) -> bytes:
    """
    Tell by what a session is found: SHA-256 of its id.
    """
    return bytes.fromhex(hidden_id(uid)[len(HIDDEN) :].decode("ascii"))


def told_as(name: bytes) -> HiddenId:
    """
    Tell what stands for the id of a row.
    """
    return HiddenId(HIDDEN + name.hex().encode("ascii"))


class _Row:
    """
    What is stored, but for the data, which may be sealed.
    """

    __slots__ = ("alias", "created", "data", "idle", "key", "lifetime", "name", "nonce", "secure",
                 "touched", "version")  # fmt: skip

    def __init__(self, row: tuple[Any, ...]) -> None:
        (self.name, self.version, self.nonce, self.created, self.touched, self.idle, self.lifetime,
         self.secure, self.alias, self.key, self.data) = row  # fmt: skip

    def due(self) -> float:
        return float(min(self.touched + self.idle, self.created + self.lifetime))


class SessionFile:
    """
    Reads and writes.  Whatever SQLite raises is the caller's to understand.

    :ivar count: how many rows there are.
    """

    def __init__(self, path: Path, shown: str, sealer: Sealer, reader: RecordReader) -> None:
        """
        :param shown: the setting, for errors.
        """
        self._path = path
        self._shown = shown
        self._sealer = sealer
        self._reader = reader
        self._connection: Any = None
        # The names of those that were taken out, and when each would be over.
        self._moved: dict[bytes, float] = {}
        self.count = 0

    # the file

    def open(self, full: bool, look_through: bool = True) -> None:
        """
        Open it, or make it.

        :param full: whether a commit outlives a power cut.
        :param look_through: whether all of it is looked at, as who had it last was killed.
        :raises SettingError: if it is not what we have written, or cannot be used.
        """
        try:
            self._open(full, look_through)
        except sqlite3.Error as problem:
            self.close()
            raise SettingError(
                f"{self._shown}: {self._path}: {explain(problem)}; nothing was changed"
            ) from None

    def _open(self, full: bool, look_through: bool) -> None:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as problem:
            if problem.errno not in _READ_ONLY:
                raise
            # SQLite would open it for reading, and then speak of an error of the disk.
            raise sqlite3.OperationalError("readonly") from None
        self._connection = connection = sqlite3.connect(
            self._path, timeout=0.0, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        new = not (tables or application or layout)
        if not new and application != APPLICATION_ID:
            raise sqlite3.NotSupportedError("it is a database of another program")
        if layout > LAYOUT:
            raise sqlite3.NotSupportedError("it was written by a later version of stickyd")
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise sqlite3.NotSupportedError(f"it cannot have a write-ahead log (it has {mode})")
        connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}").fetchone()
        with self.together():
            if new:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={LAYOUT}")
            # That it can be written is better known now.
            connection.execute("DELETE FROM unreadable WHERE 0")
        if look_through:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"it is damaged ({verdict})")
        (self.count,) = connection.execute("SELECT count(*) FROM session").fetchone()

    def close(self) -> None:
        """
        Close it.
        """
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """
        Do all that follows, or nothing if it fails.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        count = self.count
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            self.count = count
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    # what a store does

    def load(self, uid: bytes, now: float) -> SessionRecord | None:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.load`.
        """
        name = name_of(uid)
        for _ in range(_ALIASES):
            row = self._find(name, now)
            if row is None:
                return None
            if not row.alias:
                return self._record(row, uid if name == name_of(uid) else told_as(name))
            name = row.alias
        return None

    def version(self, uid: bytes, now: float) -> int | None:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.version`.
        """
        row = self._find(name_of(uid), now)
        return None if row is None or row.alias else row.version

    def save(self, record: SessionRecord, nonce: bytes, now: float) -> SessionRecord:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.save`.
        """
        name = name_of(record.uid)
        row = self._find(name, now)
        if row is not None and not record.version and not row.alias:
            row = self._put_aside_unreadable(row)
        touched = record.touched
        if row is None:
            if record.version:
                raise NoSuchSession(f"session {shown(name)} has ended")
        else:
            if row.version != record.version or row.alias:
                if nonce and row.nonce == nonce and row.version == record.version + 1:
                    return record.revised(row.version, row.touched, record.data)
                raise _conflict(name, record.version, row)
            touched = max(touched, row.touched)
        stored = record.revised(record.version + 1, touched, record.data)
        self._write(name, stored, nonce, row)
        return stored

    def touch(self, uid: bytes, now: float) -> bool:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.touch`.
        """
        name = name_of(uid)
        if name in self._moved:
            return False
        row = self._find(name, now)
        if row is None or row.alias:
            return False
        before = _tick(row.due())
        row.touched = now
        after = _tick(row.due())
        if after == before:
            self._connection.execute("UPDATE session SET touched=? WHERE name=?", (now, name))
        else:
            self._connection.execute(
                "UPDATE session SET touched=?, tick=? WHERE name=?", (now, after, name)
            )
        return True

    def delete(self, uid: bytes, now: float) -> bool:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.delete`.
        """
        name = name_of(uid)
        for _ in range(_ALIASES):
            row = None if name in self._moved else self._find(name, now)
            if row is None:
                return False
            self._remove(name)
            if not row.alias:
                return True
            name = row.alias
        return False

    def alias(self, old: bytes, version: int, new: bytes, seconds: float, now: float) -> bool:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.alias`.
        """
        name, target = name_of(old), name_of(new)
        if name in self._moved:
            return False
        row = self._find(name, now)
        if row is None:
            return False
        if row.alias == target:
            return True
        if row.alias or row.version != version:
            raise _conflict(name, version, row)
        alias = SessionRecord(
            *(old, version + 1, now, now, seconds, seconds, b"{}", row.key, bool(row.secure), new)
        )
        self._write(name, alias, b"", row)
        return True

    def expire(self, limit: int, now: float) -> tuple[list[tuple[bytes, EndReason]], bool]:
        """
        See :meth:`stickyd.sessions.interfaces.ISessionStore.expire`.

        :return: what to tell of, and whether there is more to do.
        """
        names = self._connection.execute(
            "SELECT name FROM session WHERE tick <= ? LIMIT ?", (int(now // _TICK_SECONDS), limit)
        ).fetchall()
        told: list[tuple[bytes, EndReason]] = []
        for (name,) in names:
            self._remove(name)
            if name not in self._moved:
                told.append((told_as(name), EndReason.EXPIRED))
        for name in [name for name, due in self._moved.items() if due <= now]:
            del self._moved[name]
        return told, len(names) == limit

    def evict(self, excess: int) -> list[tuple[bytes, EndReason]]:
        """
        Make room: those of one request go first, and then those that are over first.
        """
        names = self._connection.execute(
            "SELECT name FROM session ORDER BY touched > created, tick LIMIT ?", (excess,)
        ).fetchall()
        for (name,) in names:
            self._remove(name)
        return [(told_as(name), EndReason.EVICTED) for (name,) in names]

    # what a store does whose sessions are carried

    def page(self, after: bytes, limit: int, now: float) -> tuple[list[SessionRecord], bytes]:
        """
        Look at the next sessions, in the order of their names.

        :param after: the name of the last one that was looked at.
        :return: the records, and the last name; that is empty at the end.
        """
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM session WHERE name > ? ORDER BY name LIMIT ?",  # noqa: S608
            (after, limit),
        ).fetchall()
        rows = [_Row(row) for row in found]
        records = [
            self._record(row, told_as(row.name))
            for row in rows
            if row.due() > now and row.name not in self._moved
        ]
        last = rows[-1].name if len(rows) == limit else b""
        return [record for record in records if record is not None], last

    def move(self, uid: bytes, now: float) -> SessionRecord | None:
        """
        See :meth:`stickyd.sessions.interfaces.ICarriedStore.move`.
        """
        name = name_of(uid)
        row = None if name in self._moved else self._find(name, now)
        record = None if row is None else self._record(row, uid)
        if record is not None:
            self._moved[name] = record.due()
        return record

    def moved(self, uid: bytes, now: float) -> None:
        """
        See :meth:`stickyd.sessions.interfaces.ICarriedStore.moved`.
        """
        name = name_of(uid)
        if name in self._moved:
            self._remove(name)

    def adopt(self, record: SessionRecord, now: float) -> bool:
        """
        See :meth:`stickyd.sessions.interfaces.ICarriedStore.adopt`.
        """
        name = name_of(record.uid)
        back = self._moved.pop(name, None) is not None
        row = self._find(name, now)
        if row is not None and row.version >= record.version + back:
            return False
        if record.due() <= now:
            self._remove(name)
            return False
        self._write(name, record, b"", row)
        return True

    def keeps_unreadable(self) -> bool:
        """
        Whether there are records that cannot be read.
        """
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM session")  # noqa: S608
        return any(not row.alias and self._record(row, b"") is None for row in map(_Row, rows))

    # rows

    def _find(self, name: bytes, now: float) -> _Row | None:
        due = self._moved.get(name)
        if due is not None:
            if due > now:
                raise SessionMoved(f"session {shown(name)} has moved to another worker")
            del self._moved[name]
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM session WHERE name=?",  # noqa: S608 -- ours
            (name,),
        ).fetchone()
        if found is None:
            return None
        row = _Row(found)
        return row if row.due() > now else None

    def _record(self, row: _Row, uid: bytes) -> SessionRecord | None:
        data: bytes | None = row.data
        if not row.alias:
            data = self._reader.read(row.name, row.version, row.data)
            if data is None:
                return None
        return SessionRecord(
            uid=uid,
            version=row.version,
            created=row.created,
            touched=row.touched,
            idle=row.idle,
            lifetime=row.lifetime,
            data=bytes(data or b""),
            key=row.key,
            secure=bool(row.secure),
            alias=told_as(row.alias) if row.alias else b"",
        )

    def _put_aside_unreadable(self, row: _Row) -> _Row | None:
        """
        Make room for a new session where one is that cannot be read: as if there were none.
        """
        if self._reader.read(row.name, row.version, row.data) is not None:
            return row
        self._connection.execute(
            "INSERT INTO unreadable SELECT * FROM session WHERE name=?", (row.name,)
        )
        self._remove(row.name)
        return None

    def _write(self, name: bytes, record: SessionRecord, nonce: bytes, row: _Row | None) -> None:
        tick = _tick(record.due())
        data = record.data if record.alias else self._sealer.seal(name, record.version, record.data)
        alias = name_of(record.alias) if record.alias else b""
        same = (
            row is not None
            and (row.created, row.idle, row.lifetime, row.key, row.secure)
            == (record.created, record.idle, record.lifetime, record.key, record.secure)
            and tick == _tick(row.due())
            and not alias
        )
        if same:
            self._connection.execute(
                "UPDATE session SET version=?, nonce=?, touched=?, data=? WHERE name=?",
                (record.version, nonce, record.touched, data, name),
            )
            return
        # One that was over may still take the place.
        cursor = self._connection.execute(
            "UPDATE session SET version=?, nonce=?, created=?, touched=?, idle=?, lifetime=?,"
            " tick=?, secure=?, alias=?, key=?, data=? WHERE name=?",
            (record.version, nonce, record.created, record.touched, record.idle, record.lifetime,
             tick, record.secure, alias, record.key, data, name),
        )  # fmt: skip
        if not cursor.rowcount:
            self._connection.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (name, record.version, nonce, record.created, record.touched, record.idle,
                 record.lifetime, tick, record.secure, alias, record.key, data),
            )  # fmt: skip
            self.count += 1

    def _remove(self, name: bytes) -> None:
        cursor = self._connection.execute("DELETE FROM session WHERE name=?", (name,))
        self.count -= cursor.rowcount


def _tick(due: float) -> int | None:
    return None if due == inf else ceil(due / _TICK_SECONDS)


def shown(name: bytes) -> str:
    """
    Enough of a hash to find it in a log.
    """
    return f"{name.hex()[:12]}..."


def _conflict(name: bytes, version: int, row: _Row) -> SessionConflict:
    found = "it has another id by now" if row.alias else f"{row.version} is stored"
    return SessionConflict(f"session {shown(name)}: version {version} was loaded, but {found}")


def explain(problem: sqlite3.Error) -> str:
    """
    Say what is wrong with a file, and what to do about it.
    """
    text = " ".join(str(problem).split())
    for sign, advice in (
        ("locked", "another program has it open; end that"),
        ("not a database", "it is no SQLite database; move it away to begin with no sessions"),
        ("malformed", "it is damaged; move it away to begin with no sessions"),
        ("damaged", f"{text}; move it away to begin with no sessions"),
        ("readonly", "it may not be written; give the workers' user the right to"),
        ("unable to open", "it cannot be opened; the workers' user must be able to write there"),
        ("is full", "the disk is full"),
        ("another program", f"{text}; name another directory"),
        ("later version", f"{text}; use that, or name another directory"),
    ):
        if sign in text:
            return advice
    return text

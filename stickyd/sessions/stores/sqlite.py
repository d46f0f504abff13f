"""
The store in SQLite files, one for each slot: ``--sessions sqlite:DIRECTORY``.

Theory of operation
===================

A slot has one worker at a time, and its file one connection, used by one thread.  While that
commits, the next operations gather; they are the next transaction.  So a turn of the loop costs
one commit, however many sessions it writes.

The file belongs to the slot, not to the process.  A worker that is killed leaves what was
committed, and its lock goes with it: the successor waits for that, and has all.  At a reload two
workers of a slot live at once.  The former gives the file up (:meth:`SqliteSessionStore.hand_over`)
when no request needs a session of it any more that it does not hold; what is held goes on in
memory (:class:`stickyd.sessions.stores.held_over.HeldOver`), and each change of it is
acknowledged when the successor has committed it.  The successor has asked for the lock long
before; what it is asked for meanwhile waits in its thread.  Nothing is copied, so a kill at any
moment leaves every session in the file.
"""

from __future__ import annotations

import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyd.errors import OperatorError, SessionError, StoreAway
from stickyd.net.throttle import Throttle
from stickyd.sessions.interfaces import ISlotStore
from stickyd.sessions.record import EndReason
from stickyd.sessions.stores.held_over import HeldOver
from stickyd.sessions.stores.sealer import Sealer
from stickyd.sessions.stores.slot_lock import SlotLock
from stickyd.sessions.stores.sqlite_directory import prepare_directory, slot_files, warnings_of
from stickyd.sessions.stores.sqlite_file import SessionFile, explain
from stickyd.sessions.stores.store_thread import Job, StoreThread
from stickyd.sessions.stores.unreadable import RecordReader
from stickyd.settings.session_url import parse_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stickyd.sessions.record import SessionRecord
    from stickyd.sessions.stores.opening import StoreContext
    from stickyd.settings.session_url import SessionUrl

_T = TypeVar("_T")
_Ask = tuple[str, tuple[Any, ...]]

#: Seconds between two lines about a file that cannot be used.
LOG_SECONDS = 10.0

_PAGE = 500  # records taken over in one transaction

#: How many sessions make room at once when there are too many: finding them takes a look at all.
_EVICTED_SHARE = 100


def open_sqlite(url: SessionUrl, context: StoreContext) -> SqliteSessionStore:
    """
    Make the store of ``sqlite:DIRECTORY[?sync=full]``.

    :raises SettingError: if that means nothing.
    """
    directory, full = parse_sqlite(url)
    return SqliteSessionStore(Path(directory), context, f"--sessions {url.shown}", full)


@implementer(ISlotStore)
class SqliteSessionStore:
    """
    Keeps the sessions of a slot in a file.

    :ivar calls: how many operations were asked for.
    :ivar commits: how many transactions they were.
    """

    immediate = False

    _log = Logger()

    def __init__(self, directory: Path, context: StoreContext, shown: str, full: bool) -> None:
        """
        :param shown: the setting, for errors and the log.
        :param full: whether a commit outlives a power cut, and not only a kill.
        """
        self._directory = directory
        self._shown = shown
        self._full = full
        self._clock = context.clock
        self._reactor = context.reactor
        self._max_count = context.max_count
        self._grace_seconds = context.grace_seconds
        self._sealer = Sealer(context.keys)
        self._reader = RecordReader(self._sealer, context.clock.seconds, shown)
        self._problems = Throttle(context.clock.seconds, LOG_SECONDS)
        self._observers: list[Callable[[bytes, EndReason], object]] = []
        self._slot = -1
        self._stopped = False
        self._is_open = False
        self._held_over: HeldOver | None = None
        # What was asked for while the file is being handed over.
        self._waiting: list[tuple[_Ask, Deferred[Any]]] | None = None
        self.calls = 0
        self.commits = 0

    @property
    def unreadable(self) -> int:
        """
        How many records could not be read.
        """
        return self._reader.unreadable

    # opening and closing

    def start(self, slot: int) -> Deferred[None]:
        self._slot = slot
        started: Deferred[None] = Deferred()
        try:
            prepare_directory(self._directory, self._shown)
            if slot < 0:
                # To be tried, and used by nobody.
                for path in slot_files(self._directory):
                    self._try_file(path)
                return succeed(None)
        except OperatorError:
            return fail()
        self._lock, self._file = self._of_slot(slot)
        self._thread = StoreThread("sessions", self._run, self._reactor.callFromThread)

        def fire(result: Any) -> None:
            if not started.called:
                started.callback(result)
            elif isinstance(result, Failure):
                # Whoever asks for something hears it again.
                self._tell_problem(result.getErrorMessage())

        given_later = False

        def waiting() -> None:
            # The worker that this one relieves has it, and leaves it to us when we are ready.
            nonlocal given_later
            given_later = True

        def open_first() -> None:
            try:
                self._open(lambda: given_later or self._stopped, waiting)
            except StoreAway:
                if not given_later:
                    raise

        self._do_alone(open_first).addBoth(fire)
        return started

    def _of_slot(self, slot: int) -> tuple[SlotLock, SessionFile]:
        name = str(self._directory / f"slot-{slot}")
        lock = SlotLock(Path(f"{name}.lock"), self._shown)
        return lock, SessionFile(Path(f"{name}.db"), self._shown, self._sealer, self._reader)

    def _try_file(self, path: Path) -> None:
        lock, file = self._of_slot(int(path.stem.removeprefix("slot-")))
        try:
            lock.acquire(lambda: True, lambda: None)
            file.open(self._full)
        except StoreAway:
            pass  # one of our workers has it open, so it is sound
        finally:
            file.close()
            lock.release(False)

    def stop(self) -> Deferred[None]:
        if self._stopped or self._slot < 0:
            self._stopped = True
            return succeed(None)
        closed = self._do_alone(self._close)
        self._stopped = True
        self._thread.end()
        return closed

    def check(self) -> Deferred[list[str]]:
        return succeed(warnings_of(self._directory, self._shown))

    def observe(self, callback: Callable[[bytes, EndReason], object]) -> None:
        self._observers.append(callback)

    # in the thread

    def _open(
        self, cancelled: Callable[[], bool], waiting: Callable[[], object] = lambda: None
    ) -> None:
        was_closed = self._lock.acquire(cancelled, waiting)
        try:
            self._file.open(self._full, look_through=not was_closed)
        except BaseException:
            self._lock.release(False)
            raise
        self._is_open = True

    def _open_in_time(self) -> None:
        if not self._is_open:
            deadline = time.monotonic() + self._grace_seconds
            self._open(lambda: self._stopped or time.monotonic() > deadline)

    def _close(self) -> None:
        was_open, self._is_open = self._is_open, False
        try:
            self._file.close()
        finally:
            self._lock.release(was_open)

    def _run(self, jobs: list[Job]) -> None:
        if jobs[0].alone:
            try:
                jobs[0].outcome = jobs[0].do()
            except Exception:  # noqa: BLE001 -- whoever asked hears of it
                jobs[0].outcome = Failure()
            return
        try:
            self._open_in_time()
            self._commit(jobs)
        except (sqlite3.Error, OSError, OperatorError, StoreAway) as problem:
            if len(jobs) > 1 and self._is_open:
                # One of them may be at fault, and those that only read can be answered.
                for job in jobs:
                    self._run([job])
                return
            self._fail(jobs, problem)
        if self._is_open and self._file.count > self._max_count:
            self._evict()

    def _commit(self, jobs: list[Job]) -> None:
        with self._file.together():
            for job in jobs:
                try:
                    job.outcome = job.do()
                except SessionError:
                    job.outcome = Failure()
        self.commits += 1

    def _fail(self, jobs: list[Job], problem: Exception) -> None:
        text = explain(problem) if isinstance(problem, sqlite3.Error) else str(problem)
        line = text if text.startswith(self._shown) else f"{self._shown}: slot {self._slot}: {text}"
        self._reactor.callFromThread(self._tell_problem, line)
        for job in jobs:
            job.outcome = Failure(StoreAway(line))

    def _evict(self) -> None:
        room = self._file.count - self._max_count + self._max_count // _EVICTED_SHARE
        try:
            with self._file.together():
                told = self._file.evict(room)
        except sqlite3.Error:
            return  # what was asked for was done; the next one hears of it
        self._reactor.callFromThread(self._tell_all, told)

    # in the loop

    def _do_alone(self, do: Callable[[], _T]) -> Deferred[_T]:
        answer: Deferred[_T] = Deferred()
        self._thread.ask(Job(do, answer, True))
        return answer

    def _ask(self, name: str, *arguments: Any) -> Deferred[Any]:
        """
        Have a method of the file called, with the time; or once it was handed over, of what is
        still held here, without.
        """
        self.calls += 1
        if self._held_over is not None:
            held: Deferred[Any] = getattr(self._held_over, name)(*arguments)
            return held
        answer: Deferred[Any] = Deferred()
        if self._waiting is not None:
            self._waiting.append(((name, arguments), answer))
        elif self._stopped or self._slot < 0:
            answer.errback(Failure(StoreAway(f"{self._shown}: it is closed")))
        else:
            do = partial(getattr(self._file, name), *arguments, self._clock.seconds())
            self._thread.ask(Job(do, answer))
        return answer

    def _tell(self, uid: bytes, reason: EndReason) -> None:
        for observer in self._observers:
            observer(uid, reason)

    def _tell_all(self, ends: list[tuple[bytes, EndReason]]) -> None:
        for uid, reason in ends:
            self._tell(uid, reason)

    def _tell_problem(self, line: str) -> None:
        if self._problems.due():
            self._log.critical("{line}", event="store.damaged", line=line)

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        return self._ask("load", uid)

    def version(self, uid: bytes) -> Deferred[int | None]:
        return self._ask("version", uid)

    def save(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        return self._ask("save", record, nonce)

    def touch(self, uid: bytes) -> Deferred[bool]:
        return self._ask("touch", uid)

    def delete(self, uid: bytes) -> Deferred[bool]:
        return self._ask("delete", uid)

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        return self._ask("alias", old, version, new, seconds)

    def expire(self, limit: int) -> Deferred[bool]:
        return self._ask("expire", limit).addCallback(self._expired)

    def _expired(self, outcome: tuple[list[tuple[bytes, EndReason]], bool]) -> bool:
        ends, more = outcome
        self._tell_all(ends)
        return more

    # carrying

    def enumerate(self, limit: int) -> Iterator[Deferred[list[SessionRecord]]]:
        after: bytes | None = b""

        def note(page: tuple[list[SessionRecord], bytes]) -> list[SessionRecord]:
            nonlocal after
            after = page[1] or None
            return page[0]

        while after is not None:
            yield self._ask("page", after, limit).addCallback(note)

    def move(self, uid: bytes) -> Deferred[SessionRecord | None]:
        return self._ask("move", uid).addCallback(self._has_moved)

    def _has_moved(self, record: SessionRecord | None) -> SessionRecord | None:
        if record is not None:
            self._tell(record.uid, EndReason.MOVED)
        return record

    def moved(self, uid: bytes) -> Deferred[None]:
        return self._ask("moved", uid)

    def adopt(self, record: SessionRecord) -> Deferred[bool]:
        return self._ask("adopt", record)

    # of a slot

    def hand_over(
        self, keep: Iterable[bytes], forward: Callable[[SessionRecord], Deferred[None]]
    ) -> Deferred[None]:
        if self._held_over is not None or self._waiting is not None or self._stopped:
            return succeed(None)
        self._waiting = []
        now, kept = self._clock.seconds(), list(keep)

        def give() -> list[SessionRecord]:
            try:
                if not self._is_open:
                    return []
                with self._file.together():
                    records = [self._file.load(uid, now) for uid in kept]
                return [record for record in records if record is not None]
            finally:
                self._close()

        return self._do_alone(give).addBoth(self._given, forward)

    def _given(
        self,
        records: list[SessionRecord] | Failure,
        forward: Callable[[SessionRecord], Deferred[None]],
    ) -> Failure | None:
        failure = records if isinstance(records, Failure) else None
        held = self._held_over = HeldOver(self._clock, forward, self._tell)
        for record in [] if isinstance(records, Failure) else records:
            held.keep(record)
        waiting, self._waiting = self._waiting or [], None
        for (name, arguments), answer in waiting:
            getattr(held, name)(*arguments).chainDeferred(answer)
        return failure

    def take_back(self) -> None:
        held, self._held_over = self._held_over, None
        if held is not None:
            for record in held.records():
                self.adopt(record).addErrback(lambda _: None)  # it was told of

    def claim_leftovers(self, slots: int) -> Deferred[int]:
        if self._held_over is not None or self._stopped:
            return succeed(0)
        now = self._clock.seconds()

        def claim() -> int:
            self._open_in_time()
            found = 0
            for path in slot_files(self._directory):
                number = int(path.stem.removeprefix("slot-"))
                if number >= slots and number % slots == self._slot:
                    found += self._claim(number, path, now)
            return found

        return self._do_alone(claim)

    def _claim(self, number: int, path: Path, now: float) -> int:
        lock, file = self._of_slot(number)
        found, after = 0, b""
        try:
            lock.acquire(lambda: True, lambda: None)
            file.open(self._full)
            while True:
                records, after = file.page(after, _PAGE, now)
                with self._file.together():
                    found += sum(self._file.adopt(record, now) for record in records)
                if not after:
                    break
            empty = not file.keeps_unreadable()
        except StoreAway:
            return 0  # its worker is about to end
        finally:
            file.close()
            lock.release(False)
        if empty:
            path.unlink()
        return found

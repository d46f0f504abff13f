"""
A store whose Deferreds fire later, as those of a database do, and the suite run on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stickyd.sessions.answers import result_of
from stickyd.sessions.conformance_carried import CarriedStoreConformance
from stickyd.sessions.interfaces import ICarriedStore, ISessionStore
from stickyd.sessions.stores.memory import MemorySessionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.task import Clock

    from stickyd.sessions.record import EndReason, SessionRecord

_T = TypeVar("_T")


@implementer(ISessionStore)
class LateStore:
    """
    A store outside of the process: it does nothing before it is told to :meth:`run`.

    :ivar behind: what it keeps, where other workers write too.
    :ivar broken: the error that everything fails with, as if the database were down.
    :ivar lost: the same, but what was asked for is done.
    """

    immediate = False

    def __init__(self, clock: Clock) -> None:
        self.behind = MemorySessionStore(clock)
        self.broken: Exception | None = None
        self.lost: Exception | None = None
        self._queue: list[Callable[[], object]] = []

    def run(self, limit: int = 1_000) -> int:
        """
        Do what was asked for, in order, and what is asked for meanwhile.

        :param limit: do no more than so much.
        :return: how much was done.
        """
        done = 0
        while self._queue and done < limit:
            self._queue.pop(0)()
            done += 1
        return done

    def _later(self, ask: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        answer: Deferred[_T] = Deferred()

        def do() -> None:
            result: Deferred[_T] = ask() if self.broken is None else fail(self.broken)
            if self.lost is not None:
                result.addErrback(lambda _: None)
                result = fail(self.lost)
            result.chainDeferred(answer)

        self._queue.append(do)
        return answer

    def observe(self, callback: Callable[[bytes, EndReason], object]) -> None:
        self.behind.observe(callback)

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        return self._later(lambda: self.behind.load(uid))

    def start(self, slot: int) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def check(self) -> Deferred[list[str]]:
        return self._later(self.behind.check)

    def version(self, uid: bytes) -> Deferred[int | None]:
        return self._later(lambda: self.behind.version(uid))

    def save(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        return self._later(lambda: self.behind.save(record, nonce))

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        return self._later(lambda: self.behind.alias(old, version, new, seconds))

    def touch(self, uid: bytes) -> Deferred[bool]:
        return self._later(lambda: self.behind.touch(uid))

    def delete(self, uid: bytes) -> Deferred[bool]:
        return self._later(lambda: self.behind.delete(uid))

    def expire(self, limit: int) -> Deferred[bool]:
        return self._later(lambda: self.behind.expire(limit))


@implementer(ICarriedStore)
class LateCarriedStore(LateStore):
    """
    The same of one worker alone.
    """

    def enumerate(self, limit: int) -> Iterator[Deferred[list[SessionRecord]]]:
        for batch in self.behind.enumerate(limit):
            yield self._later(lambda batch=batch: batch)  # type: ignore[misc]  # a default binds it

    def move(self, uid: bytes) -> Deferred[SessionRecord | None]:
        return self._later(lambda: self.behind.move(uid))

    def adopt(self, record: SessionRecord) -> Deferred[bool]:
        return self._later(lambda: self.behind.adopt(record))

    def moved(self, uid: bytes) -> Deferred[None]:
        return self._later(lambda: self.behind.moved(uid))


class TestLateStore(CarriedStoreConformance, SynchronousTestCase):
    """
    The contract can be kept by a store that answers later.
    """

    def make_store(self, clock: Clock) -> LateCarriedStore:
        self.late = LateCarriedStore(clock)
        return self.late

    def settle(self, deferred: Deferred[_T]) -> _T:
        while not deferred.called and self.late.run(1):
            pass
        return result_of(deferred)

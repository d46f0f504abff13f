"""
A store whose answers are lost, doubled, late, or never come.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyd.errors import StoreAway
from stickyd.sessions.interfaces import ISessionStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.record import EndReason, SessionRecord

_T = TypeVar("_T")


class Fate(enum.Enum):
    """
    What becomes of an operation.
    """

    FINE = "done, and answered"
    REFUSED = "not done, and the store is away"
    LOST = "done, but the answer is lost"
    DOUBLED = "sent twice, as by a client library, and the second one is answered"
    LATE = "done, and answered only after whatever follows"
    NEVER = "done, and never answered"


@implementer(ISessionStore)
class FaultyStore:
    """
    Stands between a worker and the store that it shares with others.

    :ivar fates: what becomes of the next operations; then all is fine.
    :ivar calls: the names of the operations that were asked for.
    """

    immediate = False

    def __init__(
        self,
        behind: ISessionStore,
        settle: Callable[[Deferred[Any]], object] = lambda deferred: None,
    ) -> None:
        """
        :param settle: waits for what the store behind does, if that answers later.
        """
        self.behind = behind
        self._settle = settle
        self.fates: list[Fate] = []
        self.calls: list[str] = []
        self._queue: list[Callable[[], None]] = []
        self._late: list[Callable[[], None]] = []

    def run(self) -> None:
        """
        Do all that was asked for, and then give the late answers, until nothing is left.
        """
        while self._queue or self._late:
            while self._queue:
                self._queue.pop(0)()
            if self._late:
                self._late.pop(0)()

    def _ask(self, name: str, ask: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        answer: Deferred[_T] = Deferred()
        fate = self.fates.pop(0) if self.fates else Fate.FINE
        self.calls.append(name)

        def give(result: _T | Failure) -> None:
            if not answer.called:
                answer.errback(result) if isinstance(result, Failure) else answer.callback(result)

        def do() -> None:
            if fate is Fate.REFUSED:
                give(Failure(StoreAway("the store is away")))
                return
            done = self._ask_behind(ask)
            if fate is Fate.DOUBLED:
                done.addErrback(lambda _: None)
                done = self._ask_behind(ask)
            if fate is Fate.LATE:
                done.addBoth(lambda result: self._late.append(lambda: give(result)))
            elif fate is Fate.LOST:
                done.addBoth(lambda _: give(Failure(StoreAway("the answer is lost"))))
            elif fate is Fate.NEVER:
                done.addErrback(lambda _: None)
            else:
                done.addBoth(give)

        self._queue.append(do)
        return answer

    def _ask_behind(self, ask: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        outcome: Deferred[_T] = Deferred()
        done = ask()
        done.addBoth(outcome.callback)
        self._settle(done)
        return outcome

    def observe(self, callback: Callable[[bytes, EndReason], object]) -> None:
        self.behind.observe(callback)

    def start(self, slot: int) -> Deferred[None]:
        return self._ask("start", lambda: self.behind.start(slot))

    def stop(self) -> Deferred[None]:
        return self._ask("stop", self.behind.stop)

    def check(self) -> Deferred[list[str]]:
        return self._ask("check", self.behind.check)

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        return self._ask("load", lambda: self.behind.load(uid))

    def version(self, uid: bytes) -> Deferred[int | None]:
        return self._ask("version", lambda: self.behind.version(uid))

    def save(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        return self._ask("save", lambda: self.behind.save(record, nonce))

    def touch(self, uid: bytes) -> Deferred[bool]:
        return self._ask("touch", lambda: self.behind.touch(uid))

    def delete(self, uid: bytes) -> Deferred[bool]:
        return self._ask("delete", lambda: self.behind.delete(uid))

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        return self._ask("alias", lambda: self.behind.alias(old, version, new, seconds))

    def expire(self, limit: int) -> Deferred[bool]:
        return self._ask("expire", lambda: self.behind.expire(limit))

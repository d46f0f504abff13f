"""
What a worker still holds of a store that it has handed over to the next worker of its slot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed

from stickyd.errors import SessionMoved
from stickyd.sessions.answers import result_of
from stickyd.sessions.record import EndReason
from stickyd.sessions.stores.memory import MemorySessionStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.sessions.record import SessionRecord


class HeldOver:
    """
    Keeps a few sessions in memory, has the next worker store each change of them, and knows all
    others as moved.
    """

    def __init__(
        self,
        clock: IReactorTime,
        forward: Callable[[SessionRecord], Deferred[None]],
        tell: Callable[[bytes, EndReason], object],
    ) -> None:
        """
        :param forward: fires when the next worker has a record.
        :param tell: told of what ends.
        """
        self._memory = MemorySessionStore(clock)
        self._memory.observe(tell)
        self._forward = forward

    def keep(self, record: SessionRecord) -> None:
        """
        Keep a session.
        """
        self._memory.put(record)

    def records(self) -> list[SessionRecord]:
        """
        All that are kept.
        """
        return [found for batch in self._memory.enumerate(1_000) for found in result_of(batch)]

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        """
        As of a store; what is not here has moved.
        """
        return self._memory.load(uid).addCallback(_or_moved)

    def version(self, uid: bytes) -> Deferred[int | None]:
        """
        As of a store.
        """
        return self._memory.version(uid).addCallback(_or_moved)

    def save(self, record: SessionRecord, nonce: bytes) -> Deferred[SessionRecord]:
        """
        As of a store.
        """
        if record.version and result_of(self._memory.version(record.uid)) is None:
            return fail(SessionMoved("this session has moved to another worker"))
        return self._memory.save(record, nonce).addCallback(self._pass_on)

    def touch(self, uid: bytes) -> Deferred[bool]:
        """
        As of a store.
        """
        return self._memory.touch(uid)

    def delete(self, uid: bytes) -> Deferred[bool]:
        """
        As of a store.
        """
        record = result_of(self._memory.load(uid))
        if record is None:
            return succeed(False)
        result_of(self._memory.delete(uid))
        # It is over: what the next worker has of it is removed.
        over = replace(record, version=record.version + 1, touched=0.0, idle=1.0)
        return self._pass_on(over).addCallback(lambda _: True)

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        """
        As of a store.
        """
        return self._memory.alias(old, version, new, seconds).addCallback(self._pass_alias_on, old)

    def _pass_alias_on(self, found: bool, old: bytes) -> bool | Deferred[bool]:
        alias = self._memory.peek(old)
        if not found or alias is None:
            return False
        return self._pass_on(alias).addCallback(lambda _: True)

    def _pass_on(self, record: SessionRecord) -> Deferred[Any]:
        return self._forward(record).addCallback(lambda _: record)

    def expire(self, limit: int) -> Deferred[tuple[list[tuple[bytes, EndReason]], bool]]:
        """
        As of a file: what is over is told of already.
        """
        return self._memory.expire(limit).addCallback(lambda more: ([], more))

    def page(self, after: bytes, limit: int) -> Deferred[tuple[list[SessionRecord], bytes]]:
        """
        As of a file: all at once.
        """
        return succeed((self.records(), b""))

    def move(self, uid: bytes) -> Deferred[SessionRecord | None]:
        """
        As of a file.
        """
        return succeed(self._memory.take(uid))

    def moved(self, uid: bytes) -> Deferred[None]:
        """
        As of a store.
        """
        return succeed(None)

    def adopt(self, record: SessionRecord) -> Deferred[bool]:
        """
        As of a store: it came back.
        """
        return self._memory.adopt(record)


def _or_moved(found: Any) -> Any:
    if found is None:
        raise SessionMoved("this session has moved to another worker")
    return found

"""
What the tests that every session store must pass stand on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.task import Clock

from stickyd.sessions.answers import result_of
from stickyd.sessions.record import EndReason, SessionRecord, hidden_id, new_uid

if TYPE_CHECKING:
    from unittest import TestCase as _Case

    from twisted.internet.defer import Deferred

    from stickyd.sessions.interfaces import ISessionStore
else:
    # A mixin: it stands before a TestCase.
    _Case = object

_T = TypeVar("_T")

START = 1_700_000_000.0
"""
When each test begins, in seconds since 1970.
"""


class StoreHarness(ABC, _Case):
    """
    Stands before a ``TestCase``; the store's own tests write :meth:`make_store`, and
    override :meth:`settle` if the store's Deferreds fire later.

    :ivar clock: the store's clock.
    :ivar store: the store in the test.
    :ivar told: what the store told its observer, with the ids that the tests use.
    """

    @abstractmethod
    def make_store(self, clock: Clock) -> ISessionStore:
        """
        Make an empty store, with room for at least 100 sessions.  It is started and stopped by
        the suite.

        :param clock: tells the time, seconds since 1970; its timers are the store's.
        :return: the store.
        """

    def make_clock(self) -> Clock:
        """
        Make the clock; a store that needs more of a reactor than its time gets that.
        """
        return Clock()

    def settle(self, deferred: Deferred[_T]) -> _T:
        """
        Wait for a Deferred.

        :return: its result, or raises its error.
        """
        return result_of(deferred)

    def setUp(self) -> None:
        super().setUp()
        self.clock = self.make_clock()
        self.clock.advance(START)
        self.store = self.make_store(self.clock)
        self.told: list[tuple[bytes, EndReason]] = []
        self._uids: dict[bytes, bytes] = {}
        self.store.observe(lambda uid, reason: self.told.append((self.named(uid), reason)))
        self.settle(self.store.start(0))

    def tearDown(self) -> None:
        self.settle(self.store.stop())
        super().tearDown()

    def named(self, uid: bytes) -> bytes:
        """
        Tell the id that a test uses, of what a store may have told in its place.
        """
        return self._uids.get(hidden_id(uid), uid)

    def record(self, **fields: Any) -> SessionRecord:
        """
        Make a record of a session that was never stored.
        """
        plain = SessionRecord(
            uid=new_uid(),
            version=0,
            created=self.clock.seconds(),
            touched=self.clock.seconds(),
            idle=900.0,
            lifetime=inf,
        )
        record = replace(plain, **fields)
        self._uids[hidden_id(record.uid)] = record.uid
        return record

    def saved(self, **fields: Any) -> SessionRecord:
        """
        Store a new session.
        """
        return self.settle(self.store.save(self.record(**fields)))

    def load(self, record: SessionRecord) -> SessionRecord | None:
        """
        Look up what is stored of a session.
        """
        return self.settle(self.store.load(record.uid))

    def expire(self) -> None:
        """
        Have everything removed that is over.
        """
        for _ in range(1_000):
            if not self.settle(self.store.expire(10)):
                return
        self.fail("expire() says forever that there is more to do")

"""
What a session store of one worker alone must do besides, as tests.
"""

# ruff: noqa: PT009, PT027 -- shipped: it runs under unittest and trial too

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from stickyd.errors import SessionMoved
from stickyd.sessions.conformance import SessionStoreConformance
from stickyd.sessions.conformance_harness import START
from stickyd.sessions.interfaces import ICarriedStore
from stickyd.sessions.record import EndReason, new_uid

if TYPE_CHECKING:
    from twisted.internet.task import Clock

    from stickyd.sessions.record import SessionRecord


class CarriedStoreConformance(SessionStoreConformance):
    """
    All that :class:`stickyd.sessions.interfaces.ICarriedStore` promises.
    """

    store: ICarriedStore

    @abstractmethod
    def make_store(self, clock: Clock) -> ICarriedStore:
        """
        Make an empty store, as for all stores.
        """

    def walk(self, limit: int) -> list[list[SessionRecord]]:
        """
        Have all batches enumerated.

        :return: the records, with the ids that the tests use.
        """
        batches = [self.settle(batch) for batch in self.store.enumerate(limit)]
        return [
            [
                replace(found, uid=self.named(found.uid), alias=self.named(found.alias))
                for found in batch
            ]
            for batch in batches
        ]

    def test_carried_interface(self) -> None:
        """
        The store provides ICarriedStore.
        """
        self.assertTrue(verifyObject(ICarriedStore, self.store))

    def test_nothing_to_carry(self) -> None:
        """
        Of an id that was never stored, or is over, there is nothing to move.
        """
        self.assertIsNone(self.settle(self.store.move(new_uid())))
        over = self.saved(idle=10)
        self.clock.advance(10)
        self.assertIsNone(self.settle(self.store.move(over.uid)))
        self.assertEqual([found for batch in self.walk(10) for found in batch], [])

    def test_enumerate(self) -> None:
        """
        Batches are no larger than asked for, and together have every session.
        """
        records = {record.uid: record for record in (self.saved() for _ in range(25))}
        batches = self.walk(10)
        self.assertLessEqual(max(len(batch) for batch in batches), 10)
        self.assertEqual({found.uid: found for batch in batches for found in batch}, records)

    def test_enumerate_nothing(self) -> None:
        """
        An empty store gives no record.
        """
        self.assertEqual([found for batch in self.walk(10) for found in batch], [])

    def test_enumerate_while_changing(self) -> None:
        """
        A session that is there throughout comes even if it and others change meanwhile.
        """
        records = [self.saved() for _ in range(30)]
        seen = set()
        for number, batch in enumerate(self.store.enumerate(10)):
            seen |= {self.named(record.uid) for record in self.settle(batch)}
            for record in records[10 * number : 10 * number + 5]:
                self.settle(self.store.touch(record.uid))
            self.settle(self.store.delete(self.saved().uid))
        self.assertLessEqual({record.uid for record in records}, seen)

    def test_move(self) -> None:
        """
        move() gives the record as it stands, tells of it, and the session is known as moved.
        """
        record = self.saved(data=b'{"n":1}')
        self.clock.advance(5)
        self.settle(self.store.touch(record.uid))
        self.assertEqual(
            self.settle(self.store.move(record.uid)), replace(record, touched=START + 5)
        )
        self.assertEqual(self.told, [(record.uid, EndReason.MOVED)])
        with self.assertRaises(SessionMoved):
            self.load(record)
        with self.assertRaises(SessionMoved):
            self.settle(self.store.save(record))
        with self.assertRaises(SessionMoved):
            self.settle(self.store.save(replace(record, version=0)))
        self.assertIs(self.settle(self.store.touch(record.uid)), False)
        self.assertIs(self.settle(self.store.delete(record.uid)), False)
        self.assertIsNone(self.settle(self.store.move(record.uid)))
        self.assertEqual([found for batch in self.walk(10) for found in batch], [])
        self.settle(self.store.moved(record.uid))
        with self.assertRaises(SessionMoved):
            self.load(record)

    def test_moved_is_forgotten(self) -> None:
        """
        Once the session would be over, it is not even known as moved.
        """
        record = self.saved(idle=10)
        self.settle(self.store.move(record.uid))
        self.clock.advance(100)
        self.expire()
        self.assertIsNone(self.load(record))
        self.assertEqual(self.told, [(record.uid, EndReason.MOVED)])

    def test_adopt(self) -> None:
        """
        An adopted session has the id, version, times and data that it had.
        """
        record = self.record(
            version=7,
            created=START - 500,
            touched=START - 50,
            data=b'{"n":7}',
            key=b"k",
            secure=True,
        )
        self.assertIs(self.settle(self.store.adopt(record)), True)
        self.assertEqual(self.load(record), record)
        self.assertEqual(self.settle(self.store.save(record)).version, 8)

    def test_adopted_is_over_in_time(self) -> None:
        """
        The idle time of an adopted session counts from its last use, not from its arrival.
        """
        record = self.record(version=1, touched=START - 50, idle=60)
        self.settle(self.store.adopt(record))
        self.clock.advance(10)
        self.assertIsNone(self.load(record))

    def test_adopt_twice(self) -> None:
        """
        Adopting again changes nothing, and does not undo what was saved since.
        """
        record = self.record(version=3)
        self.settle(self.store.adopt(record))
        self.assertIs(self.settle(self.store.adopt(record)), False)
        saved = self.settle(self.store.save(replace(record, data=b'{"n":1}')))
        self.assertIs(self.settle(self.store.adopt(record)), False)
        self.assertEqual(self.load(record), saved)

    def test_adopt_later_version(self) -> None:
        """
        A later version replaces an earlier one.
        """
        record = self.saved()
        later = replace(record, version=5, data=b'{"n":5}')
        self.assertIs(self.settle(self.store.adopt(later)), True)
        self.assertEqual(self.load(record), later)

    def test_adopt_what_is_over(self) -> None:
        """
        A session that was over before it arrived is not taken in.
        """
        record = self.record(version=1, touched=START - 901)
        self.assertIs(self.settle(self.store.adopt(record)), False)
        self.assertIsNone(self.load(record))

    def test_adopt_what_was_removed(self) -> None:
        """
        A later version that is over stands for a session that was removed elsewhere; an
        earlier one changes nothing.
        """
        record = self.saved()
        self.settle(self.store.save(record))
        self.assertIs(self.settle(self.store.adopt(replace(record, touched=0.0))), False)
        self.assertIsNotNone(self.load(record))
        over = replace(record, version=3, touched=0.0)
        self.assertIs(self.settle(self.store.adopt(over)), False)
        self.assertIsNone(self.load(record))

    def test_there_and_back(self) -> None:
        """
        A session that moved away and came back is here as any other.
        """
        record = self.saved()
        moved = self.settle(self.store.move(record.uid))
        assert moved is not None
        self.assertIs(self.settle(self.store.adopt(replace(moved, version=2))), True)
        self.assertEqual(self.load(record), replace(record, version=2))
        self.assertIs(self.settle(self.store.delete(record.uid)), True)
        self.assertIsNone(self.load(record))

    def test_aliases_are_carried(self) -> None:
        """
        An alias comes with the sessions, and is an alias where it is taken in.
        """
        old, new = self.rotated()
        carried = {found.uid: found for batch in self.walk(10) for found in batch}
        self.assertEqual(set(carried), {old.uid, new.uid})
        self.assertEqual(carried[old.uid].alias, new.uid)
        for uid in carried:
            self.settle(self.store.move(uid))
        with self.assertRaises(SessionMoved):
            self.settle(self.store.load(old.uid))
        for found in carried.values():
            self.assertIs(self.settle(self.store.adopt(found)), True)
        self.assertEqual(self.found_by(old.uid), new.uid)
        self.clock.advance(10)
        self.assertIsNone(self.found_by(old.uid))

"""
What every session store must do, as tests.
"""

# ruff: noqa: PT009, PT027 -- shipped: it runs under unittest and trial too

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from zope.interface.verify import verifyObject

from stickyd.errors import NoSuchSession, SessionConflict
from stickyd.sessions.answers import result_of
from stickyd.sessions.conformance_harness import START, StoreHarness
from stickyd.sessions.interfaces import ISessionStore
from stickyd.sessions.record import KEY_LIMIT, EndReason, hidden_id, new_uid

if TYPE_CHECKING:
    from stickyd.sessions.record import SessionRecord


class SessionStoreConformance(StoreHarness):
    """
    All that :class:`stickyd.sessions.interfaces.ISessionStore` promises.  One whose sessions are
    carried has :class:`stickyd.sessions.conformance_carried.CarriedStoreConformance`.

    Stands before a ``TestCase``; the tests of a store write ``make_store``, and override
    ``settle`` if its Deferreds fire later::

        class TestMyStore(SessionStoreConformance, SynchronousTestCase):
            def make_store(self, clock):
                return MyStore(clock)
    """

    def test_interface(self) -> None:
        """
        The store provides ISessionStore.
        """
        self.assertTrue(verifyObject(ISessionStore, self.store))

    def test_immediate(self) -> None:
        """
        A store that says it is immediate has fired each Deferred that it returns.
        """
        if self.store.immediate:
            record = result_of(self.store.save(self.record()))
            self.assertEqual(result_of(self.store.load(record.uid)), record)

    def test_check(self) -> None:
        """
        check() gives lines to read.
        """
        for line in self.settle(self.store.check()):
            self.assertNotIn("\n", line)

    def test_unknown(self) -> None:
        """
        Of an id that was never stored there is nothing: not to load, touch, delete or alias.
        """
        uid = new_uid()
        self.assertIsNone(self.settle(self.store.load(uid)))
        self.assertIs(self.settle(self.store.touch(uid)), False)
        self.assertIs(self.settle(self.store.delete(uid)), False)
        self.assertIs(self.settle(self.store.alias(uid, 1, new_uid(), 10)), False)
        self.assertIsNone(self.settle(self.store.version(uid)))
        self.assertIsNone(self.load(self.record(uid=uid)))

    def test_save_and_load(self) -> None:
        """
        What is loaded is what was saved, in every field, with version 1.
        """
        record = self.record(
            idle=12.5,
            lifetime=1e6,
            data=b'{"a":[1,"\\u00e9",{"~b":"AA=="}]}',
            key=b"\0\xff",
            secure=True,
        )
        stored = self.settle(self.store.save(record))
        self.assertEqual(stored, replace(record, version=1))
        self.assertEqual(self.load(record), stored)

    def test_extremes(self) -> None:
        """
        No limit to the lifetime, the longest key and 200,000 bytes of data are kept as they are.
        """
        record = self.saved(
            idle=inf, lifetime=inf, key=b"\xff" * KEY_LIMIT, data=b'{"a":"%s"}' % (b"x" * 200_000)
        )
        self.assertEqual(self.load(record), record)

    def test_versions(self) -> None:
        """
        Each save gives the next version, and the last data stands.
        """
        first = self.saved(data=b'{"n":1}')
        second = self.settle(self.store.save(replace(first, data=b'{"n":2}')))
        self.assertEqual(second.version, 2)
        self.assertEqual(self.load(first), second)

    def test_conflict(self) -> None:
        """
        A save that starts from an older version, or a later one, fails and changes nothing.
        """
        first = self.saved()
        second = self.settle(self.store.save(replace(first, data=b'{"n":2}')))
        for version in (1, 3):
            with self.assertRaises(SessionConflict):
                self.settle(self.store.save(replace(first, version=version, data=b'{"n":3}')))
        self.assertEqual(self.load(first), second)

    def test_conflict_of_new_ones(self) -> None:
        """
        A session that was never stored cannot take the id of one that is.
        """
        first = self.saved()
        with self.assertRaises(SessionConflict):
            self.settle(self.store.save(replace(first, version=0, data=b'{"n":2}')))
        self.assertEqual(self.load(first), first)

    def test_one_of_two_writers_wins(self) -> None:
        """
        Of two saves from one version, called at once, the first stands and the second fails.
        """
        first = self.saved()
        one = self.store.save(replace(first, data=b'{"by":1}'))
        two = self.store.save(replace(first, data=b'{"by":2}'))
        self.assertEqual(self.settle(one).data, b'{"by":1}')
        with self.assertRaises(SessionConflict):
            self.settle(two)

    def test_order(self) -> None:
        """
        Operations on a session take effect in the order in which they were called.
        """
        record = self.record()
        saving = self.store.save(record)
        deleting = self.store.delete(record.uid)
        loading = self.store.load(record.uid)
        self.settle(saving)
        self.assertIs(self.settle(deleting), True)
        self.assertIsNone(self.settle(loading))

    def test_touch(self) -> None:
        """
        A touch sets the time of the last use, and neither version nor anything else.
        """
        record = self.saved()
        self.clock.advance(10)
        self.assertIs(self.settle(self.store.touch(record.uid)), True)
        self.assertEqual(self.load(record), replace(record, touched=START + 10))

    def test_load_is_no_use(self) -> None:
        """
        Loading does not put off the end of a session.
        """
        record = self.saved(idle=10)
        self.clock.advance(6)
        self.load(record)
        self.clock.advance(6)
        self.assertIsNone(self.load(record))

    def test_touched_never_goes_back(self) -> None:
        """
        A save with an older time of the last use keeps the later one, and takes a later one.
        """
        record = self.saved()
        self.clock.advance(10)
        self.settle(self.store.touch(record.uid))
        stored = self.settle(self.store.save(record))
        self.assertEqual(stored.touched, START + 10)
        stored = self.settle(self.store.save(replace(stored, touched=START + 11)))
        self.assertEqual(stored.touched, START + 11)
        self.assertEqual(self.load(record), stored)

    def test_idle(self) -> None:
        """
        A session is over when it was not used for its idle time, and not before.
        """
        record = self.saved(idle=10)
        self.clock.advance(9.5)
        self.settle(self.store.touch(record.uid))
        self.clock.advance(9.5)
        self.assertIsNotNone(self.load(record))
        self.clock.advance(0.5)
        self.assertIsNone(self.load(record))

    def test_lifetime(self) -> None:
        """
        A session is over at the end of its lifetime, however much it is used.
        """
        record = self.saved(idle=10, lifetime=20)
        for _ in range(3):
            self.clock.advance(6)
            self.assertIs(self.settle(self.store.touch(record.uid)), True)
        self.clock.advance(2)
        self.assertIs(self.settle(self.store.touch(record.uid)), False)
        self.assertIsNone(self.load(record))

    def test_new_expiry(self) -> None:
        """
        A save can change the idle time, to both sides.
        """
        longer = self.saved(idle=10)
        shorter = self.saved(idle=10)
        self.settle(self.store.save(replace(longer, idle=100)))
        self.settle(self.store.save(replace(shorter, idle=1)))
        self.clock.advance(5)
        self.assertIsNone(self.load(shorter))
        self.clock.advance(50)
        self.expire()
        self.assertIsNotNone(self.load(longer))

    def test_over_is_gone(self) -> None:
        """
        One that is over is not seen by anything, before any expire().
        """
        record = self.saved(idle=10)
        self.clock.advance(10)
        self.assertIs(self.settle(self.store.touch(record.uid)), False)
        self.assertIsNone(self.settle(self.store.version(record.uid)))
        self.assertIs(self.settle(self.store.alias(record.uid, 1, new_uid(), 10)), False)
        self.assertIs(self.settle(self.store.delete(record.uid)), False)
        with self.assertRaises(NoSuchSession):
            self.settle(self.store.save(record))
        self.assertIsNone(self.load(record))

    def test_expire(self) -> None:
        """
        expire() removes all that is over, tells of each once, and leaves the rest.
        """
        over = [self.saved(idle=10) for _ in range(25)]
        kept = self.saved(idle=1_000)
        self.clock.advance(100)
        self.expire()
        self.expire()
        self.assertEqual(
            sorted(self.told), sorted((record.uid, EndReason.EXPIRED) for record in over)
        )
        self.assertEqual(self.load(kept), kept)

    def test_expire_looks_again(self) -> None:
        """
        A session that was used since is left by expire(), and found by it when it is over.
        """
        record = self.saved(idle=100)
        self.clock.advance(90)
        self.settle(self.store.touch(record.uid))
        self.clock.advance(90)
        self.expire()
        self.assertEqual(self.told, [])
        self.clock.advance(100)
        self.expire()
        self.assertEqual(self.told, [(record.uid, EndReason.EXPIRED)])

    def test_delete(self) -> None:
        """
        A deleted session is gone, cannot be saved again from what was loaded, and the observer
        is not told.
        """
        record = self.saved()
        self.assertIs(self.settle(self.store.delete(record.uid)), True)
        self.assertIsNone(self.load(record))
        with self.assertRaises(NoSuchSession):
            self.settle(self.store.save(record))
        self.assertIs(self.settle(self.store.delete(record.uid)), False)
        self.clock.advance(10_000)
        self.expire()
        self.assertEqual(self.told, [])

    def test_hidden_id(self) -> None:
        """
        What looks like a hash is an id as any other, and nobody's session; where the store says
        the hash for an id, it is taken for that too.
        """
        record = self.saved()
        self.assertIsNone(self.settle(self.store.load(bytes(hidden_id(record.uid)))))
        self.assertIs(self.settle(self.store.delete(bytes(hidden_id(record.uid)))), False)
        self.assertEqual(self.load(record), record)

    def test_version(self) -> None:
        """
        version() is what a load would tell, and no use of the session.
        """
        record = self.saved(idle=10)
        self.assertEqual(self.settle(self.store.version(record.uid)), 1)
        self.settle(self.store.save(record))
        self.clock.advance(9)
        self.assertEqual(self.settle(self.store.version(record.uid)), 2)
        self.clock.advance(1)
        self.assertIsNone(self.settle(self.store.version(record.uid)))

    def test_save_again(self) -> None:
        """
        A write that is repeated, as its answer was lost, is done; be it of a new session or not.
        """
        new = self.record(data=b'{"n":1}')
        first = self.settle(self.store.save(new, b"one"))
        self.assertEqual(self.settle(self.store.save(new, b"one")), first)
        change = replace(first, data=b'{"n":2}')
        second = self.settle(self.store.save(change, b"two"))
        self.assertEqual(self.settle(self.store.save(change, b"two")), second)
        self.assertEqual((second.version, self.load(new)), (2, second))

    def test_save_again_in_vain(self) -> None:
        """
        A write that is no repetition is a conflict: with another nonce, with none, or after
        one more write.
        """
        new = self.record(data=b'{"n":1}')
        first = self.settle(self.store.save(new, b"one"))
        for nonce in (b"other", b""):
            with self.assertRaises(SessionConflict):
                self.settle(self.store.save(new, nonce))
        second = self.settle(self.store.save(replace(first, data=b'{"n":2}')))
        for repeated, nonce in ((new, b"one"), (first, b"")):
            with self.assertRaises(SessionConflict):
                self.settle(self.store.save(repeated, nonce))
        self.assertEqual(self.load(new), second)

    def test_save_again_after_the_end(self) -> None:
        """
        A write that is repeated after a delete brings nothing back.
        """
        first = self.saved()
        change = replace(first, data=b'{"n":2}')
        self.settle(self.store.save(change, b"two"))
        self.settle(self.store.delete(first.uid))
        with self.assertRaises(NoSuchSession):
            self.settle(self.store.save(change, b"two"))
        self.assertIsNone(self.load(first))

    def rotated(self, seconds: float = 10.0, **fields: Any) -> tuple[SessionRecord, SessionRecord]:
        """
        Give a session another id.

        :return: its records, by the old one and the new one.
        """
        old = self.saved(**fields)
        new = self.saved(**fields, data=b'{"n":2}')
        found = self.settle(self.store.alias(old.uid, old.version, new.uid, seconds))
        self.assertIs(found, True)
        return old, new

    def found_by(self, uid: bytes) -> bytes | None:
        """
        Tell the id of the session that is found by an id.
        """
        found = self.settle(self.store.load(uid))
        return None if found is None else self.named(found.uid)

    def test_alias(self) -> None:
        """
        For a while the old id finds the session by its new one, and afterwards nothing.
        """
        old, new = self.rotated()
        found = self.settle(self.store.load(old.uid))
        assert found is not None
        self.assertEqual(replace(found, uid=self.named(found.uid)), new)
        self.assertIsNone(self.settle(self.store.version(old.uid)))
        self.assertIs(self.settle(self.store.touch(old.uid)), False)
        self.clock.advance(9.5)
        self.assertEqual(self.found_by(old.uid), new.uid)
        self.clock.advance(0.5)
        self.assertIsNone(self.found_by(old.uid))
        self.assertEqual(self.load(new), new)
        self.expire()
        self.assertEqual(self.load(new), new)

    def test_alias_cannot_be_written(self) -> None:
        """
        Who has loaded a session under its old id finds out that it has another; and nobody makes
        one of that id.
        """
        old, new = self.rotated()
        for version in (0, 1, 2):
            with self.assertRaises(SessionConflict):
                self.settle(self.store.save(replace(old, version=version)))
        self.assertEqual(self.load(new), new)
        self.clock.advance(10)
        with self.assertRaises(NoSuchSession):
            self.settle(self.store.save(old))

    def test_alias_again(self) -> None:
        """
        It may be said twice; but not of a session that was written meanwhile, nor for another.
        """
        old, new = self.rotated()
        self.assertIs(self.settle(self.store.alias(old.uid, 1, new.uid, 10)), True)
        with self.assertRaises(SessionConflict):
            self.settle(self.store.alias(old.uid, 1, new_uid(), 10))
        written = self.settle(self.store.save(self.saved()))
        with self.assertRaises(SessionConflict):
            self.settle(self.store.alias(written.uid, 1, new.uid, 10))
        self.assertEqual(self.load(written), written)

    def test_alias_of_an_alias(self) -> None:
        """
        After two rotations in a row the first id finds the session too.
        """
        first, second = self.rotated()
        third = self.saved()
        self.settle(self.store.alias(second.uid, second.version, third.uid, 10))
        self.assertEqual(self.found_by(first.uid), third.uid)

    def test_logout_by_an_alias(self) -> None:
        """
        A delete by the old id ends the session: who has logged out is logged out.
        """
        old, new = self.rotated()
        self.assertIs(self.settle(self.store.delete(old.uid)), True)
        self.assertIsNone(self.load(new))
        self.assertIsNone(self.found_by(old.uid))

    def test_alias_of_what_is_gone(self) -> None:
        """
        The old id finds nothing when the session has ended.
        """
        old, new = self.rotated()
        self.settle(self.store.delete(new.uid))
        self.assertIsNone(self.found_by(old.uid))

"""
How often a store is asked: what is kept here costs no round trip, and each change costs one.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from stickyd.errors import StoreAway
from stickyd.sessions.answers import result_of
from stickyd.sessions.cache import CacheMode, CachePolicy
from stickyd.sessions.loads import COMPARE_SECONDS
from stickyd.sessions.record import EndReason, SessionExpiry
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from tests.sessions.faulty import Fate, FaultyStore

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from stickyd.sessions.live import LiveSession

START = 1_700_000_000.0


class World:
    """
    A registry over a store that others use too.
    """

    def __init__(self, mode: CacheMode = CacheMode.TRUST, **policy: int) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.behind = MemorySessionStore(self.clock)
        self.store = FaultyStore(self.behind)
        expiry = SessionExpiry(idle=900)
        cache = CachePolicy(mode, **policy)
        self.registry = SessionRegistry(
            self.store, self.clock, expiry=expiry, cache=cache, sweep=1e9
        )

    def saved(self, n: int = 1) -> bytes:
        """
        Make a session.

        :return: its id; nobody uses it.
        """
        live = self.registry.create()
        live.data["n"] = n
        self.settle(live.save())
        self.store.calls.clear()
        return live.uid

    def settle(self, deferred: Deferred[None]) -> None:
        """
        Wait for something.
        """
        self.store.run()
        result_of(deferred)

    def load(self, uid: bytes, trusted: bool = True) -> LiveSession | None:
        """
        Load a session.
        """
        loading = self.registry.load(uid, trusted)
        self.store.run()
        return result_of(loading)

    def write_elsewhere(self, uid: bytes, n: int) -> None:
        """
        Have somebody else write it.
        """
        record = result_of(self.behind.load(uid))
        assert record is not None
        result_of(self.behind.save(replace(record, data=b'{"n":%d}' % n)))


def test_cached_read_costs_nothing_and_a_change_one() -> None:
    """
    A client of this worker reads without a round trip, and changes by one.
    """
    world = World()
    uid = world.saved()
    for number in range(2, 5):
        live = world.load(uid)
        assert live is not None
        assert world.store.calls == []
        live.data["n"] = number
        world.settle(live.save())
        assert world.store.calls == ["save"]
        world.store.calls.clear()


def test_who_is_not_known_to_belong_here_has_the_version_compared() -> None:
    """
    Without a token the copy is used only if nobody else has written the session.
    """
    world = World()
    uid = world.saved()
    assert world.load(uid, trusted=False) is not None
    assert world.store.calls == ["version"]
    world.write_elsewhere(uid, 7)
    live = world.load(uid, trusted=False)
    assert live is not None
    assert live.data["n"] == 7
    assert world.store.calls == ["version", "version", "load"]


def test_after_a_change_of_places_copies_are_compared_once() -> None:
    """
    A client that comes back from another worker finds what that has written.
    """
    world = World()
    uid = world.saved()
    world.registry.distrust()
    world.write_elsewhere(uid, 7)
    live = world.load(uid)
    assert live is not None
    assert live.data["n"] == 7
    world.store.calls.clear()
    world.load(uid)
    assert world.store.calls == []


@pytest.mark.parametrize(
    ("mode", "calls"), [(CacheMode.VERIFY, ["version"]), (CacheMode.OFF, ["load"])]
)
def test_modes(mode: CacheMode, calls: list[str]) -> None:
    """
    An operator can have each copy compared, or none kept.
    """
    world = World(mode)
    uid = world.saved()
    assert world.load(uid) is not None
    assert world.store.calls == calls


def test_one_load_for_all_who_ask() -> None:
    """
    Requests that ask at the same time share the question.
    """
    world = World()
    uid = world.saved()
    world.registry.gone(uid, EndReason.SUPERSEDED)
    loading = [world.registry.load(uid) for _ in range(8)]
    world.store.run()
    found = {id(result_of(each)) for each in loading}
    assert len(found) == 1
    assert world.store.calls == ["load"]


def test_touch_is_throttled() -> None:
    """
    The store is told of a use once in a minute, or in a tenth of the idle time.
    """
    world = World()
    uid = world.saved()
    for _ in range(100):
        world.clock.advance(2)
        assert world.load(uid) is not None
    assert world.store.calls == ["touch"] * 3
    record = result_of(world.behind.load(uid))
    assert record is not None
    assert record.touched >= START + 180


def test_over() -> None:
    """
    A copy that is over is looked up again: somebody else may have used it, or it has ended.
    """
    world = World()
    uid = world.saved()
    world.clock.advance(800)
    result_of(world.behind.touch(uid))
    world.clock.advance(200)
    assert world.load(uid) is not None
    world.clock.advance(900)
    assert world.load(uid) is None


def test_ended_elsewhere() -> None:
    """
    Who has logged out at another worker is logged out here, at the next question.
    """
    world = World()
    uid = world.saved()
    live = world.load(uid)
    assert live is not None
    result_of(world.behind.delete(uid))
    assert world.load(uid, trusted=False) is None
    assert live.ended is EndReason.DELETED


def test_copies_are_bounded() -> None:
    """
    The copy that was not used for the longest time makes room.
    """
    world = World(max_count=2)
    first, second = world.saved(), world.saved()
    world.load(first)
    world.saved()
    world.load(first)
    assert world.store.calls == []
    gc.collect()
    world.load(second)
    assert world.store.calls == ["load"]
    small = World(max_bytes=5_000)
    large = small.registry.create()
    large.data["n"] = "x" * 4_000
    small.settle(large.save())
    uid = large.uid
    del large
    gc.collect()
    small.store.calls.clear()
    small.load(uid)
    assert small.store.calls == ["load"]


def test_grace() -> None:
    """
    While the store is away a copy is used that is young enough; be it that the store says so, or
    nothing.
    """
    world = World(grace_seconds=10)
    uid = world.saved()
    world.store.fates = [Fate.REFUSED]
    assert world.load(uid, trusted=False) is not None
    world.store.fates = [Fate.NEVER]
    loading = world.registry.load(uid)
    world.store.run()
    assert not loading.called
    world.clock.advance(COMPARE_SECONDS)
    assert result_of(loading) is not None
    world.clock.advance(30)
    world.store.fates = [Fate.REFUSED]
    with capturedLogs(), pytest.raises(StoreAway):
        world.load(uid, trusted=False)

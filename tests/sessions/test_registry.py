"""
Tests of the registry and of sessions in use.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import LogEvent

from stickyd.errors import (
    NoSuchSession,
    NotCarriable,
    SessionConflict,
    SessionTooLarge,
)
from stickyd.sessions.answers import result_of
from stickyd.sessions.record import KEY_LIMIT, EndReason, SessionExpiry
from tests.sessions.worlds import START, LateWorld, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.sessions.live import LiveSession


def test_create() -> None:
    """
    A new session has a random id of 128 bits, now as its times, and the expiry that is set.
    """
    world = World(expiry=SessionExpiry(idle=60, lifetime=600))
    one = world.registry.create(key=b"k", secure=True)
    two = world.registry.create()
    assert len(bytes.fromhex(one.uid.decode())) == 16
    assert one.uid != two.uid
    assert (one.version, one.touched, one.idle) == (0, START, 60)
    assert (one.key, one.secure, two.key, two.secure) == (b"k", True, b"", False)
    result_of(one.save())
    record = result_of(world.store.load(one.uid))
    assert record is not None
    assert (record.created, record.lifetime, record.version) == (START, 600, 1)


def test_not_stored_before_save() -> None:
    """
    A session that was not saved is not in the store.
    """
    world = World()
    live = world.registry.create()
    assert result_of(world.store.load(live.uid)) is None
    result_of(live.save())
    assert result_of(world.store.load(live.uid)) is not None


def test_long_key_is_cut() -> None:
    """
    Of a key that is too long to be carried, the beginning is kept.
    """
    live = World().registry.create(key=b"x" * (KEY_LIMIT + 1))
    assert len(live.key) == KEY_LIMIT
    live.key = b"y" * (KEY_LIMIT + 1)
    assert live.key == b"y" * KEY_LIMIT


def test_load_shares_what_is_in_use() -> None:
    """
    Two who use one session at the same time share one object, so neither overwrites the other.
    """
    world = World()
    live = world.saved(n=1)
    again = result_of(world.registry.load(live.uid))
    assert again is live


def test_load_from_the_store() -> None:
    """
    A session that nobody uses is not kept in use, and is read from the store.
    """
    world = World()
    uid = world.saved(n=[1]).uid
    gc.collect()
    with pytest.raises(NoSuchSession):
        world.registry.in_use(uid)
    world.clock.advance(5)
    live = result_of(world.registry.load(uid))
    assert live is not None
    assert dict(live.data) == {"n": [1]}
    assert world.registry.in_use(uid) is live
    record = result_of(world.store.load(uid))
    assert record is not None
    assert record.touched == START + 5


def test_load_unknown() -> None:
    """
    There is nothing for an id that nobody made, and no session comes to be by asking for it.
    """
    world = World()
    assert result_of(world.registry.load(b"f" * 32)) is None
    assert len(world.store) == 0


def test_save_only_what_changed() -> None:
    """
    A save without a change writes nothing; with one, a new version.
    """
    world = World()
    live = world.saved(n=1)
    result_of(live.save())
    assert live.version == 1
    live.data["n"] = 2
    result_of(live.save())
    assert live.version == 2
    live.idle = 5
    result_of(live.save())
    live.key = b"k"
    result_of(live.save())
    live.key = b"k"
    result_of(live.save())
    assert live.version == 4
    record = result_of(world.store.load(live.uid))
    assert record is not None
    assert (record.idle, record.key, record.data) == (5, b"k", b'{"n":2}')


def test_idle_must_be_positive() -> None:
    """
    A session cannot be over at once by its idle time, nor by a registry's expiry.
    """
    live = World().registry.create()
    with pytest.raises(ValueError, match="more than 0 seconds, not 0"):
        live.idle = 0
    with pytest.raises(ValueError, match="lifetime must be more than 0 seconds, not -1"):
        SessionExpiry(lifetime=-1)
    with pytest.raises(ValueError, match="idle must be more than 0 seconds, not nan"):
        SessionExpiry(idle=inf - inf)


def test_await() -> None:
    """
    The registry is used as its description shows, with await.
    """
    world = World()

    async def visit(uid: bytes) -> LiveSession:
        session = await world.registry.load(uid) or world.registry.create()
        session.data["hits"] = session.data.get("hits", 0) + 1
        await session.save()
        return session

    first = result_of(Deferred.fromCoroutine(visit(b"planted")))
    assert first.uid != b"planted"
    second = result_of(ensureDeferred(visit(first.uid)))
    assert second is first
    assert dict(second.data) == {"hits": 2}


def test_refused_at_save() -> None:
    """
    What cannot be carried fails the save, and the data is what was last saved.
    """
    world = World(max_data=40)
    live = world.saved(x=[1])
    live.data["x"].append(object())
    with pytest.raises(NotCarriable):
        result_of(live.save())
    assert dict(live.data) == {"x": [1]}
    live.data["x"].extend(range(100))
    with pytest.raises(SessionTooLarge):
        result_of(live.save())
    assert dict(live.data) == {"x": [1]}
    result_of(live.save())
    assert live.version == 1


def test_too_large_for_registry() -> None:
    """
    The registry's bound of a session's data holds where a value is stored.
    """
    with pytest.raises(SessionTooLarge, match="40 are allowed"):
        World(max_data=40).registry.create().data["x"] = "a" * 100


def test_conflict() -> None:
    """
    When somebody else has written the session, the save fails, and loading gives theirs.
    """
    world = World()
    live = world.saved(n=1)
    ends: list[EndReason] = []
    live.call_when_gone(ends.append)
    record = result_of(world.store.load(live.uid))
    assert record is not None
    result_of(world.store.save(replace(record, data=b'{"n":9}')))
    live.data["n"] = 2
    with pytest.raises(SessionConflict):
        result_of(live.save())
    assert ends == [EndReason.SUPERSEDED]
    live.data["n"] = 3
    with pytest.raises(SessionConflict, match="load it again"):
        result_of(live.save())
    again = result_of(world.registry.load(live.uid))
    assert again is not None
    assert again is not live
    assert dict(again.data) == {"n": 9}


def test_delete() -> None:
    """
    A deleted session is gone from the store and from use; saving changes to it fails.
    """
    world = World()
    live = world.saved(n=1)
    ends: list[EndReason] = []
    live.call_when_gone(ends.append)
    result_of(live.delete())
    result_of(live.delete())
    assert ends == [EndReason.DELETED]
    assert result_of(world.registry.load(live.uid)) is None
    result_of(live.save())
    live.data["n"] = 2
    with pytest.raises(NoSuchSession, match=r"^this session has ended$"):
        result_of(live.save())


def test_expiry_while_in_use() -> None:
    """
    A session that is in use and over is not given out again, and its users are told.
    """
    world = World(expiry=SessionExpiry(idle=10))
    live = world.saved()
    ends: list[EndReason] = []
    live.call_when_gone(ends.append)
    world.clock.advance(10)
    assert result_of(world.registry.load(live.uid)) is None
    assert ends == [EndReason.EXPIRED]
    assert live.ended is EndReason.EXPIRED


def test_sweep() -> None:
    """
    What is over is removed by one timer, which goes on, and which stop() ends.
    """
    world = World(expiry=SessionExpiry(idle=10), sweep=30)
    for _ in range(3):
        world.saved()
    assert len(world.clock.getDelayedCalls()) == 1
    world.clock.advance(30)
    assert (len(world.store), world.store.expired) == (0, 3)
    world.saved()
    world.clock.pump([30])
    assert world.store.expired == 4
    world.registry.stop()
    world.registry.stop()
    world.saved()
    assert world.clock.getDelayedCalls() == []


def test_sweep_in_slices() -> None:
    """
    Many sessions that are over at once are removed in several turns of the reactor.
    """
    world = LateWorld()
    for _ in range(1_500):
        world.saved()
    world.clock.advance(1_000)
    expired = []
    while world.store.run(1):
        expired.append(world.store.behind.expired)
        world.clock.advance(0)
    assert expired == [1_000, 1_500]


def test_sweep_survives_the_store(logged: Sequence[LogEvent]) -> None:
    """
    A store that fails once is asked again at the next sweep.
    """
    world = LateWorld()
    world.saved()
    world.store.broken = OSError("down")
    world.clock.advance(30)
    world.store.run()
    assert "the search for sessions that are over has failed" in logged[-1]["log_format"]
    world.store.broken = None
    world.clock.advance(1_000)
    world.store.run()
    assert world.store.behind.expired == 1


def test_stop_during_a_sweep() -> None:
    """
    A sweep that is under way when the registry stops is the last.
    """
    world = LateWorld()
    world.saved()
    world.clock.advance(30)
    world.registry.stop()
    world.store.run()
    assert world.clock.getDelayedCalls() == []


def test_regenerate() -> None:
    """
    A new id makes the old one unknown soon, and the session stays the same object with its data.
    """
    world = World()
    live = world.saved(n=[1])
    old = live.uid
    live.data["n"].append(2)
    result_of(live.regenerate(former_id_seconds=5))
    assert live.uid != old
    assert live.version == 1
    assert result_of(world.registry.load(old)) is live
    world.clock.advance(5)
    assert result_of(world.registry.load(old)) is None
    assert result_of(world.registry.load(live.uid)) is live
    record = result_of(world.store.load(live.uid))
    assert record is not None
    assert (record.data, record.created) == (b'{"n":[1,2]}', START)


def test_regenerate_at_once() -> None:
    """
    Without a time for the old id it is unknown from the first moment.
    """
    world = World()
    live = world.saved(n=1)
    old = live.uid
    result_of(live.regenerate(former_id_seconds=0))
    assert result_of(world.registry.load(old)) is None
    assert len(world.store) == 1


def test_own_id_that_looks_like_a_hash() -> None:
    """
    An application cannot choose an id that stands for another.
    """
    with pytest.raises(ValueError, match="cannot begin with sha256:"):
        World().registry.create(uid=b"sha256:1")


def test_regenerate_refused() -> None:
    """
    Data that cannot be carried keeps the session from getting a new id; so does its end.
    """
    world = World()
    live = world.saved(n=[])
    old = live.uid
    live.data["n"].append(object())
    with pytest.raises(NotCarriable):
        result_of(live.regenerate())
    assert live.uid == old
    assert result_of(world.store.load(old)) is not None
    result_of(live.delete())
    with pytest.raises(NoSuchSession):
        result_of(live.regenerate())


def test_callback_that_fails(logged: Sequence[LogEvent]) -> None:
    """
    A callback that raises keeps no other from being called.
    """
    world = World()
    live = world.saved()
    ends: list[EndReason] = []
    live.call_when_gone(lambda reason: 1 / 0)
    live.call_when_gone(ends.append)
    result_of(live.delete())
    assert ends == [EndReason.DELETED]
    assert "a callback at the session's end has failed" in logged[-1]["log_format"]


def test_hold_and_release() -> None:
    """
    when_released() waits for the last of those who hold the session.
    """
    world = World()
    live = world.saved()
    free = world.saved()
    assert live.when_released().called
    live.hold()
    live.hold()
    assert world.registry.busy() == [live]
    assert world.registry.busy(lambda session: session is free) == []
    waiting = live.when_released()
    live.release()
    assert not waiting.called
    live.release()
    assert result_of(waiting) is None
    assert world.registry.busy() == []

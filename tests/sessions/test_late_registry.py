"""
The registry of sessions before a store that answers later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from stickyd.errors import (
    NoSuchSession,
    SessionConflict,
    SessionMoved,
    StoreAway,
)
from stickyd.sessions.answers import result_of
from stickyd.sessions.record import EndReason
from tests.sessions.test_late import LateCarriedStore
from tests.sessions.worlds import LateWorld

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.sessions.live import LiveSession


def test_late_saves_are_one_after_the_other() -> None:
    """
    While the store writes, all further saves wait, and share the next write.
    """
    world = LateWorld()
    live = world.saved()
    live.data["n"] = 1
    first = live.save()
    live.data["n"] = 2
    second = live.save()
    live.data["n"] = 3
    third = live.save()
    assert world.store.run(1) == 1
    assert (first.called, second.called, third.called) == (True, False, False)
    assert world.store.run() == 1
    assert [result_of(each) for each in (first, second, third)] == [None] * 3
    assert live.version == 3
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    assert record.data == b'{"n":3}'


def test_late_conflict_fails_all_who_wait() -> None:
    """
    If somebody else has written meanwhile, each save that has changes fails.
    """
    world = LateWorld()
    live = world.saved()
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    result_of(world.store.behind.save(record))
    live.data["n"] = 1
    first = live.save()
    live.data["n"] = 2
    second = live.save()
    world.store.run()
    for saving in (first, second):
        with pytest.raises(SessionConflict):
            result_of(saving)


def test_late_error_can_be_tried_again() -> None:
    """
    After an error of the store's, the same changes are saved by the next save.
    """
    world = LateWorld()
    live = world.saved(a=1)
    live.data["n"] = 1
    live.idle = 5
    world.store.broken = OSError("down")
    failing = live.save()
    world.store.run()
    with pytest.raises(OSError, match="down"):
        result_of(failing)
    assert live.unsaved
    world.store.broken = None
    saving = live.save()
    world.store.run()
    result_of(saving)
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    assert (record.data, record.idle) == (b'{"a":1,"n":1}', 5)


def test_late_session_gone_meanwhile() -> None:
    """
    A session that another worker has deleted, or moved, has ended here at the next save.
    """
    world = LateWorld()
    for end, reason, error in (
        (world.store.behind.delete, EndReason.EXPIRED, NoSuchSession),
        (world.store.behind.move, EndReason.MOVED, SessionMoved),
    ):
        live = world.saved()
        live.data["n"] = 1
        end(live.uid)
        saving = live.save()
        world.store.run()
        with pytest.raises(error):
            result_of(saving)
        assert live.ended is reason


def test_late_load_takes_what_others_wrote() -> None:
    """
    With a store that others write too, a load shows their changes, but not in the middle of
    somebody's work.
    """
    world = LateWorld()
    live = world.saved(n=1)
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    result_of(world.store.behind.save(replace(record, data=b'{"n":9}')))
    live.hold()
    assert result_of(world.registry.load(live.uid)) is live
    world.store.run()
    assert dict(live.data) == {"n": 1}
    live.release()
    loading = world.registry.load(live.uid)
    world.store.run()
    assert result_of(loading) is live
    assert dict(live.data) == {"n": 9}
    assert live.version == 2


def test_late_touch_that_fails(logged: Sequence[LogEvent]) -> None:
    """
    A use that cannot be noted is logged, and no more.
    """
    world = LateWorld()
    live = world.saved()
    world.store.broken = OSError("down")
    world.clock.advance(100)
    live.touch()
    world.store.run()
    assert "its use could not be noted" in logged[-1]["log_format"]


def test_late_amendment_during_a_save() -> None:
    """
    What is set while the store writes is not lost when it has written.
    """
    world = LateWorld()
    live = world.saved()
    live.data["n"] = 1
    saving = live.save()
    live.idle = 7
    world.store.run()
    result_of(saving)
    assert live.idle == 7
    again = live.save()
    world.store.run()
    result_of(again)
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    assert (record.idle, record.version, record.data) == (7, 3, b'{"n":1}')


def test_late_regenerate_during_a_save() -> None:
    """
    A new id given while the store writes gets the data that was being written.
    """
    world = LateWorld()
    live = world.saved()
    old = live.uid
    live.data["n"] = 1
    saving = live.save()
    renaming = live.regenerate()
    loading = world.registry.load(old)
    world.store.run()
    result_of(saving)
    result_of(renaming)
    assert result_of(loading) is live
    found = result_of(world.store.behind.load(old))
    assert found is not None
    assert found.uid == live.uid
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    assert (record.data, record.version, live.version) == (b'{"n":1}', 1, 1)


def test_late_logout_during_a_rotation() -> None:
    """
    A session that another worker ends while it gets a new id has ended under that too.
    """
    world = LateWorld()
    live = world.saved(n=1)
    old = live.uid
    renaming = live.regenerate()
    result_of(world.store.behind.delete(old))
    world.store.run()
    result_of(renaming)
    assert live.ended is EndReason.DELETED
    assert len(world.store.behind) == 0


def test_late_write_during_a_rotation() -> None:
    """
    What another worker writes under the old id meanwhile is not lost: the rotation fails.
    """
    world = LateWorld()
    live = world.saved(n=1)
    old = live.uid
    record = result_of(world.store.behind.load(old))
    assert record is not None
    renaming = live.regenerate()
    result_of(world.store.behind.save(replace(record, data=b'{"n":9}')))
    world.store.run()
    with pytest.raises(SessionConflict):
        result_of(renaming)
    assert live.ended is EndReason.SUPERSEDED
    again = result_of(world.store.behind.load(old))
    assert again is not None
    assert again.data == b'{"n":9}'
    assert len(world.store.behind) == 1


def test_late_lost_answer() -> None:
    """
    A write whose answer was lost is found done when it is tried again, and what has changed
    meanwhile is written after it.
    """
    world = LateWorld()
    live = world.saved(n=1)
    live.data["n"] = 2
    world.store.lost = StoreAway("down")
    failing = live.save()
    world.store.run()
    with pytest.raises(StoreAway):
        result_of(failing)
    world.store.lost = None
    again = live.save()
    world.store.run()
    result_of(again)
    assert live.version == 2
    live.data["n"] = 3
    world.store.lost = StoreAway("down")
    failing = live.save()
    world.store.run()
    with pytest.raises(StoreAway):
        result_of(failing)
    world.store.lost = None
    live.idle = 7
    live.data["n"] = 4
    again = live.save()
    world.store.run()
    result_of(again)
    record = result_of(world.store.behind.load(live.uid))
    assert record is not None
    assert (record.version, record.data, record.idle) == (4, b'{"n":4}', 7)
    assert not live.unsaved


def test_late_regenerate_that_fails() -> None:
    """
    If the new id cannot be stored, the session is out of use, and the old id is as it was.
    """
    world = LateWorld()
    live = world.saved(n=1)
    old = live.uid
    world.store.broken = OSError("down")
    renaming = live.regenerate()
    world.store.run()
    with pytest.raises(OSError, match="down"):
        result_of(renaming)
    assert live.ended is EndReason.SUPERSEDED
    record = result_of(world.store.behind.load(old))
    assert record is not None
    assert record.data == b'{"n":1}'


def test_not_local_after_all() -> None:
    """
    A Deferred that has not fired is not taken for an answer.
    """
    with pytest.raises(RuntimeError, match="has not answered at once"):
        result_of(Deferred())


def test_late_session_that_is_asked_for_does_not_leave() -> None:
    """
    Whoever has asked for a session before it was to be carried gets it, and may write it.
    """
    world = LateWorld(LateCarriedStore)
    uid = world.saved(n=1).uid
    sent: list[bytes] = []

    async def send(chunk: bytes) -> None:
        sent.append(chunk)

    def take(live: LiveSession | None) -> LiveSession | None:
        assert live is not None
        live.hold()
        return live

    loading = world.registry.load(uid).addCallback(take)
    carrying = Deferred.fromCoroutine(world.registry.late_export(send).carry([uid]))
    world.store.run()
    live = result_of(loading)
    assert live is not None
    assert result_of(carrying) is None
    assert sent == []
    live.data["n"] = 2
    saving = live.save()
    world.store.run()
    assert result_of(saving) is None
    live.release()
    carrying = Deferred.fromCoroutine(world.registry.late_export(send).carry([uid]))
    world.store.run()
    result_of(carrying)
    assert [b'{"n":2}' in chunk for chunk in sent] == [True]

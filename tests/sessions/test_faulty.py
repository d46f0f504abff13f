"""
Nothing that was acknowledged is lost, and nothing is done twice, whatever becomes of the answers
of a store.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import given, settings
from twisted.logger import capturedLogs

from stickyd.errors import NoSuchSession, SessionConflict, StoreAway
from stickyd.sessions.answers import result_of
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.stores.opening import StoreContext, open_store
from stickyd.settings.session_url import parse_session_url
from tests.sessions.faulty import Fate, FaultyStore
from tests.sessions.stores.threads import ThreadClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

    from stickyd.sessions.interfaces import ISessionStore
    from stickyd.sessions.live import LiveSession

START = 1_700_000_000.0

#: What can become of the operations of one step.
FATES = st.lists(st.sampled_from([fate for fate in Fate if fate is not Fate.NEVER]), max_size=4)


class Worker:
    """
    A registry that reaches the store that all share over a line that is not to be relied on.
    """

    def __init__(
        self, store: ISessionStore, clock: Clock, settle: Callable[[Deferred[Any]], object]
    ) -> None:
        self.line = FaultyStore(store, settle)
        self.registry = SessionRegistry(self.line, clock)

    def find(self, uid: bytes) -> LiveSession | None:
        """
        Look a session up, however often it takes.
        """
        while True:
            loading = self.registry.load(uid)
            self.line.run()
            try:
                return result_of(loading)
            except StoreAway:
                pass

    def settle(self, asked: Deferred[None]) -> bool:
        """
        :return: whether it was acknowledged; :obj:`False` if the store was away.
        """
        self.line.run()
        try:
            result_of(asked)
        except StoreAway:
            return False
        return True

    def increment(self, live: LiveSession, fates: list[Fate]) -> bool:
        """
        Count one more, and say it again until it is acknowledged.

        :return: :obj:`False` if somebody else has written the session, or ended it.
        """
        live.data["n"] = live.data.get("n", 0) + 1
        self.line.fates = list(fates)
        try:
            while not self.settle(live.save()):
                pass
        except (SessionConflict, NoSuchSession):
            return False
        finally:
            self.line.fates = []
        return True


class Cluster:
    """
    Some workers of one store, and one session.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """
        :param directory: keep sessions in a file there, instead of in memory.
        """
        self.clock = ThreadClock()
        self.clock.advance(START)
        self.settle: Callable[[Deferred[Any]], Any] = result_of
        if directory is None:
            self.store: ISessionStore = MemorySessionStore(self.clock)
            settle: Callable[[Deferred[Any]], object] = lambda deferred: None  # noqa: E731
        else:
            url = parse_session_url(f"sqlite:{directory}")
            self.store = open_store(url, StoreContext(self.clock, self.clock))
            self.settle = settle = self.clock.settle
            self.settle(self.store.start(0))
        self.workers = [Worker(self.store, self.clock, settle) for _ in range(3)]
        first = self.workers[0]
        live = first.registry.create()
        live.data["n"] = 0
        assert first.settle(live.save())
        self.uid = live.uid

    @property
    def stored(self) -> int:
        """
        What the store says.
        """
        record = self.settle(self.store.load(self.uid))
        assert record is not None
        assert record.data.startswith(b'{"n":')
        return int(record.data[5:-1])


STEPS = st.lists(st.tuples(st.integers(0, 2), st.booleans(), FATES), max_size=20)


@given(STEPS)
def test_every_increment_counts_once(steps: list[tuple[int, bool, list[Fate]]]) -> None:
    """
    Workers that count in turns, some with what they had loaded before, have counted as often as
    it was acknowledged, when each says it again whose answer is lost.
    """
    count_in_turns(Cluster(), steps)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_every_increment_counts_once_in_a_file(steps: list[tuple[int, bool, list[Fate]]]) -> None:
    """
    So it is with a store in a file.
    """
    with TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory))
        count_in_turns(cluster, steps)
        cluster.settle(cluster.store.stop())


def count_in_turns(cluster: Cluster, steps: list[tuple[int, bool, list[Fate]]]) -> None:
    """
    Have workers count, and check the count.
    """
    acknowledged = 0
    held: dict[int, LiveSession] = {}
    with capturedLogs():
        for number, fresh, fates in steps:
            worker = cluster.workers[number]
            live = None if fresh else held.get(number)
            if live is None or live.ended is not None:
                live = worker.find(cluster.uid)
                assert live is not None
                held[number] = live
            acknowledged += worker.increment(live, fates)
    assert cluster.stored == acknowledged


@given(FATES, FATES)
def test_rotation_loses_nobody(fates: list[Fate], others: list[Fate]) -> None:
    """
    Whatever becomes of the answers, a client whose rotation was acknowledged has its session by
    the new id, and one that was not has it by the old one, or by both for a while.
    """
    cluster = Cluster()
    worker = cluster.workers[0]
    live = worker.find(cluster.uid)
    assert live is not None
    worker.line.fates = list(fates)
    with capturedLogs():
        done = worker.settle(live.regenerate())
    worker.line.fates = []
    other = cluster.workers[1]
    other.line.fates = list(others)
    by_old = other.find(cluster.uid)
    if done:
        assert live.uid != cluster.uid
        by_new = other.find(live.uid)
        assert by_new is by_old is not None
        cluster.clock.advance(10)
        assert other.find(cluster.uid) is None
    assert by_old is not None
    assert by_old.data["n"] == 0


def test_answer_that_never_comes() -> None:
    """
    A write that is never answered keeps the next ones waiting, and not those of others.
    """
    cluster = Cluster()
    worker, other = cluster.workers[:2]
    live = worker.find(cluster.uid)
    assert live is not None
    worker.line.fates = [Fate.NEVER]
    live.data["n"] = 1
    saving = live.save()
    worker.line.run()
    assert not saving.called
    live.data["n"] = 2
    later = live.save()
    worker.line.run()
    assert not later.called
    seen = other.find(cluster.uid)
    assert seen is not None
    assert seen.data["n"] == 1
    assert other.increment(seen, [])
    assert cluster.stored == 2

"""
Fault 46: which session gives way when the store is full.
"""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from stickyd.sessions.answers import result_of
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.eviction import SHARE, EvictionOrder
from stickyd.sessions.stores.memory import MemorySessionStore
from tests.sessions.web.web import COOKIE, Web, count


def test_fault_46_a_flood_without_cookies_evicts_nobody_who_has_come_back() -> None:
    """
    Fault 46: a hundred thousand requests without a cookie, and who has come back once keeps the
    session, however long ago; so does who comes while it goes on, as long as the second request
    is not too far from the first.
    """
    clock = Clock()
    store = MemorySessionStore(clock, max_count=1_000)
    registry = SessionRegistry(store, clock)
    back = [registry.create() for _ in range(500)]
    for live in back:
        result_of(live.save())
        live.touch()
    for number in range(100_000):
        result_of(registry.create().save())
        if number == 50_000:
            newcomer = registry.create()
            result_of(newcomer.save())
        if number == 50_100:
            newcomer.touch()
    assert all(registry.find(live.uid) is live for live in [*back, newcomer])
    assert len(store) == 1_000
    registry.stop()


def test_fault_46_newcomers_have_a_share() -> None:
    """
    Where everybody has come back, a newcomer does not give way to the next one at once.
    """
    clock = Clock()
    store = MemorySessionStore(clock, max_count=100)
    registry = SessionRegistry(store, clock)
    back = [registry.create() for _ in range(100)]
    for live in back:
        result_of(live.save())
        live.touch()
    newcomers = [registry.create() for _ in range(50)]
    for live in newcomers:
        result_of(live.save())
    kept = [live for live in newcomers if registry.find(live.uid) is not None]
    assert kept == newcomers[-100 // SHARE :]
    assert [live for live in back if registry.find(live.uid) is not None] == back[100 // SHARE :]
    registry.stop()


def test_fault_46_it_goes_along_to_the_next_worker() -> None:
    """
    A session that was used again counts as such where it is carried to.
    """
    clock = Clock()
    old = SessionRegistry(MemorySessionStore(clock), clock)
    store = MemorySessionStore(clock, max_count=10)
    new = SessionRegistry(store, clock)
    live = old.create()
    result_of(live.save())
    clock.advance(5)
    live.touch()
    for chunk in old.export_batches():
        result_of(new.import_chunk(chunk))
    for _ in range(100):
        result_of(new.create().save())
    assert new.find(live.uid) is not None
    old.stop()
    new.stop()


def test_fault_46_a_request_that_asks_twice_has_not_come_back() -> None:
    """
    What the request that made it asks of a session is no second use.
    """

    def twice(request: object) -> bytes:
        count(request)  # type: ignore[arg-type]
        return count(request)  # type: ignore[arg-type]

    web = Web(twice, store_of=lambda clock: MemorySessionStore(clock, max_count=100))
    web.get()
    web.get()
    back = web.uid
    for _ in range(200):
        web.cookies.clear()
        web.get()
    web.cookies[COOKIE] = back
    assert web.get().body == b"6"


ACTS = st.sampled_from(["add", "add again", "use", "remove", "next"])


@given(st.lists(st.tuples(ACTS, st.integers(0, 9))))
def test_order_is_that_of_two_lines(steps: list[tuple[str, int]]) -> None:
    """
    Compared with two plain queues.
    """
    order = EvictionOrder()
    once: deque[bytes] = deque()
    again: deque[bytes] = deque()
    for act, number in steps:
        uid = b"%d" % number
        known = uid in once or uid in again
        if act.startswith("add") and not known:
            order.add(uid, act == "add again")
            (again if act == "add again" else once).append(uid)
        elif act == "use" and known:
            order.use(uid)
            (again if uid in again else once).remove(uid)
            again.append(uid)
        elif act == "remove" and known:
            assert order.remove(uid) == (uid in again)
            (again if uid in again else once).remove(uid)
        elif act == "next" and len(once) + len(again) > 1:
            crowded = SHARE * len(once) > len(once) + len(again)
            lines = [*once, *again] if crowded else [*again, *once]
            stays = again[-1] if again else once[-1]
            assert order.next(stays) == next(each for each in lines if each != stays)

"""
Workers that have sessions: registries over a store, in a loop of the test's own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from stickyd.sessions.apps.worker_place import WorkerPlace
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from tests.sessions.test_late import LateStore
from tests.sessions.worlds import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.sessions.interfaces import ISessionStore


class SharedStore(LateStore):
    """
    A store that other workers write too, and whose answers come in later turns of the loop.

    :ivar calls: how often each operation was asked for.
    """

    def __init__(self, clock: Clock, behind: MemorySessionStore | None = None) -> None:
        super().__init__(clock)
        if behind is not None:
            self.behind = behind
        self.calls: dict[str, int] = {}

    def _later(self, ask: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        name = ask.__code__.co_names[-1]
        self.calls[name] = self.calls.get(name, 0) + 1
        asyncio.get_running_loop().call_soon(self.run, 1)
        return super()._later(ask)


def a_clock() -> Clock:
    """
    Make the time.
    """
    clock = Clock()
    clock.advance(START)
    return clock


def a_worker(store: ISessionStore, clock: Clock, **options: Any) -> WorkerPlace:
    """
    Make what a worker has of sessions.
    """
    return WorkerPlace(SessionRegistry(store, clock, **options), _nobody)


def alone(**options: Any) -> WorkerPlace:
    """
    Make a worker with sessions in its memory.
    """
    clock = a_clock()
    return a_worker(MemorySessionStore(clock), clock, **options)


def two_workers() -> tuple[WorkerPlace, WorkerPlace]:
    """
    Make two workers over one store.
    """
    clock = a_clock()
    first = SharedStore(clock)
    second = SharedStore(clock, first.behind)
    return a_worker(first, clock), a_worker(second, clock)


def _nobody(call: Callable[[], object]) -> None:
    raise AssertionError("nobody calls from another thread")

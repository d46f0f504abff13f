"""
A registry and its store, which answers at once or later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from stickyd.sessions.answers import result_of
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from tests.sessions.test_late import LateStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.live import LiveSession


START = 1_700_000_000.0


class World:
    """
    A registry over a memory store, and a clock for both.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store = MemorySessionStore(self.clock)
        self.registry = SessionRegistry(self.store, self.clock, **options)

    def saved(self, **items: Any) -> LiveSession:
        """
        Make a session with data, and save it.
        """
        live = self.registry.create()
        live.data.update(items)
        result_of(live.save())
        return live


class LateWorld:
    """
    A registry over a store that answers later.
    """

    def __init__(self, make_store: Callable[[Clock], LateStore] = LateStore) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store = make_store(self.clock)
        self.registry = SessionRegistry(self.store, self.clock)

    def saved(self, **items: Any) -> LiveSession:
        """
        Make a session with data, and save it.
        """
        live = self.registry.create()
        live.data.update(items)
        saving = live.save()
        self.store.run()
        result_of(saving)
        return live

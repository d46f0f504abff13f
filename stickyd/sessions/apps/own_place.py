"""
Sessions of an application that another server serves, or a test.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred

from stickyd.net.steady_time import WallClock
from stickyd.sessions.apps.worker_place import hop
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.opening import StoreContext, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.apps.unit_of_work import UnitOfWork
    from stickyd.sessions.record import SessionExpiry
    from stickyd.settings.session_url import SessionUrl


class OwnPlace:
    """
    A :class:`stickyd.sessions.apps.place.SessionPlace` with a loop of its own, in a thread that
    does not keep the process alive.
    """

    def __init__(self, url: SessionUrl, expiry: SessionExpiry) -> None:
        """
        Open the store.

        :raise stickyd.errors.OperatorError: it cannot be had.
        """
        self._loop = asyncio.new_event_loop()
        # Private: nobody else's loop is touched, and no reactor is installed.
        self._reactor: Any = AsyncioSelectorReactor(self._loop)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="stickyd-sessions", daemon=True
        )
        self._thread.start()
        clock = WallClock(self._reactor)
        try:
            store = open_store(url, StoreContext(self._reactor, clock))
            self.registry = SessionRegistry(store, clock, expiry=expiry)
            self.wait(store.start, 0)
        except BaseException:
            self._end()
            raise

    async def ask(self, function: Callable[..., Deferred[Any]], *arguments: Any) -> Any:
        """
        Call a function, and wait in a task of whatever loop it is.
        """
        future = hop(self._loop.call_soon_threadsafe, function, *arguments)
        return await asyncio.wrap_future(future)

    def expect(self, unit: UnitOfWork) -> None:
        """
        Do nothing: no session is carried away from here.
        """

    def leave(self, unit: UnitOfWork) -> None:
        """
        Have a session let go of; it never has to go anywhere.
        """
        if unit.holds:
            # Whoever is collected late may outlive the loop.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(unit.let_go)

    def wait(self, function: Callable[..., Deferred[Any]], *arguments: Any) -> Any:
        """
        Call a function, and wait in a thread.
        """
        return hop(self._loop.call_soon_threadsafe, function, *arguments).result()

    def close(self) -> None:
        """
        Close the store, and end the thread.
        """
        self.wait(self._stop)
        self._end()

    def _stop(self) -> Deferred[None]:
        self.registry.stop()
        return self.registry.store.stop()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._reactor.removeAll()
        self._reactor.waker.connectionLost(None)
        self._loop.close()

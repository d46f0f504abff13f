"""
The loop of a process that stickyd does not run.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Alone:
    """
    The asyncio loop that runs in this thread, or else Twisted's reactor if that runs, or else
    none: then what is to be called is called at once.
    """

    def __init__(self, on_begin: Callable[[], object]) -> None:
        """
        :raises ApplicationError: if it is a coroutine function, and nothing runs.
        """
        self._call: Callable[..., object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._loop = asyncio.get_running_loop()
            self._call = self._loop.call_soon_threadsafe
        except RuntimeError:
            reactor: Any = sys.modules.get("twisted.internet.reactor")
            if reactor is not None and reactor.running:
                self._call = reactor.callFromThread
        if self._call is None and inspect.iscoroutinefunction(on_begin):
            raise ApplicationError(
                "stickyd.leader.subscribe(): a coroutine function, where no loop runs, outside of"
                " a stickyd worker: call it from the application's startup, such as its lifespan"
            )

    def in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        if self._call is None:
            call(*arguments)
        else:
            self._call(call, *arguments)

    def start(self, coroutine: Coroutine[Any, Any, object]) -> Deferred[object]:
        if self._loop is None:
            return Deferred.fromCoroutine(coroutine)
        return Deferred.fromFuture(asyncio.ensure_future(coroutine, loop=self._loop))

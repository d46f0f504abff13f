"""
Waiting, in whatever way the application waits, until the primary has acted on what was said here.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Confirmation:
    """
    Await it in a coroutine of asyncio's or Twisted's, call :meth:`wait` in a thread, or add
    callbacks to :meth:`deferred` in the reactor's thread.

    That of a claim means that the client's next connection with the id reaches this worker; it
    never fails.  That of the bus fails with :exc:`stickyd.errors.BusClosed` if the bus is closed
    before.
    """

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    def wait(self, seconds: float | None = 5.0) -> None:
        """
        Wait in a thread that is not the reactor's, such as a WSGI application's.

        :raises TimeoutError: if it has not come by then (before Python 3.11
            :exc:`concurrent.futures.TimeoutError`).
        :raises RuntimeError: in the reactor's thread, where the answer could not come in.
        """
        if not self._future.done() and isInIOThread():
            raise RuntimeError("wait() would stop the worker: await it instead")
        self._future.result(seconds)

    def deferred(self) -> Deferred[None]:
        """
        Give a Deferred that fires, or fails, when it has come.
        """
        waiting: Deferred[None] = Deferred()

        def tell(future: Future[None]) -> None:
            problem = future.exception()
            waiting.callback(None) if problem is None else waiting.errback(Failure(problem))

        self._future.add_done_callback(tell)
        return waiting

    def when_settled(self, call: Callable[[Exception | None], object]) -> None:
        """
        Have a call made, in whatever thread, when it has come, or will not.
        """
        self._future.add_done_callback(
            lambda future: call(future.exception())  # type: ignore[arg-type]  # of settle()
        )

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is None:
            return self.deferred().__await__()
        return asyncio.wrap_future(self._future).__await__()

    def settle(self, problem: Exception | None = None) -> None:
        """
        Called when it has come, or will not.
        """
        if problem is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(problem)

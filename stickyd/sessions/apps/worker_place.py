"""
The sessions of the worker that an application is served by.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.sessions.apps.unit_of_work import UnitOfWork
    from stickyd.sessions.registry import SessionRegistry


class WorkerPlace:
    """
    A :class:`stickyd.sessions.apps.place.SessionPlace` in the worker's own loop.
    """

    def __init__(self, registry: SessionRegistry, in_reactor: Callable[..., object]) -> None:
        """
        Made in the loop's thread.

        :param in_reactor: the reactor's ``callFromThread``.
        """
        self.registry = registry
        self._in_reactor = in_reactor
        self._thread = get_ident()
        # A set of C's, whose single changes threads need no lock for.
        self._expected: set[UnitOfWork] = set()
        registry.call_before_export(self._hold_expected)

    async def ask(self, function: Callable[..., Deferred[Any]], *arguments: Any) -> Any:
        """
        Call a function; what has fired takes no turn of the loop.
        """
        if get_ident() != self._thread:
            future = hop(self._in_reactor, function, *arguments)
            return await asyncio.wrap_future(future)
        deferred = function(*arguments)
        if not deferred.called:
            # Whoever is cancelled leaves the write alone, which others may wait for too.
            return await asyncio.shield(deferred.asFuture(asyncio.get_running_loop()))
        return fired(deferred)

    def expect(self, unit: UnitOfWork) -> None:
        """
        Keep a session that may be asked for later.
        """
        self._expected.add(unit)

    def _hold_expected(self) -> None:
        for unit in list(self._expected):
            # If it is not here, whoever asks for it hears of that.
            unit.load().addErrback(lambda _: None)

    def leave(self, unit: UnitOfWork) -> None:
        """
        Have a session let go of, from a thread.
        """
        self._expected.discard(unit)
        if not unit.holds:
            return
        if get_ident() == self._thread:
            unit.let_go()
        elif self.registry.forwards:
            self.wait(unit.let_go)
        else:
            self._in_reactor(unit.let_go)

    def wait(self, function: Callable[..., Deferred[Any]], *arguments: Any) -> Any:
        """
        Call a function, and wait in a thread.
        """
        if get_ident() != self._thread:
            return hop(self._in_reactor, function, *arguments).result()
        deferred = function(*arguments)
        if not deferred.called:
            deferred.addErrback(lambda _: None)
            raise RuntimeError(
                "this would stop the worker: in its own thread a session that is not in memory"
                " can be had by what is awaited only"
            )
        return fired(deferred)


def hop(
    in_loop: Callable[..., object], function: Callable[..., Deferred[Any]], *arguments: Any
) -> Future[Any]:
    """
    Call a function in another thread's loop.

    :param in_loop: has something called there.
    :return: has what its Deferred fires with.
    """
    future: Future[Any] = Future()

    def call() -> None:
        try:
            deferred = function(*arguments)
        except Exception as problem:  # noqa: BLE001 - it is raised where it was called
            future.set_exception(problem)
        else:
            deferred.addCallbacks(
                future.set_result, lambda failure: future.set_exception(failure.value)
            )

    future.set_running_or_notify_cancel()  # it cannot be taken back
    in_loop(call)
    return future


def fired(deferred: Deferred[Any]) -> Any:
    """
    Give the result of a Deferred that has fired.
    """
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    return deferred.result

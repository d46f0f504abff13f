# ruff: noqa: N802 - the camelCase names are Twisted's interfaces'
"""
Readiness of descriptors, whichever reactor the worker runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorTime,
    IReadWriteDescriptor,
)
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.interfaces import IReadiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure


_log = Logger()


def call_back(callback: Callable[[], object], descriptor: int) -> None:
    """
    Call what watches a descriptor.  As asyncio does, an error of it is logged, and the descriptor
    is kept.
    """
    try:
        callback()
    except Exception:  # noqa: BLE001 - whatever it is
        _log.failure(
            "A callback of descriptor {fd} failed.",
            event="internal.callback-failed",
            fd=descriptor,
        )


class IFDSetReactor(IReactorFDSet, IReactorTime):
    """
    What :class:`ReactorReadiness` needs of a reactor.
    """


@implementer(IReadWriteDescriptor)
class WatchedDescriptor:
    """
    A descriptor as a reactor wants it: an object with ``doRead`` and ``doWrite``.

    A descriptor has one such object for both directions, because an epoll reactor
    keeps one object per descriptor.
    """

    _log = Logger()

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.reader: Callable[[], object] | None = None
        self.writer: Callable[[], object] | None = None

    def fileno(self) -> int:
        return self.descriptor

    def logPrefix(self) -> str:
        return "stickyd"

    def doRead(self) -> None:
        self._call(self.reader)

    def doWrite(self) -> None:
        self._call(self.writer)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor saw an error or hang-up and has already dropped the descriptor.

        The owner learns the cause from its own next ``recv`` or ``send``.
        """
        reader, self.reader = self.reader, None
        writer, self.writer = self.writer, None
        self._call(reader or writer)

    def _call(self, callback: Callable[[], object] | None) -> None:
        # None: the callback of the other direction removed this one in the same turn.
        if callback is None:
            return
        call_back(callback, self.descriptor)


@implementer(IReadiness)
class ReactorReadiness:
    """
    The four methods of an asyncio loop, and its clock, on a Twisted reactor.
    """

    _log = Logger()

    def __init__(self, reactor: IFDSetReactor) -> None:
        self._reactor = reactor
        self._watched: dict[int, WatchedDescriptor] = {}
        self._soon: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        watched = self._watch(descriptor)
        watched.reader = callback
        self._reactor.addReader(watched)

    def remove_reader(self, descriptor: int) -> bool:
        watched = self._watched.get(descriptor)
        if watched is None or watched.reader is None:
            return False
        watched.reader = None
        self._reactor.removeReader(watched)
        self._forget(watched)
        return True

    def add_writer(self, descriptor: int, callback: Callable[[], object]) -> None:
        watched = self._watch(descriptor)
        watched.writer = callback
        self._reactor.addWriter(watched)

    def remove_writer(self, descriptor: int) -> bool:
        watched = self._watched.get(descriptor)
        if watched is None or watched.writer is None:
            return False
        watched.writer = None
        self._reactor.removeWriter(watched)
        self._forget(watched)
        return True

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        # One delayed call serves a whole turn: a DelayedCall each costs several
        # times as much as the calls themselves.
        if not self._soon:
            self._reactor.callLater(0, self._run)
        self._soon.append((callback, arguments))

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        return self._reactor.callLater(delay, callback, *arguments)

    def _run(self) -> None:
        # What these calls schedule belongs to the next turn, or a connection that
        # always schedules again would starve the descriptors.
        calls, self._soon = self._soon, []
        for callback, arguments in calls:
            self._call(callback, arguments)

    def _call(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001 - one caller's error is not the others'
            self._log.failure("A scheduled call failed.", event="internal.callback-failed")

    def _watch(self, descriptor: int) -> WatchedDescriptor:
        watched = self._watched.get(descriptor)
        if watched is None:
            watched = self._watched[descriptor] = WatchedDescriptor(descriptor)
        return watched

    def _forget(self, watched: WatchedDescriptor) -> None:
        if watched.reader is None and watched.writer is None:
            del self._watched[watched.descriptor]


def readiness_of(reactor: object) -> IReadiness:
    """
    Find what tells a reactor's descriptors' readiness.

    :param reactor: a running or future reactor of the worker.
    :return: the asyncio loop under an :class:`AsyncioSelectorReactor`, which saves
        two layers on every event; an adapter of any other.
    """
    if isinstance(reactor, AsyncioSelectorReactor):
        # Private, but there is no other way to the loop, and its name has been the
        # same since the reactor exists.
        return cast("IReadiness", reactor._asyncioEventloop)
    return ReactorReadiness(cast("IFDSetReactor", reactor))

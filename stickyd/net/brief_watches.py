"""
Watching connections that may be over soon.

Theory of operation.  To begin watching a descriptor and to end it again costs an event loop much
more than the event that comes in between: uvloop makes eight system calls of it, as libuv tries
whether the descriptor can be polled, sets it non-blocking and removes it three times, and an
object that lives until the next turn.  A client that asks once and goes away is watched for no
more than that one event.  So a connection is at first watched by an epoll of our own, which the
loop watches as a single descriptor: two system calls, and no object.

That would make the many events of a connection that is kept alive dearer, by the system call that
finds out whose they are.  So whoever is still watched after an event is given to the loop.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from zope.interface import implementer

from stickyd.interfaces import IReadiness
from stickyd.net.readiness import call_back

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many connections are called in one turn; the others are in the next.
_CALLS_PER_TURN = 64

_EPOLLIN = getattr(select, "EPOLLIN", 0)


def watching_briefly(readiness: IReadiness) -> IReadiness:
    """
    Make the beginning and the end of watching a descriptor cheap, where the system can.
    """
    return BriefWatches(readiness) if hasattr(select, "epoll") else readiness


def end_brief_watches(readiness: IReadiness) -> None:
    """
    End what :func:`watching_briefly` has begun; who is watched is so by the loop from now on.
    """
    if isinstance(readiness, BriefWatches):
        readiness.close()


@implementer(IReadiness)
class BriefWatches:
    """
    Watches readers until their first event, and has a loop do everything else.
    """

    def __init__(self, readiness: IReadiness) -> None:
        """
        :param readiness: the loop.
        """
        self._loop = readiness
        self._readers: dict[int, Callable[[], object]] = {}
        # At once, as there may be no descriptor left later.  The loop watches it, and so keeps it,
        # from the first reader on.
        self._epoll = select.epoll()
        self._is_watched = self._is_closed = False
        self.add_writer = readiness.add_writer
        self.remove_writer = readiness.remove_writer
        self.call_soon = readiness.call_soon
        self.call_later = readiness.call_later

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        if not self._is_watched:
            if self._is_closed:
                self._loop.add_reader(descriptor, callback)
                return
            self._is_watched = True
            self._loop.add_reader(self._epoll.fileno(), self._ready)
        if descriptor not in self._readers:
            self._epoll.register(descriptor, _EPOLLIN)
        self._readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> object:
        if self._readers.pop(descriptor, None) is None:
            return self._loop.remove_reader(descriptor)
        self._epoll.unregister(descriptor)
        return True

    def close(self) -> None:
        """
        Have the loop watch whatever is watched from now on.  May be repeated.
        """
        self._is_closed = True
        for descriptor, callback in list(self._readers.items()):
            self._keep(descriptor, callback)
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        readers = self._readers
        for descriptor, _ in self._epoll.poll(0, _CALLS_PER_TURN):
            callback = readers.get(descriptor)
            if callback is None:
                continue  # the one before has removed it
            call_back(callback, descriptor)
            if readers.get(descriptor) is callback:
                self._keep(descriptor, callback)

    def _keep(self, descriptor: int, callback: Callable[[], object]) -> None:
        """
        Give a reader to the loop.
        """
        self.remove_reader(descriptor)
        self._loop.add_reader(descriptor, callback)

"""
A reactor of one's own, turned by hand, for what must be tried on real transports.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def private_reactor() -> Iterator[EPollReactor]:
    """
    A reactor that is not installed; with the end of the block it is taken apart.
    """
    reactor = EPollReactor()
    yield reactor
    # What was asked to end, ends in the turns that follow.
    for _ in range(3):
        reactor.iterate(0)
    for reader in reactor.removeAll():
        reader.connectionLost(Failure(RuntimeError("the test is over")))
    for waker in reactor._internalReaders:
        waker.connectionLost(Failure(RuntimeError("the test is over")))
    for call in reactor.getDelayedCalls():
        call.cancel()
    reactor._poller.close()


def turn_until(reactor: EPollReactor, happened: Callable[[], object]) -> None:
    """
    Turn a reactor until something has happened; each turn ends with an event.

    :raises AssertionError: if it does not happen in many turns.
    """
    for _ in range(200):
        if happened():
            return
        reactor.iterate(0.1)
    raise AssertionError("it did not happen")

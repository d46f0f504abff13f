"""
Two clocks: a reactor's, which nobody can set, and the wall's, for what is told to others.

Twisted's reactors take the time from :func:`time.time`, which an operator or NTP may set: back
by an hour, and nothing times out for an hour.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall


def keep_steady(reactor: object) -> None:
    """
    Have a reactor go by a monotonic clock from now on.

    It begins with the time that the reactor shows, so calls that wait are due as before.  From
    the time of day it differs only by what the machine's clock is set by afterwards, for what
    takes it for that (as ``twisted.web``'s access log does).

    :param reactor: one that has a clock of its own already, as those for tests do, is left
        alone.
    """
    if not isinstance(reactor, ReactorBase) or "seconds" in vars(reactor):
        return
    monotonic = time.monotonic
    offset = reactor.seconds() - monotonic()

    def seconds() -> float:
        return monotonic() + offset

    changed: Any = reactor
    changed.seconds = seconds
    for call in reactor.getDelayedCalls():
        waiting: Any = call
        waiting.seconds = seconds


@implementer(IReactorTime)
class WallClock:
    """
    The time of day, with a reactor's timers: for times that outlive this process, or are
    compared with another one's.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def seconds(self) -> float:
        return time.time()

    def callLater(  # noqa: N802 (IReactorTime's name)
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 (as above)
        *args: object,
        **kwargs: object,
    ) -> IDelayedCall:
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:  # noqa: N802 (IReactorTime's name)
        return self._reactor.getDelayedCalls()

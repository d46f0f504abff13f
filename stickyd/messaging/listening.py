"""
Messages in an ``async for``, of asyncio's coroutines or Twisted's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from stickyd.messaging.where import in_reactor

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from stickyd.messaging.inbox import Inbox
    from stickyd.messaging.message import Message
    from stickyd.messaging.subscription import BusSubscription


class Listening:
    """
    An asynchronous iterator over what is published to a channel since it was made.

    It ends when the bus closes.  It unsubscribes at the end of an ``async with``, by
    :meth:`aclose`, or when nobody holds it any more, as after a ``break``.
    """

    def __init__(self, inbox: Inbox, subscription: BusSubscription) -> None:
        """
        :param subscription: fills the inbox, and does not hold us.
        """
        self._inbox = inbox
        self._subscription = subscription

    @property
    def lost(self) -> int:
        """
        How many messages it has missed, as too many waited.
        """
        return self._inbox.lost

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        inbox = self._inbox
        while True:
            message = inbox.take()
            if message is not None:
                return message
            if inbox.closed:
                raise StopAsyncIteration
            await _filled(inbox)

    async def aclose(self) -> None:
        """
        Unsubscribe, and end the iteration.
        """
        self._subscription()
        self._inbox.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._subscription.abandon()


def _filled(inbox: Inbox) -> asyncio.Future[None] | Deferred[None]:
    """
    Wait in the way of whoever runs the coroutine.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return _deferred(inbox) if task is None else _future(inbox)


def _future(inbox: Inbox) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        if asyncio._get_running_loop() is loop:
            settle()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    if not inbox.wait(wake):
        settle()
    return future


def _deferred(inbox: Inbox) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()

    def settle() -> None:
        if not waiting.called:
            waiting.callback(None)

    if not inbox.wait(lambda: in_reactor(settle)):
        settle()
    return waiting

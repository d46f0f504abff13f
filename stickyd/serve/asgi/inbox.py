"""
What has come on a WebSocket and was not received by its application.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Inbox:
    """
    A queue without bound, with what uvicorn's WebSockets ask of :class:`asyncio.Queue`.

    That also counts tasks and looks for whom to wake in steps of its own, which is a tenth of
    what a short message costs.
    """

    __slots__ = ("_loop", "_messages", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        :param loop: that the application runs on.
        """
        self._loop = loop
        self._messages: deque[Any] = deque()
        self._waiting: list[asyncio.Future[None]] = []

    def empty(self) -> bool:
        """
        Tell whether all was received.
        """
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        """
        Keep a message, and wake whoever waits for one.
        """
        self._messages.append(message)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)

    async def get(self) -> Any:
        """
        Receive the oldest message; wait until there is one.
        """
        # All who wait are woken, and one finds something: there is rarely more than one.
        while not self._messages:
            future = self._loop.create_future()
            self._waiting.append(future)
            await future
        return self._messages.popleft()

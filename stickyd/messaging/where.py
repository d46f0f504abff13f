"""
In which thread a subscriber is called, where no worker says so.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.threadable import isInIOThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.messaging.message import Message
    from stickyd.messaging.subscription import Receive


class _Elsewhere:
    """
    Calls a subscriber in its own thread: at once if that is the one that delivers, else as soon
    as its loop turns.  In both cases the older messages come first.
    """

    _log = Logger()

    def __init__(
        self, receive: Receive, is_here: Callable[[], bool], schedule: Callable[..., object]
    ) -> None:
        self._receive = receive
        self._is_here = is_here
        self._schedule = schedule
        self._waiting: deque[Message] = deque()

    def put(self, message: Message) -> None:
        """
        Called in whatever thread delivers.
        """
        self._waiting.append(message)
        if self._is_here():
            self._call()
        else:
            with suppress(RuntimeError):  # the loop is closed, so nobody is there any more
                self._schedule(self._call)

    def _call(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            try:
                self._receive(message)
            except Exception:  # noqa: BLE001 (the application's, in its own thread)
                self._log.failure(
                    "A subscriber to {channel!r} on the bus failed",
                    event="bus.subscriber-failed",
                    channel=message.channel,
                )


def in_reactor(call: Callable[[], object]) -> None:
    """
    Make a call in the thread of Twisted's reactor, which runs; and not in a task of asyncio's,
    for a part of which the coroutines of Twisted would be taken that go on in it.
    """
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or (isInIOThread() and not _in_task()):
        call()
    else:
        reactor.callFromThread(call)


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def called_here(receive: Receive) -> Receive:
    """
    Have a subscriber called where it lives: in the asyncio loop that runs in this thread; or
    else in Twisted's reactor, if that runs; or else in the thread that publishes.
    """
    loop = asyncio._get_running_loop()
    if loop is not None:
        return _Elsewhere(
            receive, lambda: asyncio._get_running_loop() is loop, loop.call_soon_threadsafe
        ).put
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if getattr(reactor, "running", False):
        return _Elsewhere(receive, isInIOThread, reactor.callFromThread).put
    return receive

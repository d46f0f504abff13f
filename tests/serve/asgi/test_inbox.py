"""
What waits for the application of a WebSocket.
"""

from __future__ import annotations

import asyncio
from typing import Any

from stickyd.serve.asgi.inbox import Inbox
from tests.hosting import run, some_turns


def test_in_order(loop: asyncio.AbstractEventLoop) -> None:
    """
    What comes is received in order, whether somebody waited for it or not.
    """

    async def scene() -> list[Any]:
        inbox = Inbox(loop)
        inbox.put_nowait(1)
        received = [await inbox.get()]
        assert inbox.empty()
        waiting = loop.create_task(inbox.get())
        await some_turns()
        inbox.put_nowait(2)
        inbox.put_nowait(3)
        received += [await waiting, await inbox.get()]
        return received

    assert run(loop, scene()) == [1, 2, 3]


def test_several_wait(loop: asyncio.AbstractEventLoop) -> None:
    """
    Each message goes to one of those who wait, and one who gives up takes none along.
    """

    async def scene() -> list[Any]:
        inbox = Inbox(loop)
        first, second, third = (loop.create_task(inbox.get()) for _ in range(3))
        await some_turns()
        first.cancel()
        inbox.put_nowait(1)
        await some_turns()
        assert not inbox._messages
        assert second.done() != third.done()
        inbox.put_nowait(2)
        await asyncio.gather(first, return_exceptions=True)
        return sorted([await second, await third])

    assert run(loop, scene()) == [1, 2]


def test_cancelled_when_woken(loop: asyncio.AbstractEventLoop) -> None:
    """
    A message for one who is cancelled in the same turn is kept for the next.
    """

    async def scene() -> Any:
        inbox = Inbox(loop)
        leaving = loop.create_task(inbox.get())
        await some_turns()
        inbox.put_nowait("kept")
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert leaving.cancelled()
        return await inbox.get()

    assert run(loop, scene()) == "kept"

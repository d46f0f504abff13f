"""
The main task of a worker's loop: :mod:`stickyd.worker.main_task`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
import uvloop

from stickyd.worker.main_task import MainTask

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

PATIENCE_SECONDS = 30.0


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """
    A loop of a kind that workers run.
    """
    made = request.param()
    yield made
    made.close()


def run_as_reactor(
    loop: asyncio.AbstractEventLoop, *requests: Coroutine[Any, Any, Any]
) -> list[Any]:
    """
    Run a loop as a reactor does, until some requests have been served, a task for each.
    """
    results: list[Any] = []

    async def serve() -> None:
        try:
            results.extend([await loop.create_task(request) for request in requests])
        finally:
            loop.stop()

    task = loop.create_task(serve())
    loop.run_forever()
    task.result()
    return results


async def ask_thread() -> threading.Thread:
    """
    Have a thread of AnyIO's say which it is.
    """
    return await anyio.to_thread.run_sync(threading.current_thread)


def test_threads_last_until_end(loop: asyncio.AbstractEventLoop) -> None:
    """
    One thread serves one request after the other, and ends with the main task.
    """
    main = MainTask(loop)
    first, second, third = run_as_reactor(loop, ask_thread(), ask_thread(), ask_thread())
    assert first is second is third
    assert first.is_alive()
    main.end()
    first.join(PATIENCE_SECONDS)
    assert not first.is_alive()


def test_application_cancels_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """
    An application that cancels whatever task there is does not stop the loop, and is left with
    a thread for each request.
    """

    async def cancel_all() -> None:
        current = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not current and task.get_name() == "stickyd":
                task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    main = MainTask(loop)
    _, thread = run_as_reactor(loop, cancel_all(), ask_thread())
    main.end()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()

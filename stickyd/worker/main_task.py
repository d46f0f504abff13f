"""
The main task of a worker's asyncio loop.

Under :func:`asyncio.run` a program is one task, and there are libraries that look for it.  AnyIO
keeps the threads of ``to_thread``, and the processes of ``to_process``, for as long as it lasts:
they run the plain functions, files and generators of Starlette and FastAPI.  Twisted's reactor
runs the loop for ever and has no such task.  AnyIO then takes the task of the request for it, and
begins and ends a thread with each, with whatever the application keeps for its thread, such as a
connection to a database.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events
from contextlib import suppress
from typing import Any

from stickyd.worker.loading import loop_of

#: What :meth:`asyncio.loop.run_until_complete` has its task call: they know it by that.
_mark: Any = getattr(base_events, "_run_until_complete_cb", None)


class MainTask:
    """
    A task that lasts as long as the loop runs, and passes for what it runs for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Begin it.

        :param loop: it does not run yet.
        """
        self._loop = loop
        self._over = asyncio.Event()
        self._task = loop.create_task(self._last(), name="stickyd")
        if _mark is not None:
            self._task.add_done_callback(_mark)

    async def _last(self) -> None:
        try:
            await self._over.wait()
        finally:
            # Some applications cancel all the tasks there are.  Ours has not run the loop until
            # then, and does not stop it.
            if not self._over.is_set():
                self._task.remove_done_callback(_mark)

    def end(self) -> None:
        """
        End it, when the loop has stopped; that runs until all have been told who waited for this.
        """
        self._over.set()
        self._task.remove_done_callback(_mark)
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)


def run_with_main_task(reactor: Any) -> None:
    """
    Run a reactor until it stops; one on an asyncio loop, with a main task.
    """
    loop = loop_of(reactor)
    if loop is None:
        reactor.run()
        return
    main = MainTask(loop)
    try:
        reactor.run()
    finally:
        main.end()

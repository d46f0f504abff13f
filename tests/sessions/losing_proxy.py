"""
A proxy that loses answers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count


class LosingProxy:
    """
    Passes on all that clients send, and ends a connection in place of some of what the server
    answers: what was asked is done, and nobody hears of it.

    :ivar port: where it listens, on 127.0.0.1.
    :ivar lost: how many answers it has lost.
    """

    def __init__(self, upstream: int, lose_one_of: int) -> None:
        """
        :param upstream: the server's port.
        :param lose_one_of: of so many batches that have scripts one loses its answer.
        """
        self.port = 0
        self.lost = 0
        self._upstream = upstream
        self._lose_one_of = lose_one_of
        self._batches = count(1)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """
        Listen.
        """
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """
        End all connections.
        """
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        answers, requests = await asyncio.open_connection("127.0.0.1", self._upstream)
        losing = asyncio.Event()
        passing = asyncio.ensure_future(self._pass_requests(reader, requests, losing))
        try:
            # A task that was cancelled is logged as an error by the streams of asyncio.
            with suppress(OSError, asyncio.CancelledError):
                while answer := await answers.read(1 << 20):
                    if losing.is_set():
                        self.lost += 1
                        break
                    writer.write(answer)
        finally:
            passing.cancel()
            requests.close()
            writer.close()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, requests: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while request := await reader.read(1 << 20):
                if b"EVALSHA" in request and next(self._batches) % self._lose_one_of == 0:
                    losing.set()
                requests.write(request)
        requests.close()

"""
What :mod:`benchmarks.bus` has served: one worker publishes, all others count what they hear.

Over stickyd's bus, or over Redis by redis-py if the variable ``REDIS`` has a URL.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from struct import Struct
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from stickyd import bus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_HEAD = Struct("!QQ")  # number, nanoseconds of the monotonic clock, which all processes share

#: How many messages are on their way before the publisher waits for all who hear.
WINDOW = 500


class Counter:
    """
    What this worker has heard, and how late.
    """

    def __init__(self) -> None:
        self.count = 0
        self.late_ns: list[int] = []
        self.answer: Callable[[bytes], object] = lambda data: None

    def heard(self, data: bytes) -> None:
        """
        Count a message; each full window is answered.
        """
        _, sent_ns = _HEAD.unpack_from(data)
        self.count += 1
        self.late_ns.append(time.monotonic_ns() - sent_ns)
        if not self.count % WINDOW:
            self.answer(b"%d" % self.count)


class OverBus:
    """
    stickyd's bus.
    """

    async def start(self, counter: Counter, acknowledged: Callable[[bytes], object]) -> None:
        self._subscriptions = [
            bus.subscribe("load", lambda message: counter.heard(message.data)),
            bus.subscribe("answers", lambda message: acknowledged(message.data)),
        ]
        counter.answer = lambda data: bus.publish("answers", data)

    def leave(self) -> None:
        self._subscriptions[0]()

    async def publish(self, data: bytes) -> None:
        bus.publish("load", data)


class OverRedis:
    """
    Redis by redis-py, as it is used: a publish is awaited.
    """

    async def start(self, counter: Counter, acknowledged: Callable[[bytes], object]) -> None:
        from redis.asyncio import Redis

        self._redis = Redis.from_url(os.environ["REDIS"])
        self._listening = self._redis.pubsub()
        self._answers: set[asyncio.Task[Any]] = set()
        await self._listening.subscribe("load", "answers")
        loop = asyncio.get_running_loop()

        async def publish_answer(data: bytes) -> None:
            await self._redis.publish("answers", data)

        def answer(data: bytes) -> None:
            task = loop.create_task(publish_answer(data))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

        counter.answer = answer

        async def listen() -> None:
            async for message in self._listening.listen():
                if message["type"] == "message":
                    if message["channel"] == b"load":
                        counter.heard(message["data"])
                    else:
                        acknowledged(message["data"])

        self._task = loop.create_task(listen())

    def leave(self) -> None:
        async def unsubscribe() -> None:
            await self._listening.unsubscribe("load")

        self._left = asyncio.get_running_loop().create_task(unsubscribe())

    async def publish(self, data: bytes) -> None:
        await self._redis.publish("load", data)


class Load:
    """
    The application.
    """

    def __init__(self) -> None:
        self._counter = Counter()
        self._way = OverRedis() if "REDIS" in os.environ else OverBus()
        self._acknowledged = 0
        self._enough = asyncio.Event()

    def _acknowledge(self, data: bytes) -> None:
        self._acknowledged += 1
        self._enough.set()

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self._way.start(self._counter, self._acknowledge)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        options = dict(parse_qsl(scope["query_string"].decode()))
        told = await getattr(self, scope["path"].strip("/"))(
            **{name: int(value) for name, value in options.items()}
        )
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = json.dumps({"pid": os.getpid(), "told": told}).encode()
        await send({"type": "http.response.body", "body": body})

    async def who(self) -> None:
        """
        Say the pid.
        """

    async def publisher(self) -> None:
        """
        Publish only, from now on.
        """
        self._way.leave()

    async def flood(self, count: int, size: int, hearers: int) -> float:
        """
        Publish as fast as all can hear.

        :return: the seconds that it took.
        """
        rest = bytes(size - _HEAD.size)
        began, self._acknowledged = time.monotonic(), 0
        for number in range(1, count + 1):
            await self._way.publish(_HEAD.pack(number, time.monotonic_ns()) + rest)
            if not number % 50:
                await asyncio.sleep(0)
            # A window is on its way, and one being published.
            while number // WINDOW - 1 > self._acknowledged / hearers:
                self._enough.clear()
                await self._enough.wait()
        while self._acknowledged < count // WINDOW * hearers:
            self._enough.clear()
            await self._enough.wait()
        return time.monotonic() - began

    async def pace(self, count: int, size: int, rate: int) -> float:
        """
        Publish so many a second, one at a time.
        """
        rest = bytes(size - _HEAD.size)
        began = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            await self._way.publish(_HEAD.pack(number, time.monotonic_ns()) + rest)
        return time.monotonic() - began

    async def heard(self) -> dict[str, Any]:
        """
        Give what was heard since the last time.
        """
        late, self._counter.late_ns = sorted(self._counter.late_ns), []
        count, self._counter.count = self._counter.count, 0
        return {
            "count": count,
            "late_us": [ns // 1000 for ns in late[:: max(1, len(late) // 2000)]],
        }


def app() -> Load:
    """
    Make the application.
    """
    return Load()

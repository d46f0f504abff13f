"""
The way to the workers of other machines: a channel in Redis or Valkey, on which all of them are.

Theory of operation.  Each worker has two connections of its own.  On one it publishes: what was
said in a turn of the loop goes as one message of Redis, and while that is under way the next one
collects.  On the other it hears what all others publish; what comes from its own fleet it has had
by the primary, so it passes over that.  All channels of the bus go by the one of Redis: so a
subscription is a matter of this machine, the order of a publisher is kept over all channels, and
the numbers of the messages tell what is missing.

When a connection breaks, it is made again after growing pauses.  What is published meanwhile is
lost to other machines, as nobody knows for how long it will be; the number of a message counts on,
so the others know too.  Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import suppress
from random import uniform
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from twisted.logger import Logger

from stickyd.confirmation import Confirmation
from stickyd.errors import FrameError
from stickyd.messaging.frame import payload_in
from stickyd.messaging.parcel import NAME_BYTES, Numbers, pack, unpack
from stickyd.messaging.queue import QUEUE_BYTES, QUEUE_MESSAGES
from stickyd.net.throttle import Throttle
from stickyd.redis.connecting import connect, end_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio.connection import AbstractConnection

    from stickyd.messaging.interfaces import Deliver
    from stickyd.redis.url import RedisAddress

_PARCEL_MESSAGES = 1000
_PARCEL_BYTES = 512 * 1024

#: Seconds that Redis may take for one answer.
ANSWER_SECONDS = 2.0

#: Seconds without a message after which it is asked whether it is there still.
_QUIET_SECONDS = 5.0

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

#: Seconds for which losses are added up before the primary is told.
_TELLING_SECONDS = 1.0

#: Seconds between two lines in the log about one thing.
_SILENCE_SECONDS = 10.0

_BROKEN = (RedisError, OSError, EOFError, asyncio.TimeoutError)


def channel_of(address: RedisAddress) -> str:
    """
    The channel of Redis that all fleets of an application share.
    """
    return f"{address.prefix}bus"


async def ask(connection: AbstractConnection, *words: str | bytes) -> Any:
    """
    Send one command.

    :return: its answer.
    """
    await connection.send_command(*words, check_health=False)
    return await asyncio.wait_for(connection.read_response(), ANSWER_SECONDS)


class RedisWay:
    """
    The two connections of one worker.

    Made and used in the thread of the loop, unless a method says otherwise.
    """

    _log = Logger()

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: RedisAddress,
        deliver: Deliver,
        tell_lost: Callable[[int], object],
    ) -> None:
        """
        :param deliver: hands a message to our subscribers; never raises.
        :param tell_lost: called with how many messages were lost between machines.
        """
        self._loop = loop
        self._address = address
        self._deliver = deliver
        self._tell_lost = tell_lost
        self._fleet = b""
        self._worker = os.urandom(NAME_BYTES)
        self._numbers = Numbers()
        self._tasks: list[asyncio.Task[None]] = []
        self._away: dict[str, float] = {}  # the connections that are broken, and since when
        self._lost_so_far = 0
        self._throttle = Throttle(loop.time, _SILENCE_SECONDS)
        self._ready = Confirmation()
        self._is_ready = False
        # Of every thread, with the lock.
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, bytes]] = deque()  # by their numbers
        self._queue_bytes = 0
        self._number = 0
        self._lost = 0  # and not told yet
        self._sending = False
        self._refusing = False
        self._syncs: list[Confirmation] = []
        self._wake = asyncio.Event()

    def start(self, fleet: bytes) -> None:
        """
        Connect.

        :param fleet: the name of ours.
        """
        self._fleet = fleet
        for name, work in (("publish", self._publish), ("hear", self._hear)):
            self._tasks.append(self._loop.create_task(self._keep_at(name, work)))

    def ready(self) -> Confirmation:
        """
        Wait until we hear other machines, or know that we cannot for now.
        """
        return self._ready

    async def close(self) -> None:
        """
        End the connections.
        """
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._refuse()

    # from every thread

    def publish(self, frame: bytes) -> None:
        """
        Have a message sent to the other machines, or count it as lost.
        """
        with self._lock:
            queue, number = self._queue, self._number
            self._number = number + 1
            size_bytes = self._queue_bytes + len(frame)
            if (
                self._refusing
                or len(queue) >= QUEUE_MESSAGES
                or (size_bytes > QUEUE_BYTES and queue)
            ):
                self._lose(1)
                return
            queue.append((number, frame))
            self._queue_bytes = size_bytes
            if len(queue) == 1:
                self._loop.call_soon_threadsafe(self._wake.set)

    def sync(self) -> Confirmation:
        """
        Ask to be told when Redis has all that was published, or it is lost.
        """
        synced = Confirmation()
        with self._lock:
            idle = not self._queue and not self._sending
            if not idle:
                self._syncs.append(synced)
        if idle:
            synced.settle()
        return synced

    # in the loop's thread

    async def _keep_at(
        self, name: str, work: Callable[[AbstractConnection], Coroutine[Any, Any, None]]
    ) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            connection = None
            try:
                connection = await connect(self._address)
                await work(connection)
            except _BROKEN as problem:
                if name not in self._away:
                    pause_seconds = _FIRST_PAUSE_SECONDS
                self._miss(name, problem)
            finally:
                if connection is not None:
                    await end_connection(connection)
            await asyncio.sleep(uniform(0.5, 1.0) * pause_seconds)  # noqa: S311 (jitter)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    async def _publish(self, connection: AbstractConnection) -> None:
        channel = channel_of(self._address)
        await ask(connection, "PING")
        with self._lock:
            self._refusing = False
        self._have("publish")
        while True:
            while True:
                first, frames = self._take()
                if not frames:
                    break
                parcel = pack(self._fleet, self._worker, first, frames)
                try:
                    await ask(connection, "PUBLISH", channel, parcel)
                except BaseException:
                    # Perhaps it has come, and only the answer has not.
                    with self._lock:
                        self._lose(len(frames))
                    raise
            await self._wake.wait()
            self._wake.clear()

    def _take(self) -> tuple[int, list[bytes]]:
        """
        Take as much as goes at once.

        :return: the number of the first, and the frames.
        """
        with self._lock:
            queue, frames, size_bytes = self._queue, list[bytes](), 0
            first = queue[0][0] if queue else 0
            while queue and len(frames) < _PARCEL_MESSAGES:
                number, frame = queue[0]
                # Behind a gap begins another one.
                if frames and (
                    number != first + len(frames) or size_bytes + len(frame) > _PARCEL_BYTES
                ):
                    break
                queue.popleft()
                frames.append(frame)
                size_bytes += len(frame)
            self._queue_bytes -= size_bytes
            self._sending = bool(frames)
            syncs: list[Confirmation] = []
            if not frames:
                syncs, self._syncs = self._syncs, []
        for synced in syncs:
            synced.settle()
        return first, frames

    def _refuse(self) -> None:
        """
        Drop what waits, and take nothing more.
        """
        with self._lock:
            self._refusing = True
            self._lose(len(self._queue))
            self._queue.clear()
            self._queue_bytes = 0
            self._sending = False
            syncs, self._syncs = self._syncs, []
        for synced in syncs:
            synced.settle()

    async def _hear(self, connection: AbstractConnection) -> None:
        await ask(connection, "SUBSCRIBE", channel_of(self._address))
        self._have("hear")
        asked = False
        while True:
            told = await connection.read_response(timeout=_QUIET_SECONDS)
            if told is not None:
                asked = False
                if told[0] == b"message":
                    # Subscribers must not be taken for a part of this task.
                    self._loop.call_soon(self._take_in, told[2])
            elif asked:
                raise asyncio.TimeoutError
            else:
                asked = True
                await connection.send_command("PING", check_health=False)

    def _take_in(self, data: bytes) -> None:
        try:
            parcel = unpack(data)
        except FrameError as problem:
            if self._throttle.due("garbage"):
                self._log.error(
                    "In Redis somebody publishes to {channel!r} what is not ours: {problem}",
                    event="bus.redis-garbage",
                    channel=channel_of(self._address),
                    problem=problem,
                )
            return
        if parcel.fleet == self._fleet:
            return
        messages, lost = self._numbers.take(parcel)
        if lost:
            with self._lock:
                self._lose(lost)
            if self._throttle.due("gap"):
                self._log.warn(
                    "{lost} messages of another machine did not reach this worker",
                    event="bus.redis-lost",
                    lost=lost,
                )
        for message in messages:
            self._deliver(message[1], payload_in(message))

    # how it is

    def _have(self, name: str) -> None:
        since = self._away.pop(name, None)
        if since is not None and not self._away:
            self._log.info(
                "The Redis of the bus, {address}, answers again after {seconds:.1f} s; so far"
                " {lost} messages from or to this worker were lost between machines",
                event="bus.redis-back",
                address=self._address,
                seconds=self._loop.time() - since,
                lost=self._lost_so_far,
            )
        if name == "hear":
            self._settle_ready()

    def _miss(self, name: str, problem: BaseException) -> None:
        told = bool(self._away)
        self._away.setdefault(name, self._loop.time())
        if not told:
            self._log.error(
                "The Redis of the bus, {address}, is away: {reason}; until it answers, messages"
                " reach this machine's workers only",
                event="bus.redis-away",
                address=self._address,
                reason=reason_of(problem),
            )
        if name == "publish":
            self._refuse()
        self._settle_ready()

    def _settle_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self._ready.settle()

    def _lose(self, count: int) -> None:
        """
        Called with the lock, in every thread.
        """
        if count and not self._lost:
            self._loop.call_soon_threadsafe(
                self._loop.call_later, _TELLING_SECONDS, self._tell_losses
            )
        self._lost += count
        self._lost_so_far += count

    def _tell_losses(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        self._tell_lost(lost)


def reason_of(problem: BaseException) -> str:
    """
    Say in one line what is wrong with a connection.
    """
    if isinstance(problem, asyncio.TimeoutError):
        return f"no answer within {ANSWER_SECONDS:g} s"
    return " ".join(str(problem).split()) or type(problem).__name__

"""
One Redis server: its connection, and the batches that go over it.

Theory of operation.  What is asked for in one turn of the event loop goes together, as one
pipeline; one batch is under way, and what comes meanwhile makes the next.  So a server needs
one connection of a worker, a busy one gets large batches, and commands take effect in the
order in which they were given.

When the connection fails, nothing is known of the batch that was under way, so it is sent
again on another: every command can be repeated, see :mod:`stickyd.sessions.stores.redis_scripts`.
A connection that had been used may have been closed long ago, so the first time it is sent
again at once.  After that the server is *away*: it is tried with growing pauses, and when it
has been away for the time of grace, all who wait are told so, and who comes later at once,
until it answers again.

The class is as long as that: queue, batch and absence are one order of things.
"""

from __future__ import annotations

import asyncio
import sys
from random import uniform
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from twisted.logger import Logger

from stickyd.errors import StoreAway
from stickyd.net.throttle import Throttle
from stickyd.sessions.stores.redis_scripts import SCRIPTS, TOO_LATE
from stickyd.sessions.stores.redis_wire import converse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from stickyd.sessions.stores.redis_command import RedisCommand
    from stickyd.sessions.stores.redis_policy import LinkPolicy

#: Commands of one batch at most, so that its answer is not late for its size alone.
_BATCH_COMMANDS = 500

#: Bytes of one batch, unless a single command has more.
_BATCH_BYTES = 4 * 1024 * 1024

#: Commands that may wait: who comes then is told that the store is away.
_QUEUE_COMMANDS = 10_000

#: Seconds after which a server that has not answered a batch is taken for away.
_ANSWER_SECONDS = 2.0

_FIRST_PAUSE_SECONDS = 0.05

_LONGEST_PAUSE_SECONDS = 1.0

#: Seconds for which the log is told of no other absence: a server that comes and goes.
_QUIET_SECONDS = 5.0

#: What a server says that does not work as a whole, or has lost the scripts: another
#: connection may find it well.
_AWAY = (ReadOnlyError, ClusterDownError, TryAgainError, NoScriptError)

#: The same by its first word, of what has no class of its own, or comes out of a script.
_AWAY_WORDS = ("BUSY", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "UNBLOCKED")

#: What a server says that takes no writes, and goes on saying.
_REFUSED_WORDS = ("MISCONF", "NOREPLICAS", "OOM")


class RedisLink:
    """
    What is sent to one server.

    :ivar name: the server's address, for the log.
    """

    _log = Logger()

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        connection: Callable[[], Awaitable[AbstractConnection]],
        policy: LinkPolicy,
        reroute: Callable[[RedisLink, list[RedisCommand]], Awaitable[list[RedisCommand] | None]],
        redirect: Callable[[RedisLink, list[tuple[RedisCommand, AskError]]], object],
    ) -> None:
        """
        :param connection: makes a connection, which the link opens and ends.
        :param reroute: called with what waits, in order, when the server is away; gives what
            still belongs here, or :obj:`None` if nothing ever will.
        :param redirect: called with what belongs to another server, in order.
        """
        self.name = name
        self._loop = loop
        self._make_connection = connection
        self._policy = policy
        self._answer_seconds = _ANSWER_SECONDS
        if policy.wait_replicas:
            self._answer_seconds += policy.wait_ms / 1000
        self._reroute = reroute
        self._redirect = redirect
        self._queue: list[RedisCommand] = []
        self._under_way: list[RedisCommand] = []
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None
        self._late = False
        self._used = False  # whether anything was answered on the connection
        self._server_ahead_ms = 0.0  # of the loop's clock
        self._away_since: float | None = None
        self._given_up = False
        self._reason = ""
        self._told = False
        self._throttle = Throttle(loop.time, _QUIET_SECONDS)
        self._give_up_call: asyncio.TimerHandle | None = None
        self._pause_seconds = 0.0
        self._closed = False

    def submit(self, command: RedisCommand) -> None:
        """
        Send a command with the next batch.
        """
        if self._closed or self._given_up:
            command.answer(self._away_error())
            return
        if len(self._queue) >= _QUEUE_COMMANDS:
            command.answer(StoreAway(f"too many commands wait for the Redis at {self.name}"))
            return
        self._queue.append(command)
        if self._task is None:
            # It begins in the next turn: until then the others of this turn come along.
            self._task = self._loop.create_task(self._run())

    def take_queued(self, keys: set[bytes]) -> list[RedisCommand]:
        """
        Take out what waits for the next batch and is on one of these keys.
        """
        taken = [command for command in self._queue if command.key in keys]
        if taken:
            self._queue = [command for command in self._queue if command.key not in keys]
        return taken

    @property
    def is_away(self) -> bool:
        """
        Whether the server did not answer when it was asked last.
        """
        return self._away_since is not None

    async def close(self) -> None:
        """
        Have done what was asked for, unless the server is away, and end the connection.
        """
        self._closed = True
        task = self._task
        if task is not None and task is not asyncio.current_task():
            if self._away_since is None:
                await asyncio.wait([task], timeout=self._answer_seconds)
            task.cancel()
        if self._give_up_call is not None:
            self._give_up_call.cancel()
        self._tell_all_away()
        await self._drop(nowait=False)

    # batches

    async def _run(self) -> None:
        while self._queue or (self._away_since is not None and not self._closed):
            self._under_way = self._take_batch()
            began = self._loop.time()
            used = self._used
            try:
                answers = await self._exchange_in_time()
            except (RedisError, OSError, EOFError, asyncio.TimeoutError) as error:
                reason = str(error) or f"no answer within {self._answer_seconds:g} s"
            except Exception as error:  # noqa: BLE001 -- all would wait for ever
                self._log.failure(
                    "sessions: a batch for the Redis at {name}",
                    event="store.failed",
                    name=self.name,
                )
                reason = repr(error)
            else:
                reason = self._take_answers(*answers)
                if not reason:
                    self._back()
                    continue
            await self._drop()
            # What had been used may have been closed long ago; another is tried at once.
            if not used:
                self._away(began, reason)
                await self._pause()
            waiting = [command for command in self._under_way if not command.reply.called]
            if not used:
                # Who comes meanwhile comes later.
                self._under_way, self._queue = waiting + self._queue, []
                rerouted = await self._reroute(self, self._under_way)
                if rerouted is None and not self._queue:
                    self._under_way = []
                    self._forget_away()
                    break
                waiting = [command for command in rerouted or () if not command.reply.called]
            self._queue = waiting + self._queue
            self._under_way = []
        self._task = None

    async def _exchange_in_time(self) -> tuple[list[Any], int]:
        """
        As :meth:`_exchange`, but for no longer than a server may take.

        As :func:`asyncio.wait_for`, which makes a task for each call: a fifth of what a small
        batch costs.

        :raises TimeoutError: the time is over.
        """
        self._late = False
        task = asyncio.current_task()
        assert task is not None
        timer = self._loop.call_later(self._answer_seconds, self._stop_waiting, task)
        try:
            return await self._exchange()
        except asyncio.CancelledError:
            if not self._late:
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            raise asyncio.TimeoutError from None
        finally:
            timer.cancel()

    def _stop_waiting(self, task: asyncio.Task[None]) -> None:
        self._late = True
        task.cancel()

    def _take_batch(self) -> list[RedisCommand]:
        size = 0
        for number, command in enumerate(self._queue[:_BATCH_COMMANDS]):
            size += command.size
            if size > _BATCH_BYTES and number:
                break
        else:
            number = _BATCH_COMMANDS
        batch = self._queue[:number]
        del self._queue[:number]
        return batch

    async def _exchange(self) -> tuple[list[Any], int]:
        """
        Send what is under way, or a ``PING`` if there is nothing.

        :return: the replies, and how many replicas have the writes.
        """
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._make_connection()
            await connection.connect()
            await self._prepare(connection)
        words: list[Sequence[Any]] = []
        for command in self._under_way:
            command.attempts += 1
            if command.asking:
                words.append(("ASKING",))
            if command.fenced:
                until = self._loop.time() + self._answer_seconds
                command.words[-1] = int(until * 1000 + self._server_ahead_ms)
            words.append(command.words)
        replicas = self._policy.wait_replicas
        waits = replicas > 0 and any(command.writes for command in self._under_way)
        if waits:
            words.append(("WAIT", replicas, self._policy.wait_ms))
        answers = await converse(connection, words or [("PING",)])
        had = answers.pop() if waits else replicas
        replies = []
        given = iter(answers)
        for command in self._under_way:
            if command.asking:
                next(given)
            replies.append(next(given))
        return replies, had if isinstance(had, int) else 0

    async def _prepare(self, connection: AbstractConnection) -> None:
        began = self._loop.time()
        load = [("SCRIPT", "LOAD", script) for script in SCRIPTS]
        *loaded, role, time = await converse(connection, [*load, ("ROLE",), ("TIME",)])
        for answer in (*loaded, time):
            if isinstance(answer, ResponseError):
                raise answer
        # Who may not ask for the role is told with the first write.
        if isinstance(role, list) and role[0] == b"slave" and not self._policy.of_cluster:
            raise ReadOnlyError("it is a replica, which takes no writes")
        seconds, microseconds = time
        self._server_ahead_ms = int(seconds) * 1000 + int(microseconds) / 1000 - began * 1000

    # answers

    def _take_answers(self, replies: list[Any], had: int) -> str:
        """
        Give each command its answer.

        :return: why some of what is under way must be sent again; empty if all is done.
        """
        self._used = True
        elsewhere: list[tuple[RedisCommand, AskError]] = []
        again: list[RedisCommand] = []
        reason = ""
        for command, reply in zip(self._under_way, replies, strict=True):
            command.asking = False
            if isinstance(reply, ResponseError):
                command.attempts -= 1  # it was refused
            if isinstance(reply, AskError):
                if not command.reply.called:
                    elsewhere.append((command, reply))
            elif _is_away(reply) or (command.fenced and reply == TOO_LATE):
                again.append(command)
                reason = _wording(reply)
            elif isinstance(reply, OutOfMemoryError) or _begins(reply, _REFUSED_WORDS):
                command.answer(
                    StoreAway(f"the Redis at {self.name} takes no writes: {_wording(reply)}")
                )
            elif command.writes and had < self._policy.wait_replicas and _has_written(reply):
                command.answer(self._not_replicated(had))
            else:
                command.answer(reply)
        self._under_way = again
        if elsewhere:
            self._redirect(self, elsewhere)
        return reason

    def _not_replicated(self, had: int) -> StoreAway:
        wanted = self._policy.wait_replicas
        return StoreAway(
            f"the Redis at {self.name} has written it, but {had} of {wanted} replicas have said so"
            f" within {self._policy.wait_ms} ms (wait={wanted})"
        )

    # a server that is away

    def _away(self, began: float, reason: str) -> None:
        self._reason = reason
        if self._away_since is not None:
            return
        self._away_since = began
        grace = self._policy.grace_seconds
        self._give_up_call = self._loop.call_at(began + grace, self._give_up)
        self._told = self._throttle.due()
        if not self._told:
            return
        self._log.warn(
            "sessions: the Redis at {name} is away ({reason}); it is tried for {grace:g} s"
            " before requests fail",
            event="store.away",
            name=self.name,
            reason=reason,
            grace=grace,
        )

    def _back(self) -> None:
        if self._away_since is None:
            return
        if self._told:
            self._log_return(self._away_since)
        self._forget_away()

    def _log_return(self, since: float) -> None:
        self._log.info(
            "sessions: the Redis at {name} is there again after {seconds:.1f} s",
            event="store.back",
            name=self.name,
            seconds=self._loop.time() - since,
        )

    def _forget_away(self) -> None:
        self._away_since = None
        self._given_up = False
        self._pause_seconds = 0.0
        if self._give_up_call is not None:
            self._give_up_call.cancel()
            self._give_up_call = None

    def _give_up(self) -> None:
        self._give_up_call = None
        self._given_up = True
        self._tell_all_away()

    def _tell_all_away(self) -> None:
        queue, self._queue = self._queue, []
        for command in (*self._under_way, *queue):
            command.answer(self._away_error())

    def _away_error(self) -> StoreAway:
        if self._closed:
            return StoreAway(f"the connection to the Redis at {self.name} was closed")
        return StoreAway(f"the Redis at {self.name} is away: {self._reason}")

    async def _pause(self) -> None:
        longer = max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds)
        self._pause_seconds = min(longer, _LONGEST_PAUSE_SECONDS)
        # So that the workers do not come all at once.
        await asyncio.sleep(self._pause_seconds * uniform(0.5, 1.0))  # noqa: S311 -- no secret

    async def _drop(self, nowait: bool = True) -> None:
        connection, self._connection = self._connection, None
        self._used = False
        if connection is not None:
            try:
                await connection.disconnect(nowait=nowait)
            except (RedisError, OSError):
                pass  # it has ended otherwise, or takes too long to


def _is_away(reply: Any) -> bool:
    return isinstance(reply, _AWAY) or _begins(reply, _AWAY_WORDS)


def _begins(reply: Any, words: tuple[str, ...]) -> bool:
    if not isinstance(reply, ResponseError):
        return False
    text = str(reply)
    # Redis 6 tells what was said to a script behind its own words, and a hyphen.
    return any(text.startswith(word) or f" -{word} " in text for word in words)


def _has_written(reply: Any) -> bool:
    return not isinstance(reply, Exception) and (not isinstance(reply, int) or reply > 0)


def _wording(reply: Any) -> str:
    if reply == TOO_LATE:
        return "its clock was set"
    return f"{getattr(reply, 'status_code', None) or ''} {reply}".strip()

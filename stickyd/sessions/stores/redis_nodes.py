"""
Which Redis server has a key: one, the one that Sentinels name, or a node of a Cluster.
"""

from __future__ import annotations

import asyncio
from random import sample
from typing import TYPE_CHECKING, Any, Protocol

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import MovedError, RedisError
from twisted.logger import Logger

from stickyd.errors import StoreAway
from stickyd.redis.connecting import (
    close_sentinel,
    end_connection,
    find_primary,
    make_connection,
    make_sentinel,
)
from stickyd.redis.url import show_host
from stickyd.sessions.stores.redis_link import RedisLink

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection
    from redis.asyncio.sentinel import Sentinel
    from redis.exceptions import AskError

    from stickyd.redis.url import RedisAddress
    from stickyd.sessions.stores.redis_command import RedisCommand
    from stickyd.sessions.stores.redis_policy import LinkPolicy

#: Seconds for a node that is asked where.
_ASK_SECONDS = 0.5

#: How often one command may be sent on before the nodes are taken to disagree.
_MOST_HOPS = 25

_Host = tuple[str, int]


class RedisNodes(Protocol):
    """
    Sends each command to the server that has its key.
    """

    @property
    def is_away(self) -> bool:
        """
        Whether a server does not answer.
        """

    def submit(self, command: RedisCommand) -> None:
        """
        Send a command.
        """

    async def close(self) -> None:
        """
        End all connections.
        """


def make_nodes(
    loop: asyncio.AbstractEventLoop, address: RedisAddress, policy: LinkPolicy
) -> RedisNodes:
    """
    Make what an address asks for.  It connects with the first command.
    """
    if address.form == "cluster":
        return ClusterNodes(loop, address, policy)
    return OneServer(loop, address, policy)


class OneServer:
    """
    One server, or the one that Sentinels name whenever a connection is made.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: RedisAddress, policy: LinkPolicy
    ) -> None:
        self._address = address
        self._sentinel: Sentinel | None = None
        name = show_host(*address.hosts[0])
        if address.form == "sentinel":
            name = f"{address.service!r} of the Sentinels"
            self._sentinel = make_sentinel(address)
        self._link = RedisLink(loop, name, self._connection, policy, _stay, _redirected)

    @property
    def is_away(self) -> bool:
        return self._link.is_away

    def submit(self, command: RedisCommand) -> None:
        self._link.submit(command)

    async def _connection(self) -> AbstractConnection:
        host, port = self._address.hosts[0]
        if self._sentinel is not None:
            host, port = await find_primary(self._sentinel, self._address.service)
        return make_connection(self._address, host, port)

    async def close(self) -> None:
        await self._link.close()
        if self._sentinel is not None:
            await close_sentinel(self._sentinel)


async def _stay(link: RedisLink, commands: list[RedisCommand]) -> list[RedisCommand]:
    return commands


def _redirected(link: RedisLink, commands: list[tuple[RedisCommand, AskError]]) -> None:
    for command, _ in commands:
        command.answer(
            StoreAway(f"the Redis at {link.name} is a node of a Cluster: write redis+cluster://…")
        )


class ClusterNodes:
    """
    The nodes of a Cluster.

    The map of slots is asked for at the start, when a node is away, and when one says that a
    slot has moved.  While commands on a key are under way, later ones take the same way, so
    that none overtakes.
    """

    _log = Logger()

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: RedisAddress, policy: LinkPolicy
    ) -> None:
        self._loop = loop
        self._address = address
        self._policy = policy
        self._slots: list[_Host | None] = []
        self._links: dict[_Host, RedisLink] = {}
        # By key: where its commands go while some are under way, and how many those are.
        self._lanes: dict[bytes, tuple[RedisLink, int]] = {}
        self._waiting: list[RedisCommand] = []
        self._refreshing: asyncio.Task[bool] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._problem = ""
        self._closed = False

    @property
    def is_away(self) -> bool:
        return any(link.is_away for link in self._links.values())

    def submit(self, command: RedisCommand) -> None:
        if self._closed:
            command.answer(StoreAway("the connections to the Redis Cluster were closed"))
        elif self._slots and not self._waiting:
            self._send(command)
        else:
            self._waiting.append(command)
            if self._starting is None:
                self._starting = self._loop.create_task(self._start())

    async def close(self) -> None:
        self._closed = True
        for task in (self._starting, self._refreshing):
            if task is not None:
                task.cancel()
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            command.answer(StoreAway("the connections to the Redis Cluster were closed"))
        for link in list(self._links.values()):
            await link.close()

    # where a key is

    def _send(self, command: RedisCommand) -> None:
        lane = self._lanes.get(command.key)
        if lane is None:
            link = self._link_for(command.key)
            self._lanes[command.key] = link, 1
        else:
            link = lane[0]
            self._lanes[command.key] = link, lane[1] + 1
        command.reply.addBoth(self._done, command.key)
        link.submit(command)

    def _done(self, reply: Any, key: bytes) -> Any:
        link, count = self._lanes[key]
        if count > 1:
            self._lanes[key] = link, count - 1
        else:
            del self._lanes[key]
        return reply

    def _link_for(self, key: bytes) -> RedisLink:
        # A slot that nobody has: any node says that the Cluster is down.
        host = self._slots[key_slot(key)] or next(host for host in self._slots if host)
        return self._link_to(host)

    def _link_to(self, host: _Host) -> RedisLink:
        link = self._links.get(host)
        if link is None:

            async def connection() -> AbstractConnection:
                return make_connection(self._address, *host)

            link = self._links[host] = RedisLink(
                self._loop,
                show_host(*host),
                connection,
                self._policy,
                self._reroute,
                self._redirect,
            )
        return link

    async def _reroute(
        self, link: RedisLink, commands: list[RedisCommand]
    ) -> list[RedisCommand] | None:
        await self._refresh()
        stay = []
        for command in commands:
            target = self._link_for(command.key)
            if command.reply.called:
                continue
            if target is link:
                stay.append(command)
            else:
                self._lanes[command.key] = target, self._lanes[command.key][1]
                target.submit(command)
        if not stay and link not in map(self._links.get, set(self._slots)):  # type: ignore[arg-type]
            return None
        return stay

    def _redirect(self, link: RedisLink, commands: list[tuple[RedisCommand, AskError]]) -> None:
        targets: dict[bytes, tuple[RedisLink, bool]] = {}
        refresh = False
        sent_on = []
        for command, error in commands:
            # A node that does not know its own name leaves it out.
            host = error.host or link.name.rpartition(":")[0].strip("[]"), error.port
            moved = isinstance(error, MovedError)
            if moved:
                self._slots[error.slot_id] = host
                refresh = True
            targets[command.key] = self._link_to(host), not moved
            command.hops += 1
            sent_on.append(command)
        # What waits behind them on the same keys goes along.
        for command in (*sent_on, *link.take_queued(set(targets))):
            target, asking = targets[command.key]
            command.asking = asking
            self._lanes[command.key] = target, self._lanes[command.key][1]
            if command.hops <= 3:
                target.submit(command)
            elif command.hops <= _MOST_HOPS:
                self._loop.call_later(0.02 * command.hops, target.submit, command)
            else:
                command.answer(StoreAway("the nodes of the Redis Cluster disagree about a slot"))
        if refresh:
            self._refresh()

    # the map of slots

    async def _start(self) -> None:
        began = self._loop.time()
        while not await self._refresh():
            if self._loop.time() - began > self._policy.grace_seconds:
                break
            await asyncio.sleep(0.2)
        self._starting = None
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            if self._slots:
                self._send(command)
            else:
                command.answer(StoreAway(f"the Redis Cluster is away: {self._problem}"))

    def _refresh(self) -> asyncio.Future[bool]:
        """
        Ask for the map; all who ask meanwhile share the answer.

        :return: whether there was one.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._loop.create_task(self._ask())
        return asyncio.shield(self._refreshing)

    async def _ask(self) -> bool:
        known = list({host for host in self._slots if host is not None})
        for host in [*sample(known, len(known)), *self._address.hosts]:
            connection = make_connection(self._address, *host)
            try:
                slots = await asyncio.wait_for(ask_slots(connection, host[0]), _ASK_SECONDS)
            except (RedisError, OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
                self._problem = str(error) or "no answer"
                continue
            finally:
                await end_connection(connection)
            if any(slots):
                self._slots = slots
                return True
        return False


async def ask_slots(connection: AbstractConnection, host: str) -> list[_Host | None]:
    """
    Ask a node who has each slot.

    :param host: the node's; the caller ends the connection.
    :raise ValueError: it answers something else.
    """
    await connection.connect()
    await connection.send_command("CLUSTER SLOTS", check_health=False)
    return read_slots(await connection.read_response(), host)


def read_slots(answer: Any, asked: str) -> list[_Host | None]:
    """
    Read what ``CLUSTER SLOTS`` answers.

    :param asked: the host that has answered: it may not know its own name.
    :return: who has each slot.
    :raise ValueError: it is something else.
    """
    slots: list[_Host | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    try:
        for first, last, primary, *_ in answer:
            name = primary[0].decode() if primary[0] else asked
            host = asked if name == "?" else name, int(primary[1])
            slots[first : last + 1] = [host] * (last + 1 - first)
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"no map of slots: {error}") from error
    if len(slots) != REDIS_CLUSTER_HASH_SLOTS:
        raise ValueError("no map of slots: it has others than there are")
    return slots

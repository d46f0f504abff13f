"""
Making connections to Redis and Valkey, by redis-py.
"""

from __future__ import annotations

from random import shuffle
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from stickyd.redis.url import RedisAddress

#: Seconds for a connection to a server, and for a Sentinel that is asked where.
CONNECT_SECONDS = 1.5

_ASK_SECONDS = 0.5


def make_connection(address: RedisAddress, host: str, port: int) -> AbstractConnection:
    """
    Make a connection to a server.
    """
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "db": address.database,
        "username": address.user or None,
        "password": address.password or None,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": None,  # a batch has a time as a whole
        "socket_keepalive": True,
        "retry": _no_retry(),
        "health_check_interval": 0,
        "client_name": "stickyd",
        "protocol": 2,
    }
    if not address.tls:
        return Connection(**options)
    return SSLConnection(**options, ssl_cert_reqs="required", ssl_ca_certs=address.ca or None)


def make_sentinel(address: RedisAddress) -> Sentinel:
    """
    Make what asks Sentinels; the caller closes it.
    """
    options: dict[str, Any] = {
        "username": address.sentinel_user or None,
        "password": address.sentinel_password or None,
        "socket_timeout": _ASK_SECONDS,
        "socket_connect_timeout": _ASK_SECONDS,
        "retry": _no_retry(),
        "protocol": 2,
    }
    if address.tls:
        options.update(ssl=True, ssl_ca_certs=address.ca or None)
    return Sentinel(address.hosts, sentinel_kwargs=options)


async def end_connection(connection: AbstractConnection) -> None:
    """
    End a connection, and wait until it has: TLS takes its leave.
    """
    try:
        await connection.disconnect()
    except (RedisError, OSError):
        pass  # it has ended otherwise


async def find_primary(sentinel: Sentinel, service: str) -> tuple[str, int]:
    """
    Ask one Sentinel after the other who the primary is.

    As the library's ``discover_master``, whose error has all that it was made with.

    :raises redis.exceptions.AuthenticationError: one refuses the password, and none knows.
    :raises redis.exceptions.ConnectionError: none knows.
    """
    problem: RedisError | None = None
    for client in list(sentinel.sentinels):
        try:
            known: Any = await client.sentinel_masters()
        except RedisError as error:
            problem = error
            continue
        state = known.get(service)
        if state is not None and sentinel.check_master_state(state, service):
            # It is asked first from now on.
            sentinel.sentinels.remove(client)
            sentinel.sentinels.insert(0, client)
            return state["ip"], state["port"]
        told = "says that it is down" if state else "does not know it"
        problem = problem or RedisConnectionError(f"a Sentinel {told}")
    if isinstance(problem, AuthenticationError):
        raise problem
    raise RedisConnectionError(f"no Sentinel names the primary of {service!r}: {problem}")


async def close_sentinel(sentinel: Sentinel) -> None:
    """
    Close what asks Sentinels.
    """
    for client in sentinel.sentinels:
        await client.aclose()


def _no_retry() -> Retry:
    # To try again is ours.
    return Retry(NoBackoff(), 0)


async def connect(address: RedisAddress) -> AbstractConnection:
    """
    Connect to the server, to the one that the Sentinels name, or to some node of the Cluster.

    :return: the caller ends it.
    :raises redis.exceptions.RedisError: if that cannot be, or it refuses the password.
    :raises OSError: the same.
    """
    hosts = list(address.hosts)
    if address.form == "sentinel":
        sentinel = make_sentinel(address)
        try:
            hosts = [await find_primary(sentinel, address.service)]
        finally:
            await close_sentinel(sentinel)
    shuffle(hosts)
    problem: Exception = RedisConnectionError("no host")
    for host, port in hosts:
        connection = make_connection(address, host, port)
        try:
            await connection.connect()
        except (RedisError, OSError) as error:
            problem = error
            await end_connection(connection)
        else:
            return connection
    raise problem

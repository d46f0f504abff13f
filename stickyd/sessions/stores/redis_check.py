"""
What an operator should know of a Redis before sessions are entrusted to it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from stickyd.errors import SettingError
from stickyd.redis.connecting import (
    close_sentinel,
    end_connection,
    find_primary,
    make_connection,
    make_sentinel,
)
from stickyd.redis.url import show_host
from stickyd.sessions.stores.redis_nodes import ask_slots
from stickyd.sessions.stores.redis_scripts import DELETE

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from stickyd.redis.url import RedisAddress

_OLDEST = (6, 0)

#: Seconds for all questions to one server.
_SECONDS = 3.0

#: Seconds between its clock and ours that are worth a word.
_SKEW_SECONDS = 1.0

_UNREACHABLE = (RedisError, OSError, EOFError, asyncio.TimeoutError)


async def check_server(address: RedisAddress) -> None:
    """
    Look whether this is a server that can ever be used.  One that is away is: it may come back.

    :raise stickyd.errors.SettingError: it is not.
    """
    try:
        async for _ in _primaries(address):
            pass
    except _UNREACHABLE:
        return


async def look_for_faults(address: RedisAddress) -> list[str]:
    """
    Look for settings by which sessions are lost.

    :return: a line for each.
    :raise stickyd.errors.SettingError: it cannot be used, or reached.
    """
    faults: list[str] = []
    # Not when a worker starts: a resolver that is away comes back.
    await _check_names(address)
    try:
        async for name, facts, skew_seconds in _primaries(address):
            found = faults_of(address, facts, skew_seconds)
            faults.extend(f"the Redis at {name}: {fault}" for fault in found)
    except _UNREACHABLE as problem:
        reason = str(problem) or f"no answer within {_SECONDS:g} s"
        raise SettingError(f"--sessions {address}: it cannot be reached: {reason}") from None
    return faults


async def _primaries(address: RedisAddress) -> Any:
    """
    Ask every primary.

    :return: name, what it says of itself, by how many seconds its clock is ahead, of each.
    """
    _check_ca(address)
    for host, port in await _addresses(address):
        name = show_host(host, port)
        connection = make_connection(address, host, port)
        try:
            facts, skew_seconds = await asyncio.wait_for(_talk(address, name, connection), _SECONDS)
        finally:
            await end_connection(connection)
        _check_facts(address, name, facts)
        yield name, facts, skew_seconds


async def _addresses(address: RedisAddress) -> list[tuple[str, int]]:
    if address.form == "sentinel":
        sentinel = make_sentinel(address)
        try:
            return [await find_primary(sentinel, address.service)]
        except AuthenticationError as problem:
            raise _wrong_password(address, "a Sentinel", problem) from None
        finally:
            await close_sentinel(sentinel)
    if address.form == "server":
        return [address.hosts[0]]
    failure: BaseException | None = None
    for host, port in address.hosts:
        connection = make_connection(address, host, port)
        try:
            slots = await asyncio.wait_for(ask_slots(connection, host), _SECONDS)
        except AuthenticationError as refused:
            raise _wrong_password(address, show_host(host, port), refused) from None
        except ResponseError as refused:
            raise SettingError(
                f"--sessions {address}: {show_host(host, port)} is no node of a Cluster"
                f" ({refused}); write redis://… for a server that stands alone"
            ) from None
        except _UNREACHABLE as away:
            failure = away
        else:
            return sorted({node for node in slots if node is not None})
        finally:
            await end_connection(connection)
    assert failure is not None
    raise failure


async def _talk(
    address: RedisAddress, name: str, connection: AbstractConnection
) -> tuple[dict[str, str], float]:
    try:
        await connection.connect()
        facts = _read_info(await _ask(connection, "INFO"))
        _check_release(address, name, facts)
        # Whether the user may do what sessions take; nobody has such a key.
        words = ("EVAL", DELETE, "1", f"{address.prefix}check", "0", "")
        try:
            await _ask(connection, *words)
        except MovedError:
            pass  # this node may be asked, and does not have it
        began = time.time()
        seconds, microseconds = await _ask(connection, "TIME")
        middle = (began + time.time()) / 2
    except AuthenticationError as problem:
        raise _wrong_password(address, name, problem) from None
    except NoPermissionError as problem:
        raise _forbidden(address, problem) from None
    except InvalidResponse:
        raise SettingError(f"--sessions {address}: what answers at {name} is no Redis") from None
    except ResponseError as problem:
        # Within a script it is told as that script's error.
        if "permission" in str(problem) or "can't access" in str(problem):
            raise _forbidden(address, problem) from None
        raise SettingError(f"--sessions {address}: the Redis at {name} says: {problem}") from None
    except RedisError as problem:
        if isinstance(problem.__context__, ssl.SSLError):
            raise SettingError(
                f"--sessions {address}: TLS with {name} fails: {problem.__context__}; name the"
                " certificates that sign its own with ?ca=FILE, or write redis://… if it has no"
                " TLS"
            ) from None
        raise
    return facts, int(seconds) + int(microseconds) / 1e6 - middle


async def _ask(connection: AbstractConnection, *words: str) -> Any:
    await connection.send_command(*words, check_health=False)
    return await connection.read_response()


def _read_info(text: bytes) -> dict[str, str]:
    lines = text.decode(errors="replace").splitlines()
    return {
        name: value
        for name, found, value in (line.partition(":") for line in lines)
        if found and not name.startswith("#")
    }


async def _check_names(address: RedisAddress) -> None:
    """
    Look whether the hosts are known; of several, one is enough.
    """
    loop = asyncio.get_running_loop()
    problem = ""
    for host, port in address.hosts:
        try:
            await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as unknown:
            problem = f"{host}: {unknown.strerror}"
        else:
            return
    raise SettingError(
        f"--sessions {address}: the host does not resolve: {problem}; write one that does, or"
        " its address"
    )


def _check_ca(address: RedisAddress) -> None:
    if address.ca:
        try:
            ssl.create_default_context(cafile=address.ca)
        except OSError as problem:
            no_file = not isinstance(problem, ssl.SSLError)
            reason = problem.strerror if no_file else "there is no certificate in it"
            raise SettingError(
                f"--sessions {address}: ca={address.ca}: {reason}; name a file of certificates in"
                " PEM"
            ) from None


def _check_release(address: RedisAddress, name: str, facts: dict[str, str]) -> None:
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        raise SettingError(
            f"--sessions {address}: the Redis at {name} is of release {version or '?'}; it must be"
            f" {_OLDEST[0]}.{_OLDEST[1]} or later"
        )


def _check_facts(address: RedisAddress, name: str, facts: dict[str, str]) -> None:
    clustered = facts.get("cluster_enabled") == "1"
    if clustered and address.form == "server":
        raise SettingError(
            f"--sessions {address}: the Redis at {name} is a node of a Cluster; write"
            f" redis+cluster://{name}"
        )
    if address.form == "server" and facts.get("role") == "slave":
        primary = f"{facts.get('master_host')}:{facts.get('master_port')}"
        raise SettingError(
            f"--sessions {address}: the Redis at {name} is a replica of {primary}; write the"
            " primary, or redis+sentinel://…"
        )


def faults_of(address: RedisAddress, facts: dict[str, str], skew_seconds: float) -> list[str]:
    """
    Say by what a server may lose sessions.

    :param facts: what ``INFO`` says of it.
    :param skew_seconds: by how many its clock is ahead of ours.
    """
    faults = []
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        faults.append(
            f"maxmemory-policy {policy} removes sessions in silence when the memory is full; set"
            " noeviction"
        )
    if facts.get("aof_enabled") == "0":
        faults.append(
            "appendonly no: what was written since its last snapshot is lost when it ends; set"
            " appendonly yes"
        )
    if abs(skew_seconds) > _SKEW_SECONDS:
        faults.append(
            f"its clock is {abs(skew_seconds):.1f} s {'ahead of' if skew_seconds > 0 else 'behind'}"
            " ours; keep both right by NTP"
        )
    replicas = int(facts.get("connected_slaves", "0"))
    if replicas < address.wait_replicas:
        faults.append(
            f"it has {replicas} replicas, but wait={address.wait_replicas}: no write would be"
            " acknowledged"
        )
    return faults


def _forbidden(address: RedisAddress, problem: Exception) -> SettingError:
    return SettingError(
        f"--sessions {address}: the user may not do what sessions take ({problem}); allow"
        f" ~{address.prefix}* +@hash +@scripting +@connection +info +time +role +del +pexpire"
        " +persist +wait, and in a Cluster +cluster|slots"
    )


def _wrong_password(address: RedisAddress, name: str, problem: Exception) -> SettingError:
    return SettingError(
        f"--sessions {address}: {name} refuses the password or the user ({problem}); write them as"
        f" redis://USER:PASSWORD@…, or redis://:PASSWORD@… without a user"
    )

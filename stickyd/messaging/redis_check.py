"""
Trying a Redis before the bus is entrusted to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from stickyd.errors import SettingError
from stickyd.messaging.parcel import NAME_BYTES, pack
from stickyd.messaging.redis_way import ask, channel_of, reason_of
from stickyd.redis.connecting import connect, end_connection

if TYPE_CHECKING:
    from stickyd.redis.url import RedisAddress

_SECONDS = 5.0


async def check_redis(address: RedisAddress) -> None:
    """
    Connect, subscribe, and publish what nobody takes notice of.

    :raises SettingError: says what does not work, without the password.
    """
    channel = channel_of(address)
    nobody = bytes(NAME_BYTES)
    try:
        await asyncio.wait_for(_try(address, channel, pack(nobody, nobody, 0, [])), _SECONDS)
    except AuthenticationError:
        # What the server says has no password in it, but who knows of a proxy.
        raise SettingError(
            f"--bus {address}: it refuses the user or the password; write"
            " redis://USER:PASSWORD@HOST, or redis://:PASSWORD@HOST if there is only a password"
        ) from None
    except NoPermissionError:
        raise SettingError(
            f"--bus {address}: the user may not publish and subscribe there: give it"
            f" +publish +subscribe +ping +client +select &{channel}"
        ) from None
    except ResponseError as problem:
        raise SettingError(
            f"--bus {address}: it is no Redis or Valkey that can carry the bus: {problem}"
        ) from None
    except (RedisError, OSError, EOFError, asyncio.TimeoutError) as problem:
        raise SettingError(f"--bus {address}: it cannot be reached: {reason_of(problem)}") from None


async def _try(address: RedisAddress, channel: str, parcel: bytes) -> None:
    connection = await connect(address)
    try:
        await ask(connection, "PING")
        await ask(connection, "PUBLISH", channel, parcel)
        await ask(connection, "SUBSCRIBE", channel)
    finally:
        await end_connection(connection)

"""
What carries the bus between machines: ``--bus``.
"""

from __future__ import annotations

from stickyd.errors import SettingError
from stickyd.redis.url import BUS_OPTIONS, RedisAddress, read_redis_url

#: The value that keeps the bus on this machine.
LOCAL = "local"


def read_bus_url(text: str) -> RedisAddress | None:
    """
    Read the setting.

    :return: None if the bus ends at this machine.
    :raises SettingError: if it means nothing.  The message has nothing of what may be a password.
    """
    if text == LOCAL:
        return None
    if "://" not in text:
        # Not shown: who knows what it is.
        raise SettingError(
            "--bus: that is neither local nor the URL of a Redis; write redis://HOST:6379"
        )
    return read_redis_url(text, "--bus", BUS_OPTIONS)

"""
Making the store in Redis that ``--sessions`` names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from stickyd.errors import SettingError
from stickyd.net.readiness import readiness_of
from stickyd.redis.url import read_redis_url

if TYPE_CHECKING:
    from typing import Any

    from stickyd.sessions.interfaces import ISessionStore
    from stickyd.sessions.stores.opening import StoreContext
    from stickyd.settings.session_url import SessionUrl


def open_redis(url: SessionUrl, context: StoreContext) -> ISessionStore:
    """
    Make the store; it connects when it is started.

    :raise stickyd.errors.SettingError: the URL is wrong, a package is missing, or the worker's
        reactor has no asyncio loop.
    """
    address = read_redis_url(url.text)
    if not isinstance(context.reactor, AsyncioSelectorReactor):
        raise SettingError(
            f"--sessions {address}: sessions in Redis need an asyncio loop; write --worker-reactor"
            " uvloop or asyncio instead of epoll"
        )
    try:
        from stickyd.sessions.stores.redis import RedisSessionStore
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "redis":
            raise
        raise SettingError(
            f"--sessions {address}: sessions in Redis or Valkey need redis-py, which is not"
            " installed: pip install 'stickyd[redis]'"
        ) from None
    loop: Any = readiness_of(context.reactor)
    return RedisSessionStore(context.clock, loop, address, context.grace_seconds, context.keys)

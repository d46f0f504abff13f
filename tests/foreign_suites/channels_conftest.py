"""
Puts our layer in the place of those that bring tests: Channels' in memory, and channels_redis's.
"""
# mypy: disable-error-code="attr-defined,import-untyped,no-any-unimported"

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import channels.layers
from channels.exceptions import ChannelFull
from django.conf import settings

from stickyd.channels import ChannelLayer


class Layer(ChannelLayer):
    """
    Takes the arguments of theirs.
    """

    def __init__(self, hosts: object = None, **options: Any) -> None:
        super().__init__(**options)

    async def close_pools(self) -> None:
        """
        There are none.
        """


def module(name: str, **contents: object) -> None:
    """
    Have a module be found that is not installed.
    """
    made = ModuleType(name)
    made.__dict__.update(contents)
    sys.modules[name] = made


settings.configure()
channels.layers.InMemoryChannelLayer = Layer
module("channels_redis")
module("channels_redis.core", ChannelFull=ChannelFull, RedisChannelLayer=Layer)
module("channels_redis.pubsub", RedisPubSubChannelLayer=Layer)
module("channels_redis.utils", _close_redis=None)

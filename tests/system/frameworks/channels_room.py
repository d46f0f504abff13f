"""
A room of Channels: whatever a member says, all of them hear, with the process that it was said to.
"""
# mypy: disable-error-code="import-untyped,no-any-unimported,misc"
# (Django and Channels have no annotations of their own.)

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of the tests",
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    CHANNEL_LAYERS={"default": {"BACKEND": "stickyd.channels.ChannelLayer"}},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - it wants the settings
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402
from typing_extensions import override  # noqa: E402

import stickyd  # noqa: E402


class Member(AsyncWebsocketConsumer):
    """
    One of them; when it leaves, the application is done with its client.
    """

    @override
    async def connect(self) -> None:
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()

    @override
    async def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        told = {"type": "heard", "text": f"{os.getpid()} {text_data}"}
        await self.channel_layer.group_send("room", told)

    async def heard(self, event: dict[str, str]) -> None:
        """
        Tell what somebody has said.
        """
        await self.send(event["text"])

    @override
    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)
        stickyd.release_client(self.scope)


app = ProtocolTypeRouter({"websocket": URLRouter([path("ws", Member.as_asgi())])})

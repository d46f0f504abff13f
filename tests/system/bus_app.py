"""
An application on the bus: it keeps what it hears from the moment of its import, and publishes
what it is told to.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from stickyd import bus

if TYPE_CHECKING:
    from twisted.web.server import Request

#: What this worker has heard.
HEARD: list[str] = []

bus.subscribe("news", lambda message: HEARD.append(message.data.decode()))


class Publish(Resource):
    """
    Publishes the last part of the path, and answers when that is with the primary.
    """

    @override
    def getChild(self, path: bytes, request: Request) -> Publish:
        return self

    @override
    def render(self, request: Request) -> int:
        async def publish() -> None:
            bus.publish("news", request.path.rpartition(b"/")[2])
            await bus.sync()
            request.write(b"%d" % os.getpid())
            request.finish()

        Deferred.fromCoroutine(publish())
        return NOT_DONE_YET


class Heard(Resource):
    """
    Tells what this worker has heard, once there is as much as the path's last part says.
    """

    @override
    def getChild(self, path: bytes, request: Request) -> Heard:
        return self

    @override
    def render(self, request: Request) -> int:
        wanted = int(request.path.rpartition(b"/")[2])

        async def tell() -> None:
            listening = bus.listen("news")
            while len(HEARD) < wanted:
                await listening.__anext__()
            request.write(json.dumps({"pid": os.getpid(), "heard": HEARD}).encode())
            request.finish()

        Deferred.fromCoroutine(tell())
        return NOT_DONE_YET


site = Resource()
site.putChild(b"publish", Publish())
site.putChild(b"heard", Heard())

"""
The access log of ASGI applications.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from stickyd.affinity.client_identity import HANDOFF
from stickyd.serve.asgi.cycle import PATHSEND

if TYPE_CHECKING:
    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.asgi.lifespan import AsgiApplication, Message, Receive, Send


class LoggedApplication:
    """
    Stands before an application, and logs each request when it is over; a WebSocket as 101
    when it ends, or with the status that it was refused with.
    """

    def __init__(self, application: AsgiApplication, log: AccessLog) -> None:
        self._application = application
        self._log = log

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """
        Serve a request.
        """
        begun_ns = perf_counter_ns()
        status, sent = 500, 0  # what uvicorn answers if the application does not

        async def watched(message: Message) -> None:
            nonlocal status, sent
            # First: what cannot be sent is no part of the response.
            await send(message)
            kind = message["type"]
            if kind in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif kind in ("http.response.body", "websocket.http.response.body"):
                sent += len(message.get("body", b""))
            elif kind == PATHSEND:
                with suppress(OSError):  # it may be gone by now
                    sent += os.stat(message["path"]).st_size
            elif kind == "websocket.accept":
                status = 101
            elif kind == "websocket.close" and status == 500:
                status = 403  # closed before it was accepted

        try:
            await self._application(scope, receive, watched)
        finally:
            sent = 0 if scope.get("method") == "HEAD" else sent
            self._write(scope, status, sent, begun_ns)

    def _write(self, scope: Any, status: int, sent: int, begun_ns: int) -> None:
        client = scope.get("client")
        fields = dict(scope["headers"])
        target = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        self._log.write(
            client[0] if client else "",
            scope.get("method", "GET").encode(),
            target,
            f"HTTP/{scope['http_version']}".encode(),
            status,
            sent,
            fields.get(b"referer"),
            fields.get(b"user-agent"),
            begun_ns,
            scope.get(HANDOFF),
        )

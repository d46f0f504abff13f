"""
A browser for ASGI applications that are called by hand.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stickyd.affinity.client_identity import note_client
from stickyd.handoff.frame import Handoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Answer:
    """
    A response.
    """

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """
        The values of a field.
        """
        return [value for key, value in self.fields if key.lower() == name]


@dataclass
class Browser:
    """
    Calls applications, and keeps their cookies.
    """

    scheme: str = "http"
    cookies: dict[bytes, bytes] = field(default_factory=dict)
    identity: bytes = b""
    client: bytes | None = None

    def scope(self, kind: str, path: str) -> dict[str, Any]:
        """
        Tell an application of a request.
        """
        cookie = b"; ".join(b"=".join(pair) for pair in self.cookies.items())
        scheme = self.scheme if kind == "http" else self.scheme.replace("http", "ws")
        scope: dict[str, Any] = {
            "type": kind,
            "path": path,
            "scheme": scheme,
            "method": "GET",
            "headers": [(b"cookie", cookie)] if cookie else [],
        }
        if self.identity:
            scope["stickyd.identity"] = self.identity
        if self.client is not None:
            brought = Handoff(-1, "192.0.2.1", 1, b"")
            brought.client = self.client
            note_client(scope, brought)
        return scope

    async def get(self, application: Application, path: str = "/", query: str = "") -> Answer:
        """
        Make a request.
        """
        answer = Answer()

        async def receive() -> Any:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not answer.status
                answer.status = message["status"]
                answer.fields = list(message.get("headers", ()))
                self.keep(answer)
            else:
                assert not answer.complete
                answer.body += message.get("body", b"")
                answer.complete = not message.get("more_body", False)

        scope = {**self.scope("http", path), "query_string": query.encode()}
        await application(scope, receive, send)
        return answer

    def keep(self, answer: Answer) -> None:
        """
        Keep the cookies that a response sets.
        """
        for line in answer.values(b"set-cookie"):
            name, _, value = line.split(b";")[0].partition(b"=")
            if value and b"Max-Age=0" not in line:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)


class Talk:
    """
    A WebSocket.

    :ivar sent: what the application has sent.
    """

    def __init__(self, browser: Browser, application: Application, path: str = "/ws") -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self._browser = browser
        self._to_come: asyncio.Queue[Any] = asyncio.Queue()
        self._to_come.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(
            application(browser.scope("websocket", path), self._to_come.get, self._take)
        )

    async def _take(self, message: Any) -> None:
        if message["type"] == "websocket.accept":
            self._browser.keep(Answer(101, list(message.get("headers", ()))))
        self.sent.put_nowait(message)

    async def say(self, text: str) -> None:
        """
        Send a message.
        """
        self._to_come.put_nowait({"type": "websocket.receive", "text": text})

    async def heard(self) -> Any:
        """
        Take the next message of the application's.
        """
        return await asyncio.wait_for(self.sent.get(), 10)

    async def close(self) -> None:
        """
        Close it, and wait until the application has returned.
        """
        self._to_come.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self.task, 10)

"""
An ASGI application that does what bytes say, most of which it must not.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzzing.choices import Choices

STATUSES: tuple[Any, ...] = (
    200, 404, 204, 304, 599, 100, 101, 99, 600, 999, 1000, -1, 0, "200", None, 200.0, True, b"200",
)  # fmt: skip

HEADERS: tuple[Any, ...] = (
    [],
    [(b"content-length", b"5")],
    [(b"content-length", b"0")],
    [(b"Content-Length", b"5"), (b"content-length", b"5")],
    [(b"content-length", b"5"), (b"content-length", b"7")],
    [(b"content-length", b"-5")],
    [(b"content-length", b"5_0")],
    [(b"content-length", b"")],
    [(b"content-length", b"99999")],
    [(b"transfer-encoding", b"chunked")],
    [(b"transfer-encoding", b"gzip, chunked")],
    [(b"Transfer-Encoding", b"identity"), (b"content-length", b"5")],
    [(b"transfer-encoding", b"chunked"), (b"content-length", b"5")],
    [(b"connection", b"close")],
    [(b"Connection", b"keep-alive, Close")],
    [(b"upgrade", b"websocket"), (b"connection", b"upgrade")],
    [(b"x", b"a\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n")],
    [(b"x\r\ny", b"a")],
    [(b"", b"a")],
    [(b"a b", b"a")],
    [(b"\xff", b"a")],
    [(b"x", b"\0")],
    [(b"x", b"\xff \t")],
    [("x", "y")],
    [(b"x", 5)],
    [b"xy"],
    [(b"x", b"y", b"z")],
    [None],
    [5],
    None,
    5,
    {b"x": b"y"},
    ((name, b"v") for name in (b"a",)),
    [(bytearray(b"x"), memoryview(b"y"))],
    [[b"set-cookie", b"a=b"], [b"set-cookie", b"stickyd=c"]],
)

BODIES: tuple[Any, ...] = (
    b"hello", b"", b"he", b"hello world", bytes(70_000), "hello", None, 5, bytearray(b"hello"),
    memoryview(b"hello"), memoryview(bytes(8)).cast("I"), [b"hello"], bytes(1_000_000),
)  # fmt: skip

RAISED: tuple[Any, ...] = (
    ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit,
    StopAsyncIteration, MemoryError, OSError,
)  # fmt: skip

CODES: tuple[Any, ...] = (1000, 1001, 3000, 0, 1005, 1006, 99, 5000, "1000", None, 70_000)

ODD: tuple[Any, ...] = (
    None, {}, {"type": None}, {"type": "nonsense"}, [], "http.response.start",
    {"type": "http.response.start"}, {"type": "http.response.trailers", "headers": []},
    {"type": "http.response.push", "path": "/", "headers": []},
    {"type": "http.response.body", "more_body": "no"}, {"type": "websocket.accept"},
    {"type": "websocket.close"}, {"type": "websocket.send"},
    {"type": "http.response.pathsend", "path": "/etc/passwd"},
    {"type": "lifespan.startup.complete"},
    {"type": "websocket.http.response.body"}, {"type": "websocket.http.response.start"},
)  # fmt: skip

OPERATIONS = (
    "return", "start", "body", "receive", "odd", "raise", "result", "turn", "hang", "cancel",
    "apart", "poll",
)  # fmt: skip
WEBSOCKET_OPERATIONS = (
    "return", "accept", "text", "bytes", "receive", "close", "refuse", "refusal", "odd", "raise",
    "result", "turn", "hang", "cancel", "apart", "poll",
)  # fmt: skip
LONGEST = 8


class AsgiScript:
    """
    One application.

    :ivar running: how many calls have begun and not ended.
    :ivar apart: tasks that it has left behind.
    """

    def __init__(self, choices: Choices, websocket: bool) -> None:
        operations = WEBSOCKET_OPERATIONS if websocket else OPERATIONS
        self._stubborn = bool(choices.number(2))
        self._steps: list[Any] = []
        for _ in range(LONGEST):
            operation = choices.one_of(operations)
            self._steps.append((operation, self._message(operation, choices)))
            if operation == "return":
                break
        self.running = 0
        self.hanging = 0
        self.failed = False
        self.apart: set[asyncio.Task[None]] = set()
        self.release = asyncio.Event()

    def __repr__(self) -> str:
        return f"{'stubborn ' * self._stubborn}{[(a, repr(b)[:80]) for a, b in self._steps]}"

    @staticmethod
    def _message(operation: str, choices: Choices) -> Any:
        if operation == "start":
            message = {"type": "http.response.start", "status": choices.one_of(STATUSES)}
            return {**message, "headers": choices.one_of(HEADERS)}
        if operation == "body":
            more = choices.one_of((False, True, 1, None, "no"))
            return {"type": "http.response.body", "body": choices.one_of(BODIES), "more_body": more}
        if operation == "accept":
            subprotocol = choices.one_of((None, "chat", "a\r\nb: c", 5, "", b"chat", "\u20ac"))
            headers = choices.one_of(HEADERS)
            return {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        if operation in ("text", "bytes"):
            return {"type": "websocket.send", operation: choices.one_of((*BODIES, "\ud800"))}
        if operation == "close":
            reason = choices.one_of(("", None, "x" * 200, 5, "bye"))
            return {"type": "websocket.close", "code": choices.one_of(CODES), "reason": reason}
        if operation == "refuse":
            status = choices.one_of(STATUSES)
            headers = choices.one_of(HEADERS)
            return {"type": "websocket.http.response.start", "status": status, "headers": headers}
        if operation == "refusal":
            more = choices.one_of((False, True))
            body = choices.one_of(BODIES)
            return {"type": "websocket.http.response.body", "body": body, "more_body": more}
        if operation == "odd":
            return choices.one_of(ODD)
        if operation == "raise":
            return choices.one_of(RAISED)
        return None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """
        Serve a request.
        """
        if scope["path"] == "/sane":
            fields = [(b"content-length", b"4")]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": b"sane"})
            return None
        self.running += 1
        try:
            return await self._play(list(self._steps), receive, send)
        except BaseException:
            self.failed = True
            raise
        finally:
            self.running -= 1

    async def _play(self, steps: list[Any], receive: Any, send: Any) -> Any:
        while steps:
            operation, message = steps.pop(0)
            if operation == "return":
                return None
            if operation == "raise":
                raise message
            if operation == "result":
                return b"hello"
            if operation == "apart":
                self.apart.add(asyncio.create_task(self._play_apart(steps, receive, send)))
                return None
            try:
                await self._step(operation, message, receive, send)
            except Exception:
                if not self._stubborn:
                    raise
        return None

    async def _play_apart(self, steps: list[Any], receive: Any, send: Any) -> None:
        # What a task of the application's own raises is between it and the loop.
        with contextlib.suppress(BaseException):
            await self._play(steps, receive, send)

    async def _step(self, operation: str, message: Any, receive: Any, send: Any) -> None:
        if operation == "turn":
            await asyncio.sleep(0)
        elif operation == "receive":
            await self._waiting(receive())
        elif operation == "poll":
            for _ in range(4):
                if "disconnect" in (await self._waiting(receive()))["type"]:
                    break
        elif operation == "hang":
            await self._waiting(self.release.wait())
        elif operation == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        else:
            await self._waiting(send(message))

    async def _waiting(self, awaitable: Any) -> Any:
        # Whatever it waits for: it may wait until the client has gone.
        self.hanging += 1
        try:
            return await awaitable
        finally:
            self.hanging -= 1

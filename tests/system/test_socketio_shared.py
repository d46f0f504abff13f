"""
What the servers of several workers do to each other's clients, by python-socketio's own calls.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import socketio

from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.system.conftest import Start

HERE = "tests.system.frameworks.socketio_shared"


class Member:
    """
    A client.

    :ivar pid: the process of the worker that has its session.
    :ivar sid: what servers call it by.
    """

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.client.on("told", self._hear)
        self.client.on("asked", self._answer)
        self.client.on("disconnect", self._go)
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.pid = 0
        self.sid = ""

    async def _hear(self, word: Any) -> None:
        self._heard.put_nowait(word)

    async def _answer(self, question: Any) -> Any:
        return {"question": question, "answer": b"\0\xff"}

    async def _go(self, reason: str) -> None:
        self.gone.set()

    async def order(self, name: str, *arguments: Any, **options: Any) -> Any:
        """
        Have the server of our worker do something.
        """
        return await self.client.call("order", (name, [*arguments], options), timeout=LONG)

    async def heard(self) -> Any:
        """
        What it was told next.
        """
        return await asyncio.wait_for(self._heard.get(), LONG)


@asynccontextmanager
async def member(port: int, transport: str) -> AsyncIterator[Member]:
    """
    Connect a client, and disconnect it.
    """
    made = Member()
    await made.client.connect(f"http://127.0.0.1:{port}", transports=[transport], wait_timeout=LONG)
    try:
        made.pid, made.sid = await made.client.call("where")
        yield made
    finally:
        await made.client.disconnect()


async def act_on_each_other(port: int) -> None:
    """
    One client has its worker act on a client of another worker.
    """
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(member(port, "websocket"))
        other = await stack.enter_async_context(member(port, "polling"))
        third = await stack.enter_async_context(member(port, "websocket"))
        assert one.pid != other.pid

        await one.order("emit", "told", {"data": b"\0\1"}, to=other.sid)
        assert await other.heard() == {"data": b"\0\1"}
        question = {"number": 1, "data": b"\2"}
        answer = await one.order("call", "asked", question, to=other.sid)
        assert answer == {"question": question, "answer": b"\0\xff"}

        await one.order("emit", "told", "all but one", skip_sid=other.sid)
        assert await one.heard() == await third.heard() == "all but one"
        for way_out in ("leave_room", "close_room"):
            await one.order("enter_room", other.sid, "room")
            await one.order("enter_room", one.sid, "room")
            await one.order("emit", "told", f"before {way_out}", to="room")
            assert await other.heard() == await one.heard() == f"before {way_out}"
            await one.order(way_out, *([other.sid] if way_out == "leave_room" else []), "room")
            await one.order("emit", "told", "after", to="room")
            await one.order("emit", "told", f"outside of {way_out}", to=other.sid)
            assert await other.heard() == f"outside of {way_out}"
            if way_out == "leave_room":
                assert await one.heard() == "after"

        await one.order("disconnect", other.sid)
        await asyncio.wait_for(other.gone.wait(), LONG)
        assert one.client.connected


@pytest.mark.parametrize(
    "application", [("--asgi", f"{HERE}:app"), ("--wsgi", f"{HERE}:flask_app")]
)
def test_rooms_calls_and_farewells(application: tuple[str, str], start: Start) -> None:
    """
    Each reaches the client where it is: by ``client_manager``, and by ``attach()``.
    """
    server = start(*application, "--affinity", "minted:query:sid")
    asyncio.run(asyncio.wait_for(act_on_each_other(server.port), 3 * LONG))

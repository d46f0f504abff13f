"""
Clients of Socket.IO that have their servers act on each other's clients.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.system.chatting import Heard, SocketChatter
from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: What the application has for it besides, by the name of its server.
ORDERS = {
    "sio": """

@sio.event
async def where(sid):
    import os
    return [os.getpid(), sid]


@sio.event
async def order(sid, name, arguments, options):
    return await getattr(sio, name)(*arguments, **options)
""",
    "socketio": """

def where(sid):
    import os
    return [os.getpid(), sid]


def order(sid, name, arguments, options):
    return getattr(socketio.server, name)(*arguments, **options)


socketio.server.on("where", where)
socketio.server.on("order", order)
""",
}


class Member(SocketChatter):
    """
    A client that gives orders.

    :ivar pid: the process of the worker that has its session.
    :ivar sid: what servers call it by.
    """

    pid: int
    sid: str

    def __init__(self, transport: str) -> None:
        super().__init__(Heard(lambda: None), [transport])
        self.stays = False
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def _tell(self, word: Any) -> None:
        self._told.put_nowait(word)

    async def _answer(self, question: Any) -> Any:
        return {"question": question, "answer": b"\0\xff"}

    async def _leave(self, reason: str) -> None:
        self.gone.set()

    async def join(self, port: int) -> None:
        """
        Connect.
        """
        await self.open(port)
        self.client.reconnection = False
        self.client.on("told", self._tell)
        self.client.on("asked", self._answer)
        self.client.on("disconnect", self._leave)
        self.pid, self.sid = await self.client.call("where", timeout=LONG)

    async def order(self, name: str, *arguments: Any, **options: Any) -> Any:
        """
        Have the server of our worker do something.
        """
        return await self.client.call("order", (name, [*arguments], options), timeout=LONG)

    async def told(self) -> Any:
        """
        What it was told next.
        """
        return await asyncio.wait_for(self._told.get(), LONG)


@asynccontextmanager
async def member(port: int, transport: str) -> AsyncIterator[Member]:
    """
    Connect a client, and disconnect it.
    """
    made = Member(transport)
    await made.join(port)
    try:
        yield made
    finally:
        await made.close()


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
        assert await other.told() == {"data": b"\0\1"}
        question = {"number": 1, "data": b"\2"}
        answer = await one.order("call", "asked", question, to=other.sid)
        assert answer == {"question": question, "answer": b"\0\xff"}

        await one.order("emit", "told", "all but one", skip_sid=other.sid)
        assert await one.told() == await third.told() == "all but one"
        for way_out in ("leave_room", "close_room"):
            await one.order("enter_room", other.sid, "room")
            await one.order("enter_room", one.sid, "room")
            await one.order("emit", "told", f"before {way_out}", to="room")
            assert await other.told() == await one.told() == f"before {way_out}"
            await one.order(way_out, *([other.sid] if way_out == "leave_room" else []), "room")
            await one.order("emit", "told", "after", to="room")
            await one.order("emit", "told", f"outside of {way_out}", to=other.sid)
            assert await other.told() == f"outside of {way_out}"
            if way_out == "leave_room":
                assert await one.told() == "after"

        await one.order("disconnect", other.sid)
        await asyncio.wait_for(other.gone.wait(), LONG)
        assert one.client.connected

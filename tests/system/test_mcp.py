"""
Many MCP sessions at once, and what becomes of them when the server changes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from tests.system.conftest import Start
    from tests.system.server import Server

WORKERS = 4
SESSIONS = 100
CALLS = 20

#: Each is a host from which several sessions share a pool of connections.
POOLS = 10

HERE = "tests.system.frameworks"

STAMPED = ("--affinity", "stamp:Mcp-Session-Id")


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a test's coroutine, within reason.
    """
    asyncio.run(asyncio.wait_for(coroutine, 3 * LONG))


class Session:
    """
    A client with its session, and what it was told.
    """

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        self._number = number
        self.said = 0
        self.pids: set[int] = set()

    async def say(self, calls: int) -> None:
        """
        Call the server, and look at each answer.
        """
        for _ in range(calls):
            self.said += 1
            word = f"{self._number}/{self.said}"
            result = await self._client.call_tool("say", {"word": word})
            told = result.structured_content
            assert told is not None
            assert (told["word"], told["count"]) == (word, self.said)
            self.pids.add(told["pid"])


@asynccontextmanager
async def sessions(server: Server, count: int, pools: int) -> AsyncIterator[list[Session]]:
    """
    Open sessions, and end them.
    """
    url = f"http://127.0.0.1:{server.port}/mcp"
    # Each session keeps one connection for what the server has to tell.
    limits = httpx2.Limits(max_connections=None)
    async with AsyncExitStack() as stack:
        https = [
            await stack.enter_async_context(httpx2.AsyncClient(limits=limits, timeout=LONG))
            for _ in range(pools)
        ]
        opened = []
        for number in range(count):
            transport = streamable_http_client(url, http_client=https[number % pools])
            client = await stack.enter_async_context(Client(transport, mode="legacy"))
            opened.append(Session(client, number))
        yield opened


# Streams take longer and ask less of stickyd, see json_app; a few are in
# test_rehoming_frameworks.py always.
@pytest.mark.parametrize("application", [pytest.param("app", marks=pytest.mark.soak), "json_app"])
def test_no_session_is_unknown(application: str, start: Start) -> None:
    """
    100 sessions from one address call 20 times each, at once, while a worker is added: each
    call finds its session, and the sessions are spread over the workers.
    """
    server = start("--asgi", f"{HERE}.mcp_app:{application}", *STAMPED, workers=WORKERS)

    async def go() -> None:
        async with sessions(server, SESSIONS, POOLS) as opened:
            await asyncio.gather(*(session.say(CALLS // 2) for session in opened))
            calling = asyncio.gather(*(session.say(CALLS // 2) for session in opened))
            await asyncio.to_thread(server.resize_to, WORKERS + 1)
            await calling
        assert {session.said for session in opened} == {CALLS}
        assert {len(session.pids) for session in opened} == {1}
        shares = Counter(server.slot_of(*session.pids) for session in opened)
        # They were opened before there was a fifth.
        assert min(shares[slot] for slot in range(WORKERS)) >= SESSIONS // WORKERS // 2

    run(go())


def test_reload_ends_sessions_in_memory(start: Start) -> None:
    """
    What the SDK keeps in a worker's memory ends with that worker: after a reload the client is
    told that its session is not found, on which the specification has it begin a new one, and
    that works.
    """
    server = start("--asgi", f"{HERE}.mcp_app:app", *STAMPED)

    async def go() -> None:
        async with sessions(server, 4, 2) as opened:
            for session in opened:
                await session.say(2)
            await asyncio.to_thread(server.reload)
            for session in opened:
                with pytest.raises(MCPError, match="Session not found"):
                    await session.say(1)
            async with sessions(server, 4, 2) as fresh:
                for session in fresh:
                    await session.say(2)
                assert {pid for session in fresh for pid in session.pids} == {
                    server.worker(slot) for slot in range(2)
                }

    run(go())

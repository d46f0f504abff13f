"""
MCP of 2026-07-28, which has no sessions, on several workers.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import ElicitResult, InputRequiredResult, TextContent

from tests.system.placing import sources_of
from tests.system.server import LONG
from tests.system.test_one_application import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from tests.system.server import Server

REMOVE = {"name": "x"}

#: What the server has besides what is printed.
MORE = """
from mcp.server.mcpserver import Context
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

CONFIRM = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Sure?",
        requested_schema={"type": "object", "properties": {"sure": {"type": "boolean"}}},
    )
)


@server.tool()
async def change(ctx: Context) -> int:
    await ctx.notify_resource_updated("note://one")
    return stickyd.worker.slot


@server.tool()
async def remove(name: str, ctx: Context) -> str | InputRequiredResult:
    here = stickyd.worker.slot
    if ctx.input_responses is None:
        return InputRequiredResult(input_requests={"sure": CONFIRM}, request_state=f"{name} {here}")
    return f"{ctx.request_state} {here} {ctx.input_responses['sure'].action}"
"""


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a test's coroutine, within reason.
    """
    asyncio.run(asyncio.wait_for(coroutine, 4 * LONG))


@asynccontextmanager
async def clients(server: Server, sources: list[str], count: int) -> AsyncIterator[list[Client]]:
    """
    Open clients, which have one pool of connections for each of the addresses.
    """
    url = f"http://127.0.0.1:{server.port}/mcp"
    async with AsyncExitStack() as stack:
        pools = []
        for source in sources:
            transport = httpx2.AsyncHTTPTransport(local_address=source)
            pool = httpx2.AsyncClient(transport=transport, timeout=LONG)
            pools.append(await stack.enter_async_context(pool))
        yield [
            await stack.enter_async_context(
                Client(streamable_http_client(url, http_client=pools[number % len(pools)]))
            )
            for number in range(count)
        ]


@pytest.mark.parametrize(
    ("workers", "count", "calls"), [(2, 16, 5), pytest.param(4, 100, 20, marks=pytest.mark.soak)]
)
def test_workers_are_one(workers: int, count: int, calls: int, tmp_path: Path) -> None:
    """
    Each client fills a basket, in one worker, over connections that many of them use.  What
    changes in a worker is told to who listens at another; and what one has sealed another opens,
    in a longer trial also when all have been replaced; nobody else's is.
    """

    async def go(server: Server) -> None:
        # Where a request without a handle goes; the next client's go to the next worker.
        sources = [sources_of(slot, workers, 1)[0] for slot in range(workers)]
        async with clients(server, sources, count) as opened:
            assert {client.protocol_version for client in opened} == {"2026-07-28"}
            baskets = await asyncio.gather(
                *(fill(opened[n], opened[n - 1], n, calls) for n in range(count))
            )
            slots = [int(basket.split(".")[1]) for basket in baskets]
            assert slots == [n % workers for n in range(count)]
            await listen(opened[:workers])
            await ask_and_answer(opened[:workers])
            if calls == 20:
                sealed = await opened[0].session.call_tool(
                    "remove", REMOVE, allow_input_required=True
                )
                assert isinstance(sealed, InputRequiredResult)
                await asyncio.to_thread(server.reload)
                await answer(opened[1], sealed.request_state)

    options = ("--affinity", "minted:header:Mcp-Param-Basket,ip")
    with serving("tools_mcp", tmp_path, workers, MORE, *options) as server:
        run(go(server))


async def fill(client: Client, helper: Client, number: int, calls: int) -> str:
    """
    Fill a basket, with the help of a client whose requests would go to another worker.

    :return: its handle.
    """
    for one in (client, helper):
        await one.list_tools()  # which names the arguments that become headers
    made = await client.call_tool("new_basket", {})
    assert made.structured_content is not None
    basket = str(made.structured_content["result"])
    wanted = []
    for call in range(calls):
        wanted.append(f"{number}/{call}")
        turn = helper if call % 2 else client
        put = await turn.call_tool("put", {"basket": basket, "article": wanted[-1]})
        assert not put.is_error, put
        assert put.structured_content == {"result": wanted}
    return basket


async def listen(opened: list[Client]) -> None:
    """
    Have each worker tell of a change, and hear of each.
    """
    async with opened[0].listen(resource_subscriptions=["note://one"]) as changes:
        slots = []
        for client in opened:
            told = await client.call_tool("change", {})
            assert told.structured_content is not None
            slots.append(told.structured_content["result"])
            event = await asyncio.wait_for(anext(changes), LONG)
            assert event == ResourceUpdated("note://one")
        assert slots == [*range(len(opened))]


async def ask_and_answer(opened: list[Client]) -> None:
    """
    Have a worker ask, and all of them answered; what nobody has sealed is refused.
    """
    asked = await opened[0].session.call_tool("remove", REMOVE, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    told = [await answer(client, asked.request_state) for client in opened]
    assert told == [f"x 0 {slot} accept" for slot in range(len(opened))]
    with pytest.raises(MCPError, match="requestState"):
        await answer(opened[0], "v1.other")


async def answer(client: Client, state: str | None) -> str:
    """
    Answer what was asked.

    :return: what the worker has made of it.
    """
    answers: dict[str, Any] = {"sure": ElicitResult(action="accept", content={})}
    done = await client.session.call_tool(
        "remove", REMOVE, input_responses=answers, request_state=state
    )
    assert isinstance(done.content[0], TextContent)
    assert re.fullmatch(r"x \d [0-3] accept", done.content[0].text)
    return done.content[0].text

"""
MCP of 2026-07-28, which has no sessions, on several workers.
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
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import ElicitResult, InputRequiredResult, TextContent

from tests.system.placing import sources_of
from tests.system.server import LONG
from tests.system.test_one_application import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

#: Each is a host from which several clients share a pool of connections.
POOLS = 4


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
    ("count", "calls"), [(24, 5), pytest.param(100, 20, marks=pytest.mark.soak)]
)
def test_every_handle_is_known(count: int, calls: int, tmp_path: Path) -> None:
    """
    Each client fills a basket in one worker, over connections that all of them use.
    """

    async def fill(client: Client, number: int) -> str:
        await client.list_tools()  # which names the arguments that become headers
        made = await client.call_tool("new_basket", {})
        assert made.structured_content is not None
        basket = made.structured_content["result"]
        wanted = []
        for call in range(calls):
            wanted.append(f"{number}/{call}")
            put = await client.call_tool("put", {"basket": basket, "article": wanted[-1]})
            assert not put.is_error, put
            assert put.structured_content == {"result": wanted}
        return str(basket)

    async def go(server: Server) -> None:
        async with clients(server, ["127.0.0.1"] * POOLS, count) as opened:
            assert {client.protocol_version for client in opened} == {"2026-07-28"}
            baskets = await asyncio.gather(*map(fill, opened, range(count)))
        slots = Counter(basket.split(".")[1] for basket in baskets)
        assert set(slots) == {"0", "1", "2", "3"}

    with serving("tools_mcp", tmp_path, 4) as server:
        run(go(server))


def test_workers_tell_and_trust_each_other(start: Start) -> None:
    """
    What changes in one is told to who listens at the other; and what one has sealed the other
    opens, also when both have been replaced; nobody else's is.
    """
    server = start("--asgi", "tests.system.frameworks.mcp_shared:app")

    async def go() -> None:
        sources = [sources_of(slot, 2, 1)[0] for slot in (0, 1)]
        async with clients(server, sources, 2) as (one, other):
            async with one.listen(resource_subscriptions=["note://one"]) as changes:
                for slot, client in ((1, other), (0, one)):
                    told = await client.call_tool("change", {})
                    assert told.structured_content == {"result": slot}
                    event = await asyncio.wait_for(anext(changes), LONG)
                    assert event == ResourceUpdated("note://one")
            arguments = {"name": "x"}
            asked = await one.session.call_tool("remove", arguments, allow_input_required=True)
            assert isinstance(asked, InputRequiredResult)
            answered: dict[str, Any] = {"sure": ElicitResult(action="accept", content={})}
            for change in (lambda: None, server.reload):
                await asyncio.to_thread(change)
                done = await other.session.call_tool(
                    "remove",
                    arguments,
                    input_responses=answered,
                    request_state=asked.request_state,
                )
                assert isinstance(done.content[0], TextContent)
                assert done.content[0].text == "x 0 1 accept"
            with pytest.raises(MCPError, match="requestState"):
                await other.session.call_tool(
                    "remove", arguments, input_responses=answered, request_state="v1.other"
                )

    run(go())

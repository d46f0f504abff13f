"""
Sessions of frameworks that several clients share connections for: MCP, python-socketio.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2
import pytest
import socketio
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.system.log import PATIENCE
from tests.system.placing import source_address
from tests.system.proxies import nginx

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.system.conftest import Start

HERE = "tests.system.frameworks"
WORKERS = 4


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a test's coroutine, within reason.
    """
    asyncio.run(asyncio.wait_for(coroutine, 3 * PATIENCE))


def slot_in(result: Any) -> int:
    """
    The slot that a tool has told.
    """
    assert not result.is_error, result
    return int(result.content[0].text)


@pytest.mark.parametrize(
    "entry",
    [
        "learn:header:Mcp-Session-Id",
        # test_mcp.py has more of it.
        pytest.param("stamp:Mcp-Session-Id", marks=pytest.mark.soak),
    ],
)
def test_mcp_sessions(entry: str, start: Start) -> None:
    """
    MCP clients that share a pool of connections have their sessions on all workers, and
    each request reaches its session: calls, streams of progress, and the end.
    """
    server = start("--asgi", f"{HERE}.mcp_app:app", "--affinity", entry, workers=WORKERS)
    url = f"http://127.0.0.1:{server.port}/mcp"

    async def go() -> None:
        homes: set[int] = set()
        ids: list[str] = []

        async def note(response: httpx2.Response) -> None:
            ids.extend(filter(None, [response.headers.get("mcp-session-id")]))

        async with httpx2.AsyncClient(event_hooks={"response": [note]}) as http:
            async with AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(
                        Client(streamable_http_client(url, http_client=http), mode="legacy")
                    )
                    for _ in range(8)
                ]
                for client in clients:
                    slots = {slot_in(await client.call_tool("where")) for _ in range(4)}
                    progress: list[float] = []

                    async def seen(
                        done: float,
                        total: float | None,
                        message: str | None,
                        progress: list[float] = progress,
                    ) -> None:
                        progress.append(done)

                    report: Any = seen  # its last parameter, with a default, is our own
                    slots.add(
                        slot_in(
                            await client.call_tool("steps", {"count": 3}, progress_callback=report)
                        )
                    )
                    assert progress == [1, 2, 3]
                    assert len(slots) == 1
                    homes |= slots
            # Each has ended its session, where it was.
            assert len(set(ids)) == 8
            for identifier in set(ids):
                headers = {
                    "mcp-session-id": identifier,
                    "accept": "application/json, text/event-stream",
                }
                ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                response = await http.post(url, headers=headers, json=ping)
                assert response.status_code == 404
        assert len(homes) > 1

    run(go())


async def talk(url: str, source: str, transports: list[str]) -> int:
    """
    Have a socket.io client talk, and see that its session holds.

    :return: the pid of its worker.
    """
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    jar = aiohttp.CookieJar(unsafe=True)  # else it keeps no cookie of an IP address
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as http:
        client = socketio.AsyncClient(http_session=http, reconnection=False)
        await client.connect(url, transports=transports)
        pids = {await client.call("remember", word) for word in ("one", "two", "three")}
        assert await client.call("recall") == ["one", "two", "three"]
        # Else a client that polls waits 25 seconds for its last answer.
        await client.eio.disconnect(abort=True)
    (pid,) = pids
    assert isinstance(pid, int)
    return pid


ENTRIES = ["cookie:stickyd", "ip", "learn:query:sid"]
POLLING, WEBSOCKET = ["polling"], ["websocket"]
UPGRADED = POLLING + WEBSOCKET


@pytest.mark.parametrize(
    ("entry", "transports"),
    [
        ("cookie:stickyd", POLLING),
        ("ip", WEBSOCKET),
        ("learn:query:sid", UPGRADED),
        *(
            pytest.param(entry, transports, marks=pytest.mark.soak)
            for entry in ENTRIES
            for transports in (POLLING, WEBSOCKET, UPGRADED)
        ),
    ],
)
def test_socketio_behind_a_proxy(
    entry: str, transports: list[str], start: Start, tmp_path: Path
) -> None:
    """
    python-socketio's sessions hold behind nginx, which shares its connections between the
    clients: by polling, by WebSocket, and upgraded.
    """
    application = "socketio_claiming" if entry.startswith("learn") else "socketio_app"
    # Polls that nobody waits for any more are tasks of the application until then.
    server = start(
        *("--asgi", f"{HERE}.{application}:app", "--affinity", entry),
        *("--trust", "127.0.0.1", "--stop-timeout", "2"),
        workers=WORKERS,
    )
    server.allow("Traceback|#error")

    async def go() -> None:
        with nginx(tmp_path, server.target) as proxy:
            url = f"http://{proxy.target[0]}:{proxy.target[1]}"
            sources = [source_address(number) for number in range(16)]
            pids = await asyncio.gather(*(talk(url, source, transports) for source in sources))
        assert len(set(pids)) > 1

    run(go())

"""
Programs that no one here wrote, through reloads and resizes by client: no session is lost.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.system.log import Log
from tests.system.nodejs import node_command
from tests.system.server import LONG
from tests.system.test_mcp import STAMPED, run, sessions
from tests.system.test_reload_by_client import BY_CLIENT

if TYPE_CHECKING:
    from tests.system.conftest import Start

HERE = "tests.system.frameworks"


@pytest.mark.usefixtures("node_packages")
@pytest.mark.parametrize(
    ("affinity", "application"),
    [
        ("learn:query:sid", "socketio_claiming"),
        pytest.param("cookie:stickyd", "socketio_app", marks=pytest.mark.soak),
    ],
)
def test_socketio_notices_nothing(affinity: str, application: str, start: Start) -> None:
    """
    Clients that poll and clients with a WebSocket go on at their workers through a reload and a
    resize, and never connect anew.
    """
    server = start("--asgi", f"{HERE}.{application}:app", "--affinity", affinity, *BY_CLIENT)
    plan = {"url": f"http://127.0.0.1:{server.port}"}
    process = subprocess.Popen(node_command("socketio_lasting.js", plan), stdout=subprocess.PIPE)
    assert process.stdout is not None
    log = Log(process.stdout, lambda line: None)
    try:
        homes = {
            transport: int(log.wait_for(rf"{transport} (\d+) heard 2")[1])
            for transport in ("polling", "websocket")
        }
        for change in (server.reload, lambda: server.resize_to(1)):
            change()
            since = log.mark()
            for transport, pid in homes.items():
                log.wait_for(rf"{transport} {pid} heard", since, count=2, timeout=LONG)
        assert {server.worker(0), server.worker(1)}.isdisjoint(homes.values())
        assert not log.found("disconnected")
    finally:
        process.kill()
        process.wait()
    log.wait_for_end()


@pytest.mark.soak
def test_mcp_notices_nothing(start: Start) -> None:
    """
    Sessions of the SDK's clients go on with their counts at their workers; those that are opened
    meanwhile are with the new one.
    """
    server = start("--asgi", f"{HERE}.mcp_app:json_app", *STAMPED, *BY_CLIENT, workers=1)

    async def go() -> None:
        async with sessions(server, 4, 2) as opened:
            for session in opened:
                await session.say(2)
            await asyncio.to_thread(server.reload)
            await asyncio.gather(*(session.say(2) for session in opened))
            async with sessions(server, 2, 1) as fresh:
                for session in fresh:
                    await session.say(2)
                assert {pid for session in fresh for pid in session.pids} == {server.worker(0)}
            assert {len(session.pids) for session in opened} == {1}

    run(go())

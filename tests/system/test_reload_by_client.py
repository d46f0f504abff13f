"""
Reload by client: who is known stays with the worker that knows it, newcomers get the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.keeping import Players

if TYPE_CHECKING:
    from tests.system.conftest import Start

HERE = "tests.system.keeping_apps"

#: Reload by client, and for as long as a test may take.
BY_CLIENT = ("--reload-mode", "client", "--drain-timeout", "600", "--max-leaving", "9")

KINDS = {
    "resource": ("--resource", f"{HERE}:site"),
    "asgi": ("--asgi", f"{HERE}:asgi"),
    "wsgi": ("--wsgi", f"{HERE}:wsgi"),
}


@pytest.mark.parametrize(
    ("kind", "affinity"),
    [
        ("asgi", "learn:header:X-Session"),
        # These are in test_changes_by_client.py always.
        pytest.param("wsgi", "stamp:X-Session", marks=pytest.mark.soak),
        pytest.param("resource", "cookie:stickyd", marks=pytest.mark.soak),
        pytest.param("asgi", "header:X-Name", marks=pytest.mark.soak),
        pytest.param("resource", "ip", marks=pytest.mark.soak),
    ],
)
def test_a_reload_loses_no_client(kind: str, affinity: str, start: Start) -> None:
    """
    Clients with kept and with fresh connections go on at their old workers, through two reloads;
    newcomers are with the new ones; and when the application has released the old ones' clients,
    they leave.
    """
    server = start(*KINDS[kind], "--affinity", affinity, *BY_CLIENT)
    old = set()
    with Players() as players:
        for generation in range(3):
            if generation:
                old |= {server.worker(0), server.worker(1)}
                server.reload()
            begun = players.begin(server.target, affinity, 4)
            assert {player.pids[0] for player in begun} <= {server.worker(0), server.worker(1)}
            players.go_on()
        players.release()
        for pid in old:
            server.log.wait_for(rf"Worker {pid} \(slot \d\) exited with code 0")

"""
Reload by client: who is known stays with the worker that knows it, newcomers get the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.keeping import Player
from tests.system.placing import source_address

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
        ("resource", "cookie:stickyd"),
        ("asgi", "learn:header:X-Session"),
        ("wsgi", "stamp:X-Session"),
        ("asgi", "header:X-Name"),
        ("resource", "ip"),
    ],
)
def test_a_reload_loses_no_client(kind: str, affinity: str, start: Start) -> None:
    """
    Clients with kept and with fresh connections go on at their old workers, through two reloads;
    newcomers are with the new ones; and when the application has released the old ones' clients,
    they leave.
    """
    server = start(*KINDS[kind], "--affinity", affinity, *BY_CLIENT)
    clients = [
        Player(
            server.target,
            source_address(number) if affinity == "ip" else "127.0.0.1",
            keeps=bool(number % 2),
            names=f"client {number}" if affinity.startswith("header") else "",
        )
        for number in range(12)
    ]
    generations = []
    for generation in range(3):
        if generation:
            server.reload()
        generations.append({server.worker(0), server.worker(1)})
        for client in clients[4 * generation : 4 * generation + 4]:
            assert client.ask() in generations[-1]
        for client in clients[: 4 * generation + 4]:
            assert client.ask() == client.ask() == client.pids[0]
    for client in clients:
        assert set(client.pids) == {client.pids[0]}
        client.request("/release")
        client.close()
    for pid in generations[0] | generations[1]:
        server.log.wait_for(rf"Worker {pid} \(slot \d\) exited with code 0")

"""
One request, one answer, through nginx as it is configured for WebSockets.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.system.proxies import nginx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

HERE = "tests.system.executed_apps"
KINDS = {
    "resource": ("--resource", f"{HERE}:resource"),
    "asgi": ("--asgi", f"{HERE}:asgi"),
    "wsgi": ("--wsgi", f"{HERE}:wsgi"),
}

INNER = "GET /admin HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n"

OFFERS = ["foo", "h2c", "websocket", "WebSocket, foo", "TLS/1.0"]


def conversation(target: tuple[str, int], stream: str) -> bytes:
    """
    Send a stream and read all that is answered to it.
    """
    with socket.create_connection(target, timeout=20) as client:
        client.sendall(stream.encode())
        answered = b""
        while data := client.recv(65536):
            answered += data
        return answered


def executed(answered: bytes) -> list[tuple[str, str, int]]:
    """
    Read what an answer to ``/executed`` tells.
    """
    told = json.loads(answered.rpartition(b"\r\n\r\n")[2])
    return [(method, path, length) for method, path, length in told]


@pytest.mark.parametrize("affinity", ["ip", "cookie:stickyd,ip"])
@pytest.mark.parametrize("kind", KINDS)
def test_fault_1_bodies_behind_an_offer(
    kind: str, affinity: str, start: Start, tmp_path: Path
) -> None:
    """
    Fault 1: what stands in the body behind an offer of an upgrade is never executed, directly
    and through nginx, whose connection the next client gets.
    """
    server = start(*KINDS[kind], "--affinity", affinity, "--trust", "127.0.0.1", workers=1)
    expected = []
    with nginx(tmp_path, server.target) as proxy:
        for offer in OFFERS:
            post = (
                "POST /post HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
                f"Upgrade: {offer}\r\nContent-Length: {len(INNER)}\r\n\r\n{INNER}"
            )
            last = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            conversation(server.target, post + last)
            conversation(proxy.target, post + last)
            expected += [("POST", "/post", len(INNER)), ("GET", "/last", 0)] * 2
        answered = conversation(
            server.target, "GET /executed HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
    assert executed(answered) == expected

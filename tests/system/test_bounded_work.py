"""
Fault 23: what one client or one worker can make the primary do is bounded.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.system.client import Client, ask_once
from tests.system.placing import sources_of
from tests.system.processes import cpu_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

#: Seconds over which it is looked what the primary uses of a processor.
WHILE = 2.0

#: All these clients have one address.
SKEW = "of the new connections have the affinity key"


def test_fault_23_a_worker_that_prints_without_end(start: Start) -> None:
    """
    Fault 23: a worker that prints empty lines as fast as it can leaves the primary most of its
    time, and other workers' clients are served as ever.
    """
    server = start("--resource", "tests.system.apps:printing", workers=3)
    (noisy,), (also_noisy,), (quiet,) = (sources_of(slot, 3, 1) for slot in range(3))
    for source in (noisy, also_noisy):
        assert ask_once(server.target, source, "/flood").status == 200
    server.log.wait_for(r"\[worker \d+ slot 0\] $", count=1000)
    before = cpu_seconds(server.pid)
    server.pause(WHILE)
    assert cpu_seconds(server.pid) - before < 0.25 * WHILE
    for _ in range(20):
        assert ask_once(server.target, quiet).status == 200
    for source in (noisy, also_noisy):
        assert ask_once(server.target, source, "/quiet").status == 200


def test_fault_23_half_heads_with_urgent_data(start: Start) -> None:
    """
    Fault 23: 1,000 heads that stop behind urgent data cost nothing while they stand, and go to
    the workers of their addresses.
    """
    server = start("--resource", "tests.system.apps:mirror", "--affinity", "header:X-User,ip")
    server.allow(SKEW)
    with ExitStack() as stack:
        clients = []
        for _ in range(1000):
            client = stack.enter_context(Client(server.target))
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.socket.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
            client.socket.send(b"U", socket.MSG_OOB)
            client.socket.sendall(b"X-User: a\r\n")
            clients.append(client)
        before = cpu_seconds(server.pid)
        server.pause(WHILE)
        assert cpu_seconds(server.pid) - before < 0.05 * WHILE
        assert ask_once(server.target).status == 200
        # The worker does not see the urgent byte, as ever.
        clients[0].socket.sendall(b"\r\n")
        assert clients[0].answer().status == 200


def test_fault_23_half_heads_on_a_unix_socket(start: Start, tmp_path: Path) -> None:
    """
    Fault 23: 1,000 half heads on a UNIX socket, which has no low-water mark, cost next to nothing.
    """
    path = str(tmp_path / "socket")
    server = start(
        *("--resource", "tests.system.apps:mirror", "--affinity", "header:X-User,ip"),
        listen=f"unix:{path}",
    )
    server.allow(SKEW)
    with ExitStack() as stack:
        for _ in range(1000):
            client = stack.enter_context(Client(path))
            client.socket.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
        server.pause(1.0)
        before = cpu_seconds(server.pid)
        server.pause(WHILE)
        assert cpu_seconds(server.pid) - before < 0.03 * WHILE


def test_fault_23_pipelined_requests_are_not_parsed_to_be_placed(start: Start) -> None:
    """
    Fault 23: of 100 KB of pipelined requests, which only the primary can place, each is placed
    by its own head; the others are not read again and again.
    """
    server = start("--affinity", "learn:query:sid,ip", "--trust", "127.0.0.0/8")
    count = 2500
    with Client(server.target) as client:
        client.send()
        assert client.answer().status == 200
        before = cpu_seconds(server.pid)
        client.socket.sendall(
            b"".join(b"GET /?sid=%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(count - 1))
            + b"GET /?sid=last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        answered = b""
        while data := client.socket.recv(65536):
            answered += data
        assert answered.count(b"HTTP/1.1 200") == count
        assert cpu_seconds(server.pid) - before < 1.0

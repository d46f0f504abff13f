"""
What systemd is told, and what it may ask of us.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.log import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Start

#: Nobody, on every Linux.
NOBODY = 65534


class Manager:
    """
    A service manager's end of sd_notify(3).
    """

    def __init__(self, path: Path) -> None:
        self.variables = {"NOTIFY_SOCKET": str(path)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)

    def next_with(self, name: str) -> dict[str, str]:
        """
        Wait for a message that says something of ``name``; forget those before it.
        """
        while True:
            said = dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))
            if name in said:
                return said

    def drain(self) -> None:
        """
        Read until nothing comes any more.
        """
        while True:
            self._socket.recv(4096)

    def close(self) -> None:
        """
        Listen no more.
        """
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """
    A service manager.
    """
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_tells_the_service_manager(start: Start, manager: Manager) -> None:
    """
    READY when all serve, RELOADING with the time and READY around a reload, STOPPING.
    """
    server = start(variables=manager.variables)
    ready = manager.next_with("READY")
    assert ready["READY"] == "1"
    assert ready["STATUS"] == "2 of 2 workers serve"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    server.reload()
    reloading = manager.next_with("RELOADING")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(reloading["MONOTONIC_USEC"]) <= after
    assert manager.next_with("READY")["READY"] == "1"
    server.upgrade()
    assert manager.next_with("READY")["READY"] == "1"
    server.stop()
    assert manager.next_with("STOPPING")["STOPPING"] == "1"


def test_feeds_the_watchdog(start: Start, manager: Manager) -> None:
    """
    WATCHDOG comes again and again, and not while the primary stands still.
    """
    server = start(workers=1, variables={**manager.variables, "WATCHDOG_USEC": "200000"})
    for _ in range(3):
        assert manager.next_with("WATCHDOG") == {"WATCHDOG": "1"}
    server.suspend(server.pid)
    manager._socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        manager.drain()
    manager._socket.settimeout(PATIENCE)
    server.resume(server.pid)
    assert manager.next_with("WATCHDOG") == {"WATCHDOG": "1"}
    server.stop()


def test_workers_run_as_somebody_else(start: Start) -> None:
    """
    ``--gid`` by number: root's workers have that group; who is not root is told.
    """
    server = start("--gid", str(NOBODY), ready=False)
    if os.geteuid() == 0:
        # Twisted says so wherever the user stays.
        server.allow("tried to drop privileges and setuid")
        server.wait_until_ready()
        for slot in range(2):
            status = Path(f"/proc/{server.worker(slot)}/status").read_text().splitlines()
            group = next(line for line in status if line.startswith("Gid:"))
            assert group.split()[1:] == [str(NOBODY)] * 4
    else:
        assert server.wait_until_gone() == 1
        server.log.wait_for("only root can run workers as somebody else")


def test_an_early_reload(start: Start) -> None:
    """
    SIGHUP before the fleet is ready is a reload like any other.
    """
    server = start(ready=False)
    server.log.wait_for("Primary .* running")
    server.send(signal.SIGHUP)
    server.log.wait_for("Reloaded: every worker is fresh", timeout=30)

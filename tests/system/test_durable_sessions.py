"""
Sessions in SQLite files outlive workers and the server, and go along when slots change.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.system.counting import Counting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))

#: Seconds between two deaths of a worker.
EVERY_SECONDS = 0.5

DEATHS = (
    r"died of signal 9",
    r"Worker \d+ \(slot",
    r"its answer was not",
)


def store_in(directory: Path) -> tuple[str, ...]:
    """
    The options for sessions in a directory.
    """
    return "--sessions", f"sqlite:{directory / 'sessions'}"


def sources(count: int = 8) -> list[str]:
    """
    Addresses of clients.
    """
    return [f"127.0.3.{number}" for number in range(1, count + 1)]


def listening() -> socket.socket:
    """
    A socket that outlives primaries.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(socket.SOMAXCONN)
    return listener


def kill_one(server: Server) -> None:
    """
    Kill a worker that serves, if there is one.
    """
    serving = server.serving()
    if serving:
        with suppress(ProcessLookupError):
            os.kill(random.choice(serving), signal.SIGKILL)


@pytest.mark.parametrize("options", [(), ("--spares", "1")])
def test_counts_outlive_workers_and_the_server(
    options: tuple[str, ...], start: Start, tmp_path: Path
) -> None:
    """
    No hit that was answered is lost, and none counts twice, however the workers and the primary
    are killed.
    """
    with closing(listening()) as listener:
        server = start(*store_in(tmp_path), *options, listener=listener)
        with Counting(server.target, sources()) as counting:
            for _ in range(4):
                counting.wait_for(20)
                kill_one(server)
            counting.wait_for(20)
            server.kill()
            server = start(*store_in(tmp_path), listener=listener)
            counting.wait_for(50)
            server.allow(*DEATHS)
        counting.check()
        server.stop()
        again = start(*store_in(tmp_path), listener=listener)
        counting.check()
        again.stop()


def test_counts_go_along(start: Start, tmp_path: Path) -> None:
    """
    Reloads, resizes and upgrades under load lose no hit.
    """
    server = start(*store_in(tmp_path), workers=2)
    with Counting(server.target, sources()) as counting:
        for change in (
            server.reload,
            lambda: server.resize_to(3),
            lambda: server.resize_to(1),
            server.upgrade,
            lambda: server.resize_to(2),
        ):
            counting.wait_for(20)
            change()
        counting.wait_for(20)
    assert [problem for count in counting.counts for problem in count.problems] == []
    counting.check()


def test_other_number_of_slots_at_a_start(start: Start, tmp_path: Path) -> None:
    """
    Sessions are found when the server is started with fewer slots, and with more again.
    """
    with closing(listening()) as listener:
        counting = Counting(("127.0.0.1", listener.getsockname()[1]), sources(12))
        for workers in (3, 1, 2, 4):
            server = start(*store_in(tmp_path), listener=listener, workers=workers)
            counting.check()
            server.stop()
        assert counting.unknown == 0


@pytest.mark.soak
def test_nothing_is_lost_for_a_minute(start: Start, tmp_path: Path) -> None:
    """
    A random worker is killed every half second, and the primary three times.
    """
    deaths = primaries = 0
    with closing(listening()) as listener:
        server = start(*store_in(tmp_path), listener=listener)
        with Counting(server.target, sources(16)) as counting:
            tick = threading.Event()
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < SOAK_SECONDS:
                if elapsed > (primaries + 1) * SOAK_SECONDS / 4 and primaries < 3:
                    primaries += 1
                    server.kill()
                    server = start(*store_in(tmp_path), listener=listener, ready=False)
                deaths += 1
                kill_one(server)
                tick.wait(EVERY_SECONDS)
            server.allow(*DEATHS)
            server.wait_until_ready()
            counting.wait_for(10)
        counting.check()
    # The figures of docs/reliability.md.
    print(  # noqa: T201
        f"| sqlite | {deaths} | {primaries} | {counting.acknowledged:,} | {counting.unknown} |"
        f" 0 | 0 |"
    )


@pytest.mark.soak
def test_nothing_is_lost_during_changes(start: Start, tmp_path: Path) -> None:
    """
    A random worker is killed again and again while slots are reloaded, added and taken away: in
    the middle of hand-overs.
    """
    server = start(*store_in(tmp_path), workers=2)
    server.allow(r"#(warn|error|critical)\]", r"Traceback|Unhandled")
    deaths = 0
    with Counting(server.target, sources(16)) as counting:
        tick = threading.Event()
        began = time.monotonic()
        while time.monotonic() - began < SOAK_SECONDS:
            server.send(random.choice((signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)))
            deaths += 1
            # At some moment of the change; the next one begins when the slots serve again.
            tick.wait(random.uniform(0, 4))
            kill_one(server)
            counting.wait_for(20)
        counting.wait_for(10)
    counting.check()
    print(  # noqa: T201
        f"| sqlite, changes | {deaths} | 0 | {counting.acknowledged:,} | {counting.unknown} |"
        f" 0 | 0 |"
    )


def test_damaged_file_is_one_line(start: Start, tmp_path: Path) -> None:
    """
    A server does not start on a file that is damaged, says so in one line, and leaves it as it is.
    """
    server = start(*store_in(tmp_path))
    server.stop()
    path = tmp_path / "sessions" / "slot-0.db"
    path.write_bytes(b"x" * 10_000)
    refused = start(*store_in(tmp_path), ready=False)
    assert refused.wait_until_gone(60.0) == 1
    refused.log.wait_for_end()
    (line,) = [line for line in refused.log.lines if line]
    assert line.startswith(f"stickyd: --sessions sqlite:{path.parent}: {path}: ")
    assert "it is no SQLite database" in line
    assert path.read_bytes() == b"x" * 10_000

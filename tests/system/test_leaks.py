"""
Reloads leave nothing behind in the primary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.processes import descriptors_of, eventually, resident_kib

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.server import Server

#: What a primary's memory may grow by that is no leak: the allocator's own.
SLACK_KIB = 2048


def settled(server: Server, count: int) -> int:
    """
    Wait until the relieved workers have gone.

    :return: how many descriptors the primary has then.
    """
    server.log.wait_for(r"Worker \d+ \(slot 0\) exited with code 0", count=count)
    before = len(descriptors_of(server.pid))
    # The pipes of the last one may be about to be closed.
    eventually(lambda: len(descriptors_of(server.pid)) < before, 0.3)
    return len(descriptors_of(server.pid))


def reload_often(start: Start, first: int, times: int) -> None:
    """
    Reload so often, and compare what the primary has after the first few and after the last.
    """
    server = start("--static", "tests/system/newborn", workers=1)
    with Client(server.target) as client:
        for _ in range(first):
            server.reload()
        descriptors, memory = settled(server, first), resident_kib(server.pid)
        for _ in range(times - first):
            server.reload()
        assert settled(server, times) == descriptors
        grown = resident_kib(server.pid) - memory
        assert grown <= SLACK_KIB, f"{grown} KiB in {times - first} reloads"
        assert client.ask("/none").status == 404
    # The figure of docs/reliability.md.
    print(  # noqa: T201
        f"| {times} reloads of a tiny application | {descriptors} descriptors after number"
        f" {first} and after the last; {grown:+d} KiB |"
    )


def test_reloads_leave_nothing_behind(start: Start) -> None:
    """
    Descriptors and memory are after some reloads what they were after the first few.
    """
    reload_often(start, 3, 7)


@pytest.mark.soak
def test_many_reloads_leave_nothing_behind(start: Start) -> None:
    """
    The same for 200, and after ten.
    """
    reload_often(start, 10, 200)

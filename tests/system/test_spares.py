"""
Spares, and workers that are replaced because they have served enough.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.system.client import Client, ask_once
from tests.system.test_reload import SITE

if TYPE_CHECKING:
    from tests.system.conftest import Start


def test_a_spare_takes_over(start: Start) -> None:
    """
    The clients of a killed worker are served by a worker that was there already.
    """
    server = start("--spares", "1", workers=1)
    server.log.wait_for(r"Worker \d+ online", count=2)
    spare = server.log.wait_for(r"Worker (\d+) started \(spare\)")[1]
    killed = server.worker(0)
    server.allow(f"Worker {killed} .* died of signal 9")
    os.kill(killed, signal.SIGKILL)
    server.log.wait_for(rf"Spare worker {spare} takes slot 0")
    assert ask_once(server.target).counted == (int(spare), 1)
    # And another one is kept in reserve.
    server.log.wait_for(r"Worker \d+ started \(spare\)", count=2)
    server.log.wait_for(r"Worker \d+ online", count=3)


def test_a_spare_succeeds_at_a_reload(start: Start) -> None:
    """
    After a reload nobody runs the former code, spares included.
    """
    server = start("--spares", "1", workers=1)
    server.log.wait_for(r"Worker \d+ online", count=2)
    old = server.worker(0)
    former = server.log.wait_for(r"Worker (\d+) started \(spare\)")[1]
    with Client(server.target) as client:
        assert client.ask().counted == (old, 1)
        server.reload()
        pid, hits = client.ask().counted
    assert hits == 2
    assert pid not in (old, int(former))


def test_replaces_after_many_requests(start: Start) -> None:
    """
    A worker that has answered as many requests as it may is relieved; no client notices.
    """
    server = start("--max-requests", "20", "--heartbeat", "0.1", workers=1)
    old = server.worker(0)
    with Client(server.target) as client:
        answers = [client.ask().counted]
        while answers[-1][0] == old:
            answers.append(client.ask().counted)
            server.pause(0.01)
        assert [hits for _, hits in answers] == list(range(1, len(answers) + 1))
    assert len(answers) > 20
    server.log.wait_for(rf"Worker {old} \(slot 0\) is replaced: it has answered \d+ requests")
    server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")


def test_replaces_a_worker_that_has_grown(start: Start) -> None:
    """
    A worker that has more memory than it may is relieved; a fresh one has less.
    """
    server = start(*SITE, "--max-memory", "150", "--heartbeat", "0.1", workers=1)
    old = server.worker(0)
    with Client(server.target) as client:
        assert client.ask("/grow").counted == (old, 1)
        server.log.wait_for(rf"Worker {old} \(slot 0\) is replaced: \d+ MiB are resident")
        server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")
        assert client.ask("/visits").counted == (server.worker(0), 1)
    assert server.worker(0) != old


def test_sigterm_relieves_a_worker(start: Start) -> None:
    """
    A worker that is sent SIGTERM by hand is relieved first, then ends.
    """
    server = start(workers=1)
    old = server.worker(0)
    with Client(server.target) as client:
        assert client.ask().counted == (old, 1)
        os.kill(old, signal.SIGTERM)
        server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")
        assert client.ask().counted == (server.worker(0), 2)
    assert server.worker(0) != old

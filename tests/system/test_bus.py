"""
The bus between the workers of a real fleet.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.system.asking import Asking
from tests.system.client import Client, ask_once
from tests.system.placing import sources_of
from tests.system.server import LONG

if TYPE_CHECKING:
    from tests.system.conftest import Start


def test_all_workers_hear_all(start: Start) -> None:
    """
    In order, those too that a reload has relieved and that still serve a client, and while the
    primary becomes another program; a worker that dies takes nothing of the others' along.
    """
    server = start("--resource", "tests.system.bus_app:site", "--spares", "0", "--admin", "0")
    asking = Asking(server)
    first, second = (sources_of(slot, 2, 1)[0] for slot in (0, 1))

    def publish(source: str, data: str) -> int:
        return int(ask_once(server.target, source, f"/publish/{data}").body)

    with ExitStack() as clients:

        def wait_for(count: int, source: str) -> Client:
            client = clients.enter_context(Client(server.target, source))
            client.send(f"/heard/{count}")
            return client

        assert publish(first, "a") != publish(second, "b")
        relieved = [
            wait_for(5, source) for source in (first, second)
        ]  # these keep their workers beyond the reload
        pids = [server.worker(slot) for slot in (0, 1)]
        since = server.log.mark()
        server.send(signal.SIGUSR2)
        server.log.wait_for(rf"Primary {server.pid} running", since, timeout=LONG)
        publish(second, "c")
        for pid in pids:
            server.wait_for_successor(pid)
        assert publish(first, "d") not in pids
        assert publish(second, "e") not in pids
        for client, pid in zip(relieved, pids, strict=True):
            assert client.answer().told == {"pid": pid, "heard": ["a", "b", "c", "d", "e"]}
        server.log.wait_for("Reloaded: every worker is fresh", since, timeout=LONG)
        before = ask_once(server.target, second, "/heard/0").told["heard"]
        late = wait_for(len(before) + 2, second)
        dying = server.worker(0)
        server.allow(rf"Worker {dying} .* died of signal 9")
        os.kill(dying, signal.SIGKILL)
        server.log.wait_for(f"Worker {dying} .* died of signal 9")
        publish(second, "f")
        publish(second, "g")
        assert late.answer().told["heard"] == [*before, "f", "g"]
        # What a relieved worker gave to it meanwhile waits for its successor.
        server.wait_for_successor(dying)
    # Over the upgrade and the death; each went to one other worker at least.
    assert asking.total("stickyd_bus_published_total") == 7
    assert asking.total("stickyd_bus_delivered_total") >= 7
    assert asking.total("stickyd_bus_lost_total") == 0

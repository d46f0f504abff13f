"""
Fault 14: workers that end while the primary replaces itself, at every moment of that.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.system.apps import HALF
from tests.system.at_a_moment.moment import Moment
from tests.system.client import Client
from tests.system.placing import sources_of
from tests.system.processes import eventually, is_alive
from tests.system.server import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

#: The moments: the last one of the old program; the first of the new one, which has looked
#: at nothing yet; before it goes on with the workers; when it has, and its reactor does not
#: run yet; when it runs.
MOMENTS = [
    "Upgrading: this process becomes",
    "exec",
    "Primary {pid} running",
    "Reloading",
    "Worker {pid} started",
]

SITE = ("--resource", "tests.system.apps:site")


def spare_of(server: Server) -> int:
    """
    The pid of the spare that was started last.
    """
    return int(server.log.found(r"Worker (\d+) started \(spare\)")[-1][1])


@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_14_workers_that_end_during_an_upgrade(
    moment: str, start: Start, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fault 14: at this moment one serving worker is killed, a relieved one finishes, and a
    spare dies.  The new primary lives, and serves everybody with fresh workers.
    """
    held = Moment(moment, tmp_path, monkeypatch)
    with closing(held), ExitStack() as clients:
        server = start(*SITE, "--spares", "1", variables=gate.variables)
        server.allow("died of signal 9", "Spare worker")
        one, other = (
            clients.enter_context(Client(server.target, source))
            for source in (*sources_of(0, 2, 1), *sources_of(1, 2, 1))
        )
        slow = clients.enter_context(Client(server.target, sources_of(1, 2, 2)[1]))
        slow.send("/held")
        gate.wait_for_arrival()
        relieved = server.worker(1)
        server.reload()
        assert one.ask("/mirror").told["pid"] == server.worker(0)
        killed = [server.worker(0), spare_of(server)]
        since = server.log.mark()
        server.send(signal.SIGUSR2)
        held.gate.wait_for_arrival()
        for pid in killed:
            # The new primary ends the spares of the old one by itself.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        gate.open()
        assert slow.answer().body == b"a" * HALF + b"b" * HALF
        slow.close()
        assert eventually(lambda: not any(map(is_alive, [*killed, relieved])))
        held.close()
        server.log.wait_for("Reloaded: every worker is fresh", since, timeout=LONG)
        assert is_alive(server.pid)
        # Its own connection died with the killed worker.
        with Client(server.target, sources_of(0, 2, 1)[0]) as again:
            assert again.ask("/mirror").told["pid"] not in killed
        assert other.ask("/mirror").status == 200
        server.log.wait_for(rf"Worker {killed[0]} \(slot 0\) died of signal 9", since)
        server.log.wait_for(rf"Worker {relieved} \(slot 1\) exited with code 0", since)


def test_fault_14_a_connection_of_a_worker_that_died_meanwhile(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fault 14: what the dead worker had not acknowledged is served by its successor.
    """
    with closing(Moment("exec", tmp_path, monkeypatch)) as held:
        server = start(workers=1)
        server.allow("died of signal 9")
        worker = server.worker(0)
        server.suspend(worker)
        with Client(server.target) as client:
            client.send()
            server.send(signal.SIGUSR2)
            held.gate.wait_for_arrival()
            os.kill(worker, signal.SIGKILL)
            assert eventually(lambda: not is_alive(worker))
            held.close()
            pid, hits = client.answer().counted
        assert pid != worker
        assert hits == 1

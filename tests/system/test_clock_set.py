"""
Fault 18: the clock of the machine is set while the server runs; all deadlines hold.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client, ask_once
from tests.system.placing import sources_of
from tests.system.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

HOUR = 3600.0


class Wall:
    """
    The clock on the wall of a server.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.set(0)
        path = f"{ROOT / 'tests' / 'system' / 'settable'}:{ROOT}"
        self.variables = {"STICKYD_TEST_CLOCK": str(self._file), "PYTHONPATH": path}

    def set(self, seconds: float) -> None:
        """
        Set it to so many seconds from the time that it is.
        """
        self._file.with_suffix(".new").write_text(str(seconds))
        self._file.with_suffix(".new").rename(self._file)


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    """
    A clock to be set.
    """
    return Wall(tmp_path)


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_fault_18_queue_and_watchdog_time_out(by: float, wall: Wall, start: Start) -> None:
    """
    Fault 18: with the clock set back or forth by an hour, who waits is refused after
    --queue-timeout, and a worker that hangs is found out after --hang-timeout, no sooner.
    """
    server = start(
        *("--queue-timeout", "1", "--hang-timeout", "3", "--heartbeat", "0.2", "--window", "1"),
        variables=wall.variables,
    )
    server.allow("hangs", "hung", "no worker of slot 0 took it within 1 s", "next start")
    hanging = server.worker(0)
    server.suspend(hanging)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(server.target, source)) for source in sources_of(0, 2, 3)
        ]
        assert ask_once(server.target, sources_of(1, 2, 1)[0]).status == 200
        since = server.log.mark()
        wall.set(by)
        # On its way first: it waits for nobody's queue.
        clients[-1].send()
        assert clients[-1].answer().status == 503
        server.log.wait_for("no worker of slot 0 took it within 1 s", since)
        server.log.wait_for(r"hangs: no heartbeat for 3 s", since)
        server.wait_for_successor(hanging)


def holding(server: Server, stack: ExitStack) -> Client:
    """
    A client whose request is not answered.
    """
    client = stack.enter_context(Client(server.target))
    client.send("/held")
    server.log.wait_for("a request is held")
    return client


@pytest.mark.parametrize("reactor", ["uvloop", "asyncio", "epoll"])
def test_fault_18_a_stop_ends_in_time(reactor: str, wall: Wall, start: Start) -> None:
    """
    Fault 18: a stop cuts a request off after --stop-timeout, whatever the clock says.
    """
    server = start(
        *("--resource", "tests.system.apps:never", "--stop-timeout", "2"),
        *("--worker-reactor", reactor),
        workers=1,
        variables=wall.variables,
    )
    with ExitStack() as stack:
        holding(server, stack)
        wall.set(-HOUR)
        server.stop()


@pytest.mark.parametrize("reactor", ["uvloop", "epoll"])
@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_fault_18_an_idle_connection_ends_in_time(
    by: float, reactor: str, wall: Wall, start: Start
) -> None:
    """
    Fault 18: in the worker too: an idle connection is closed after --idle-timeout, no sooner
    than that.
    """
    server = start(
        *("--idle-timeout", "2", "--worker-reactor", reactor), workers=1, variables=wall.variables
    )
    with Client(server.target) as client:
        assert client.ask().status == 200
        wall.set(by)
        assert client.ask().status == 200
        assert client.at_end()


def test_fault_18_an_upgrade_keeps_deadlines(wall: Wall, start: Start) -> None:
    """
    Fault 18: who waits for a worker while the primary replaces itself and the clock is set
    forth by an hour waits on.
    """
    server = start(
        *("--resource", "tests.system.apps:mirror", "--window", "1", "--queue-timeout", "60"),
        workers=1,
        variables=wall.variables,
    )
    with ExitStack() as stack:
        server.suspend(server.worker(0))
        clients = [stack.enter_context(Client(server.target)) for _ in range(4)]
        for client in clients:
            client.send()
        wall.set(HOUR)
        since = server.log.mark()
        server.send(signal.SIGUSR2)
        server.log.wait_for(rf"Primary {server.pid} running", since)
        server.resume(server.started[0].pid)
        for client in clients:
            assert client.answer().status == 200
        server.log.wait_for("Reloaded: every worker is fresh", since)

"""
Stopping: what is under way finishes, within bounds, and nothing is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from http.client import IncompleteRead
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.system.apps import HALF
from tests.system.client import Client, ask_once
from tests.system.placing import source_address, sources_of
from tests.system.processes import lowest_free_descriptor
from tests.system.server import ROOT

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

SITE = ("--resource", "tests.system.apps:site")

#: Seconds between a worker's deadline and its SIGKILL, and some more for a busy machine.
KILL_AFTER_SECONDS = 6.0
SLACK = 10.0


def send_stop(server: Server, how: str) -> None:
    """
    Tell a server to stop: its primary alone, or the whole group, as a terminal and as
    systemd do.
    """
    signum = signal.Signals[how.split()[0]]
    if how.endswith("to the group"):
        server.signal_group(signum)
    else:
        server.send(signum)


WAYS = pytest.mark.parametrize("how", ["SIGTERM", "SIGINT to the group", "SIGTERM to the group"])


@WAYS
def test_finishes_requests(how: str, start: Start, gate: Gate) -> None:
    """
    A request under way is answered whole with 200, though the stop came in its middle.
    """
    server = start(*SITE, variables=gate.variables)
    with Client(server.target) as client, Client(server.target) as idle:
        assert idle.ask("/mirror").status == 200
        client.send("/held")
        gate.wait_for_arrival()
        with client.response() as response:
            assert response.status == 200
            assert response.read(HALF) == b"a" * HALF
            send_stop(server, how)
            # The worker that both are with knows of the stop: it has closed the idle one.
            assert idle.at_end()
            gate.open()
            assert response.read() == b"b" * HALF
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


def test_finishes_for_slow_readers(start: Start, gate: Gate) -> None:
    """
    A client that reads nothing before the server has finished gets the whole answer.
    """
    server = start(*SITE, variables=gate.variables)
    with Client(server.target) as client, Client(server.target) as idle:
        assert idle.ask("/mirror").status == 200
        client.send("/held")
        gate.wait_for_arrival()
        server.process.terminate()
        assert idle.at_end()
        gate.open()
        assert client.answer().body == b"a" * HALF + b"b" * HALF
    assert server.wait_until_gone() == 0


@WAYS
def test_stops_idle(how: str, start: Start) -> None:
    """
    With nothing but idle connections open, a stop closes them and does not wait.
    """
    server = start(*SITE, "--stop-timeout", "600")
    with Client(server.target) as silent, Client(server.target) as idle:
        assert idle.ask("/mirror").status == 200
        send_stop(server, how)
        assert idle.at_end()
        assert silent.at_end()
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


def test_cuts_off_long_requests(start: Start, gate: Gate) -> None:
    """
    A request that takes longer than the stop timeout is cut off, and the exit code is 0.
    """
    server = start(*SITE, "--stop-timeout", "0.5", variables=gate.variables)
    with Client(server.target) as client:
        client.send("/held")
        gate.wait_for_arrival()
        began = monotonic()
        server.process.terminate()
        with client.response() as response, pytest.raises((IncompleteRead, ConnectionError)):
            response.read()
        server.log.wait_for(r"Cut off, as its time is over: GET /held of 127\.0\.0\.1")
        assert server.wait_until_gone() == 0
        assert monotonic() - began < 0.5 + SLACK
    server.check_nothing_left()


def test_kills_stuck_workers(start: Start, gate: Gate) -> None:
    """
    A worker that never returns to its reactor is killed soon after the stop timeout.
    """
    server = start(*SITE, "--stop-timeout", "0.5", variables=gate.variables)
    server.allow("did not stop in time; killing it")
    with Client(server.target) as client:
        client.send("/spin")
        gate.wait_for_arrival()
        server.process.terminate()
        assert server.wait_until_gone(0.5 + KILL_AFTER_SECONDS + SLACK) == 0
    server.log.wait_for("did not stop in time; killing it")


def test_waits_for_applications_to_shut_down(start: Start) -> None:
    """
    An application that takes some seconds to shut down is not killed, though a request has
    used up the stop timeout.
    """
    server = start("--asgi", "tests.system.apps:slow_to_end", "--stop-timeout", "0.2", workers=3)
    with Client(server.target) as client:
        client.send("/")
        server.log.wait_for("a request is held")
        server.process.terminate()
        assert client.at_end()
    assert server.wait_until_gone(KILL_AFTER_SECONDS + SLACK) == 0
    assert len(server.log.found("the application has shut down")) == 3


def test_kills_suspended_workers(start: Start) -> None:
    """
    A worker that stands still when the server stops is killed; what it never took gets
    the overflow answer.
    """
    server = start(*SITE, "--stop-timeout", "0.5", "--window", "1")
    server.allow("did not stop in time; killing it", "refused .503.: the server stops")
    server.suspend(server.worker(0))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(server.target, source)) for source in sources_of(0, 2, 3)
        ]
        for client in clients:
            client.send("/mirror")
        server.process.terminate()
        assert [client.answer().status for client in clients] == [503] * 3
    assert server.wait_until_gone(0.5 + KILL_AFTER_SECONDS + SLACK) == 0


def test_serves_the_accept_queue(start: Start) -> None:
    """
    Connections that wait in the kernel's queue when the stop comes are served.
    """
    server = start(*SITE)
    server.suspend(server.pid)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(server.target, source_address(number)))
            for number in range(300)
        ]
        for client in clients:
            client.send("/mirror")
        server.process.terminate()
        server.resume(server.pid)
        for client in clients:
            assert client.answer().told["host"] == client.source
    assert server.wait_until_gone() == 0


def test_serves_what_waits_for_a_worker(start: Start, gate: Gate) -> None:
    """
    A stop while the only worker is busy waits for the connections that queue for it.
    """
    server = start(*SITE, "--window", "1", workers=1, variables=gate.variables)
    server.suspend(server.worker(0))
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.target)) for _ in range(10)]
        for client in clients:
            client.send("/mirror")
        server.process.terminate()
        server.log.wait_for("Stopping: ")
        server.resume(server.worker(0))
        assert [client.answer().status for client in clients] == [200] * 10
    assert server.wait_until_gone() == 0


@WAYS
def test_stops_while_starting(how: str, start: Start, gate: Gate) -> None:
    """
    Workers in the middle of a long import do not hold up a stop.
    """
    server = start(
        "--resource", "tests.system.broken.slow:root", variables=gate.variables, ready=False
    )
    gate.wait_for_arrival()
    gate.wait_for_arrival()
    send_stop(server, how)
    assert server.wait_until_gone(KILL_AFTER_SECONDS + SLACK) == 0
    server.check_nothing_left()


@WAYS
def test_stops_newborn_workers(how: str, start: Start, gate: Gate) -> None:
    """
    Workers that have not run a line of their own when the stop comes leave quietly.
    """
    path = f"{ROOT / 'tests/system/newborn'}{os.pathsep}{ROOT}"
    server = start(*SITE, variables={**gate.variables, "PYTHONPATH": path}, ready=False)
    gate.wait_for_arrival()
    gate.wait_for_arrival()
    send_stop(server, how)
    server.log.wait_for("Stopping: ")
    gate.open()
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


@pytest.mark.parametrize("how", ["SIGQUIT", "SIGTERM to the group"])
def test_second_signal(how: str, start: Start, gate: Gate) -> None:
    """
    An impatient second signal does no harm: the request under way is answered whole.
    """
    server = start(*SITE, variables=gate.variables)
    with Client(server.target) as client, Client(server.target) as idle:
        assert idle.ask("/mirror").status == 200
        client.send("/held")
        gate.wait_for_arrival()
        send_stop(server, how)
        assert idle.at_end()
        send_stop(server, how)
        gate.open()
        assert len(client.answer().body) == 2 * HALF
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


def test_second_and_third_interrupt(start: Start, gate: Gate) -> None:
    """
    Whoever presses Ctrl-C twice waits for no request any more, and the third time not even for
    a worker that is stuck; the log says so.
    """
    server = start(*SITE, workers=1, variables=gate.variables)
    with Client(server.target) as client, Client(server.target) as idle:
        assert idle.ask("/mirror").status == 200
        client.send("/held")
        gate.wait_for_arrival()
        server.signal_group(signal.SIGINT)
        server.log.wait_for(r"1 (request|stream) left, at most \d+ s more")
        server.log.wait_for(r"#info\] Ctrl-C \(SIGINT\) once more stops at once")
        assert idle.at_end()
        server.suspend(server.worker(0))
        server.allow("Stopping at once: what is under way is cut off", "Killing the workers")
        server.signal_group(signal.SIGINT)
        server.log.wait_for("Stopping at once")
        server.resume(server.worker(0))
        with pytest.raises((IncompleteRead, ConnectionError)), client.response() as response:
            response.read()
        server.signal_group(signal.SIGINT)
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


def test_third_interrupt_kills(start: Start) -> None:
    """
    A worker that is stuck has six seconds after its deadline, but for the third Ctrl-C.
    """
    server = start(*SITE, workers=1)
    server.suspend(server.worker(0))
    server.allow("Stopping at once", "Killing the workers")
    for line in ("Stopping: ", "Stopping at once", "Killing the workers"):
        server.signal_group(signal.SIGINT)
        server.log.wait_for(line)
    server.log.wait_for(r"slot 0\) died of signal 9")
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


def test_stops_while_accepting_pauses(start: Start, gate: Gate) -> None:
    """
    A primary that has run out of descriptors can be stopped like any other.
    """
    server = start(*SITE, variables=gate.variables)
    server.allow("Accepting pauses")
    with Client(server.target) as client, ExitStack() as stack:
        client.send("/held")
        gate.wait_for_arrival()
        assert ask_once(server.target, path="/mirror").status == 200
        server.limit_descriptors(server.pid, lowest_free_descriptor(server.pid))
        stack.enter_context(Client(server.target))
        server.log.wait_for("Accepting pauses")
        server.process.terminate()
        server.log.wait_for("Stopping: ")
        # Long enough for every pause to end while the stop is under way.
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        gate.open()
        assert len(client.answer().body) == 2 * HALF
    assert server.wait_until_gone() == 0
    server.check_nothing_left()

"""
Reloads one after the other, and what they leave behind.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.system.client import ask_once
from tests.system.processes import eventually, is_alive, processes_marked
from tests.system.websocket import WebSocket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

MOVING = ("--resource", "tests.system.moving_apps:site")


def test_fault_20_fifty_signals_are_two_reloads(start: Start, gate: Gate, tmp_path: Path) -> None:
    """
    Fault 20: reloads do not overtake each other, those that wait are one, and the newest
    settings win.
    """
    config = tmp_path / "stickyd.toml"
    config.write_text("")
    server = start("--config", str(config), workers=1, variables=gate.variables)
    since = server.log.mark()

    def send(application: str) -> None:
        config.write_text(f'resource = "{application}"\n')
        count = len(server.log.found("Received SIGHUP", since))
        server.send(signal.SIGHUP)
        server.log.wait_for("Received SIGHUP", since, count + 1)

    send("tests.system.broken.waiting:root")
    gate.wait_for_arrival()
    for _ in range(49):
        send("tests.system.moving_apps:site")
    send("tests.system.apps:site")
    gate.open()
    server.log.wait_for("Reloaded: every worker is fresh", since, 2)
    assert ask_once(server.target, path="/spun").status == 404
    assert ask_once(server.target, path="/mirror").told["pid"] == server.worker(0)
    assert len(server.log.found(r"\] Reloading$", since)) == 2
    assert len(server.started) == 3


@pytest.mark.parametrize("most", [1, 2])
def test_fault_20_relieved_workers_are_bounded(most: int, start: Start) -> None:
    """
    Fault 20: each reload leaves a worker with a stream; past --max-leaving the one that was
    relieved first ends, and its clients are told as at the deadline.
    """
    server = start(*MOVING, "--max-leaving", str(most), workers=1)
    server.allow(r"is ended before it has finished: more than \d relieved workers")
    reloads = most + 2
    with ExitStack() as streams:
        websockets, workers = [], []
        for _ in range(reloads):
            websockets.append(streams.enter_context(WebSocket(server.target)))
            workers.append(server.worker(0))
            assert websockets[-1].say("here") == f"{workers[-1]} here"
            server.reload()
        ended, staying = reloads - most, workers[reloads - most :]
        for websocket in websockets[:ended]:
            assert websocket.closed_with() == 1012
        assert eventually(lambda: not any(map(is_alive, workers[:ended])))
        for websocket, worker in zip(websockets[ended:], staying, strict=True):
            assert websocket.say("still") == f"{worker} still"
            websocket.bid_farewell()


#: What tries an application, by the signal that has it tried.
TRIALS = pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR2])


def in_trial(start: Start, gate: Gate, config: Path, signum: signal.Signals) -> Server:
    """
    A server of which a child tries an application that does not finish its import.
    """
    config.write_text("")
    server = start(
        *("--config", str(config), "--start-timeout", "600"), workers=1, variables=gate.variables
    )
    config.write_text('resource = "tests.system.broken.waiting:root"\n')
    server.send(signum)
    gate.wait_for_arrival()
    return server


@TRIALS
def test_fault_22_a_stop_ends_the_trial(
    signum: signal.Signals, start: Start, gate: Gate, tmp_path: Path
) -> None:
    """
    Fault 22: nobody waits for a verdict when the server stops, and no process is left.
    """
    in_trial(start, gate, tmp_path / "stickyd.toml", signum).stop()


@TRIALS
def test_a_trial_ends_with_its_primary(
    signum: signal.Signals, start: Start, gate: Gate, tmp_path: Path
) -> None:
    """
    The child that tries an application ends when nobody can hear its verdict any more.
    """
    server = in_trial(start, gate, tmp_path / "stickyd.toml", signum)
    server.kill()
    assert eventually(lambda: not processes_marked(server._mark))

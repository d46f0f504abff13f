"""
A canary: some slots get the new code, and then the others too, or none.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.ctl import Ctl
from tests.system.keeping import Players
from tests.system.test_reload_by_client import BY_CLIENT, KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

AFFINITY = "cookie:stickyd"


def ctl_in(directory: Path) -> Ctl:
    """
    Have a folder for the socket.
    """
    run = directory / "run"
    run.mkdir(mode=0o700)
    return Ctl(run)


def upgrade(server: Server) -> None:
    """
    Replace the primary's code, while a canary is out.
    """
    since = server.log.mark()
    server.send(signal.SIGUSR2)
    server.log.wait_for("the canary is still out in slot 0: every worker stays", since)


@pytest.mark.soak
def test_going_on_after_an_upgrade_replaces_the_canary_too(start: Start, tmp_path: Path) -> None:
    """
    Its workers run what stickyd was before; their clients stay, as everybody's do.
    """
    ctl = ctl_in(tmp_path)
    server = start(
        *(*KINDS["asgi"], "--affinity", AFFINITY, *BY_CLIENT), workers=2, variables=ctl.variables
    )
    with Players() as players:
        ctl.run_here("reload", "--slots", "1")
        players.begin(server.target, AFFINITY, 6)
        upgrade(server)
        old = {server.worker(0), server.worker(1)}
        ctl.run_here("go-on")
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        assert {player.pids[0] for player in begun} == {server.worker(0), server.worker(1)}
        assert {server.worker(0), server.worker(1)}.isdisjoint(old)
        assert ctl.json("status")["canary"] is None


def test_a_canary_goes_back_and_another_one_goes_on(start: Start, tmp_path: Path) -> None:
    """
    Newcomers of its slot get the canary's worker; back, they get the former one again, and the
    canary's clients stay with the canary; on, all slots have the new code; nobody loses anything,
    and an upgrade in between changes nothing of that.
    """
    ctl = ctl_in(tmp_path)
    server = start(
        *(*KINDS["asgi"], "--affinity", AFFINITY, *BY_CLIENT, "--drain-timeout", "600"),
        workers=2,
        variables=ctl.variables,
    )
    with Players() as players:
        players.begin(server.target, AFFINITY, 4)
        before = {server.worker(0), server.worker(1)}
        assert "1 of 2 slots" in ctl.run_here("reload", "--slots", "1")[0]
        canary = server.worker(0)
        assert canary not in before
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        assert {player.pids[0] for player in begun} == {canary, server.worker(1)}
        status = ctl.json("status")
        assert status["canary"] == {"slots": [0], "generation": 2}
        slot = status["slots"][0]["workers"]
        assert [(w["generation"], w["keeps"]) for w in slot] == [(2, False), (1, True)]
        upgrade(server)
        assert ctl.json("status")["canary"] == {"slots": [0], "generation": 2}
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        assert {player.pids[0] for player in begun} <= {canary, server.worker(1)}
        assert "a canary is out already" in ctl.run_here("reload", "--slots", "50%", code=1)[1]

        assert "back" in ctl.run_here("go-back")[0]
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        former = (before - {server.worker(1)}).pop()
        # All, if the other one has more to do.
        assert {former} <= {player.pids[0] for player in begun} <= before
        assert "no canary is out" in ctl.run_here("go-on", code=1)[1]

        ctl.run_here("reload", "--slots", "50%")
        ctl.run_here("go-on")
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        assert {player.pids[0] for player in begun} <= {server.worker(0), server.worker(1)}
        assert {server.worker(0), server.worker(1)}.isdisjoint(before | {canary})

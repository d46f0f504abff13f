"""
A canary: some slots get the new code, and then the others too, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.keeping import Players
from tests.system.test_reload_by_client import BY_CLIENT, KINDS
from tests.system.test_stickyctl import Ctl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

AFFINITY = "cookie:stickyd"


def test_a_canary_goes_back_and_another_one_goes_on(start: Start, tmp_path: Path) -> None:
    """
    Newcomers of its slot get the canary's worker; back, they get the former one again, and the
    canary's clients stay with the canary; on, all slots have the new code; nobody loses anything.
    """
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    ctl = Ctl(directory)
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
        assert "a canary is out already" in ctl.run_here("reload", "--slots", "50%", code=1)[1]

        assert "back" in ctl.run_here("go-back")[0]
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        assert {player.pids[0] for player in begun} == before
        assert "no canary is out" in ctl.run_here("go-on", code=1)[1]

        ctl.run_here("reload", "--slots", "50%")
        ctl.run_here("go-on")
        players.go_on()
        begun = players.begin(server.target, AFFINITY, 8)
        assert {player.pids[0] for player in begun} == {server.worker(0), server.worker(1)}
        assert {server.worker(0), server.worker(1)}.isdisjoint(before | {canary})

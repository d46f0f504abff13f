"""
Fault 19: whatever goes wrong with an upgrade, the clients do not notice.
"""

from __future__ import annotations

import re
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.system.at_a_moment.moment import Moment
from tests.system.client import Client, ask_once
from tests.system.placing import sources_of
from tests.system.processes import is_alive
from tests.system.server import LONG, ROOT
from tests.system.websocket import WebSocket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

MOVING = 'resource = "tests.system.moving_apps:site"\n'


def test_fault_19_a_stuck_worker_keeps_nobody_waiting(start: Start) -> None:
    """
    Fault 19: a relieved worker that does not answer is named, and while it is waited for
    everybody is accepted; afterwards all is as before.
    """
    server = start("--hang-timeout", "600", workers=1)
    stuck = server.worker(0)
    server.suspend(stuck)
    server.reload()
    server.allow("Not upgraded, nothing has changed: no answer from worker")
    since = server.log.mark()
    server.send(signal.SIGUSR2)
    server.log.wait_for("the new code is sound", since, timeout=LONG)
    for number in range(20):
        assert ask_once(server.target).counted == (server.worker(0), number + 1)
    assert not server.log.found("Not upgraded", since)
    server.log.wait_for(
        rf"Not upgraded, nothing has changed: no answer from worker {stuck} \(slot 0\)", since
    )
    server.reload()
    server.resume(stuck)
    server.log.wait_for(rf"Worker {stuck} \(slot 0\) exited with code 0")
    server.upgrade()
    assert ask_once(server.target).counted == (server.worker(0), 21)


def take_away(config: Path) -> None:
    """
    Remove the file.
    """
    config.unlink()


def break_up(config: Path) -> None:
    """
    Leave half of it.
    """
    config.write_text('resource = "tests.sys')


def mistake(config: Path) -> None:
    """
    Write what is no setting.
    """
    config.write_text(f"{MOVING}wrokers = 3\n")


@pytest.mark.parametrize("spoil", [take_away, break_up, mistake])
def test_fault_19_settings_that_break_after_the_trial(
    spoil: Callable[[Path], None],
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Fault 19: the new program runs with the settings that were tried, and says so; the next
    reload reads them again.
    """
    config = tmp_path / "stickyd.toml"
    config.write_text(MOVING)
    with closing(Moment("Upgrading: this process becomes", tmp_path, monkeypatch)) as moment:
        server = start("--config", str(config), workers=1)
        server.allow("the settings are those that were tried", "Not reloaded: ")
        with Client(server.target) as client:
            assert client.ask("/visits").counted[0] == server.worker(0)
            since = server.log.mark()
            server.send(signal.SIGUSR2)
            moment.gate.wait_for_arrival()
            spoil(config)
            moment.close()
            server.log.wait_for("the settings are those that were tried", since, timeout=LONG)
            server.log.wait_for("Reloaded: every worker is fresh", since, timeout=LONG)
            assert is_alive(server.pid)
            assert client.ask("/visits").counted[0] == server.worker(0)
            server.send(signal.SIGHUP)
            server.log.wait_for("Not reloaded: ", since)
            config.write_text(MOVING.replace("moving_apps", "apps"))
            server.reload()
            assert client.ask("/visits").status == 404


def test_fault_19_a_secret_that_is_gone_after_the_trial(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fault 19: the clients keep their places, since the former secrets stay.
    """
    secret = tmp_path / "secret"
    secret.write_text("a secret that nobody guesses")
    secret.chmod(0o600)
    options = ("--secret-file", str(secret), "--affinity", "cookie:stickyd,ip")
    with closing(Moment("exec", tmp_path, monkeypatch)) as moment:
        server = start("--resource", "tests.system.apps:mirror", *options)
        server.allow("the former secrets stay", "Not reloaded: --secret-file")
        with Client(server.target) as client:
            client.send("/")
            with client.response() as response:
                cookie = re.match("stickyd=[^;]+", response.getheader("Set-Cookie", ""))
                response.read()
        assert cookie is not None
        since = server.log.mark()
        server.send(signal.SIGUSR2)
        moment.gate.wait_for_arrival()
        secret.unlink()
        moment.close()
        server.log.wait_for("Not reloaded: --secret-file", since, timeout=LONG)
        assert is_alive(server.pid)
        with Client(server.target) as client:
            client.send("/", False, f"Cookie: {cookie[0]}")
            with client.response() as response:
                assert response.status == 200
                assert response.getheader("Set-Cookie") is None


#: Code that reads another version of the state; and code that knows of no versions.
OTHER_CODE = {
    "reads version 99": "inheritance.VERSION = 99",
    "does not say": "inheritance.Preflight.accept = lambda self, settings: None",
}


@pytest.mark.parametrize("says", OTHER_CODE)
def test_code_for_another_version_is_refused(
    says: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Code that cannot go on with this state says so when it is tried, before any harm.
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if 'STICKYD_PREFLIGHT' in os.environ:\n"
        f"    import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "    from stickyd.upgrade import inheritance\n"
        f"    {OTHER_CODE[says]}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start(workers=1)
    server.allow("Not upgraded, nothing has changed: ")
    with Client(server.target) as client:
        pid, _ = client.ask().counted
        since = server.log.mark()
        server.send(signal.SIGUSR2)
        server.log.wait_for(
            f"Not upgraded, nothing has changed: .*{says}.*restart instead of upgrading",
            since,
            timeout=LONG,
        )
        assert client.ask().counted == (pid, 2)
    reload_and_serve(server)


def reload_and_serve(server: Server) -> None:
    """
    Check that a server is as it was.
    """
    server.reload()
    assert ask_once(server.target).status == 200


def test_fault_19_a_worker_of_a_slot_that_was_taken_away(start: Start) -> None:
    """
    Fault 19: a worker that a resize has left with a stream keeps no upgrade waiting, and
    finishes its stream under the new primary.
    """
    server = start("--resource", "tests.system.moving_apps:site")
    leaving = server.worker(1)
    with WebSocket(server.target, source=sources_of(1, 2, 1)[0]) as websocket:
        assert websocket.say("before") == f"{leaving} before"
        server.resize_to(1)
        server.upgrade()
        assert websocket.say("after") == f"{leaving} after"
        websocket.bid_farewell()
    server.log.wait_for(rf"Worker {leaving} \(slot 1\) exited with code 0")

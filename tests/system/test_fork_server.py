"""
Where workers come from: forked from one process that has imported what they need, or started anew.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.client import ask_once
from tests.system.processes import Watched, children_of, eventually, is_alive, state_of
from tests.system.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

READY = r"Fork server (\d+) has imported what workers need"

#: Tells who it is, and who has imported it.
APPLICATION = """\
import json, os, sys
imported_by = os.getpid()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    told = [os.getpid(), os.getppid(), imported_by, sys.argv, sys.orig_argv[1:]]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""

#: What Python imports wherever it starts, and begins a thread.
SITE = """\
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def fork_server_of(server: Server, count: int = 1) -> int:
    """
    The pid of the fork server that was the ``count``-th to be ready.
    """
    server.log.wait_for(READY, count=count)
    return int(server.log.found(READY)[count - 1][1])


@pytest.fixture
def application(tmp_path: Path) -> dict[str, str]:
    """
    The environment in which ``told:app`` is found.
    """
    (tmp_path / "told.py").write_text(APPLICATION)
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


def test_workers_are_forked_and_know_no_difference(
    start: Start, application: dict[str, str]
) -> None:
    """
    Workers are the primary's children, have imported the application themselves, and say of
    themselves what one says that was started anew; a reload has a fork server of its own, as what
    is installed may be newer, and of an upgrade and a stop none is left.
    """
    server = start("--asgi", "told:app", variables=application)
    first = fork_server_of(server)
    workers = {server.worker(0), server.worker(1)}
    assert set(children_of(server.pid)) == {first, *workers}
    pid, parent, imported_by, argv, rest = json.loads(ask_once(server.target).body)
    slot = str(server.slot_of(pid))
    assert (parent, imported_by) == (server.pid, pid)
    assert argv[1:] == ["--reactor", "uvloop", "--slot", slot]
    assert rest == ["-m", "stickyd.worker", *argv[1:]]
    shown = children_of(server.pid)
    assert shown[pid].endswith(" ".join(["", *rest]))
    assert shown[first].endswith(" --fork-server")
    assert children_of(first) == {}
    # A group's signal means the primary; Ctrl-C the same.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(first, signum)
    server.reload()
    second = fork_server_of(server, 2)
    fresh = {server.worker(0), server.worker(1)}
    assert not fresh & workers
    assert eventually(lambda: set(children_of(server.pid)) == {second, *fresh})
    server.upgrade()
    third = fork_server_of(server, 3)
    assert eventually(
        lambda: set(children_of(server.pid)) == {third, server.worker(0), server.worker(1)}
    ), "the former primary's fork server is a zombie"


def test_killed_fork_server(start: Start) -> None:
    """
    Its workers serve on.  The next worker that is wanted has a new one made, and waits for it.
    """
    server = start()
    killed = fork_server_of(server)
    server.allow(rf"Fork server {killed} died of signal 9", r"Worker \d+ .* died of signal 9")
    watched = Watched(killed)
    os.kill(killed, signal.SIGKILL)
    server.log.wait_for(rf"Fork server {killed} died of signal 9")
    assert watched.ends_within(0)
    watched.close()
    assert is_alive(server.worker(0))
    assert is_alive(server.worker(1))
    pid, hits = ask_once(server.target).counted
    assert hits == 1
    os.kill(pid, signal.SIGKILL)
    successor = server.wait_for_successor(pid)
    assert fork_server_of(server, 2) in children_of(server.pid)
    assert ask_once(server.target).counted == (successor, 1)


def test_suspended_fork_server(start: Start) -> None:
    """
    One that does not answer is waited for no longer than a moment; the worker is started anew.
    """
    server = start()
    hangs = fork_server_of(server)
    given_up = rf"Fork server {hangs} is ended.*: it has forked no worker within"
    server.allow(given_up, r"Worker \d+ .* died of signal 9")
    server.suspend(hangs)
    killed = server.worker(0)
    os.kill(killed, signal.SIGKILL)
    server.log.wait_for(given_up)
    successor = server.wait_for_successor(killed)
    assert successor in children_of(server.pid)
    assert eventually(lambda: state_of(hangs) == "")


def test_what_starts_threads_is_not_forked(start: Start, tmp_path: Path) -> None:
    """
    Where something begins threads wherever Python starts, workers are started anew, which is said
    once; they serve, die, and are reloaded all the same.
    """
    (tmp_path / "sitecustomize.py").write_text(SITE)
    server = start(variables={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    refused = "Workers are started anew, which takes longer than to fork them: 1 more thread"
    server.allow(refused, r"Worker \d+ .* died of signal 9")
    pid, _ = ask_once(server.target).counted
    assert children_of(server.pid)[pid].endswith(f" --slot {server.slot_of(pid)}")
    os.kill(pid, signal.SIGKILL)
    server.wait_for_successor(pid)
    assert len(server.log.found(refused)) == 1
    assert set(children_of(server.pid)) == {server.worker(0), server.worker(1)}
    server.reload()
    assert len(server.log.found(refused)) == 2
    assert ask_once(server.target).status == 200

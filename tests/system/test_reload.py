"""
Reload: fresh workers, and no client notices.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.apps import HALF
from tests.system.client import Client, ask_once
from tests.system.placing import sources_of
from tests.system.processes import eventually
from tests.system.websocket import WebSocket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

SITE = ("--resource", "tests.system.moving_apps:site")

HOSTS = pytest.mark.parametrize(
    "host", [SITE, ("--asgi", "tests.system.moving_apps:asgi")], ids=["resource", "asgi"]
)

#: An application that can be changed while it runs.
VERSION = """
from twisted.web.static import Data
def make():
    data = Data(b"{}", "text/plain")
    data.isLeaf = True
    return data
"""


class Source:
    """
    The file of an application.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "changing_app.py"
        self.options = ("--resource", "changing_app:make")
        self.variables = {"PYTHONPATH": str(directory)}

    def write(self, text: str) -> None:
        """
        Be this from now on.
        """
        self._file.write_text(text)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """
    The file of an application that says ``one``.
    """
    source = Source(tmp_path)
    source.write(VERSION.format("one"))
    # So that the server's environment has this directory beside the checkout.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # A changed file of the same second and size would be taken for the compiled one.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return source


def refused(server: Server, pattern: str) -> None:
    """
    Reload, and check that it is refused for this reason.
    """
    since = server.log.mark()
    server.allow("Not reloaded: ")
    server.send(signal.SIGHUP)
    server.log.wait_for(f"Not reloaded: .*{pattern}", since)


def test_idle_connections_live_on(start: Start) -> None:
    """
    A connection without a request is not closed: the fresh worker answers on it, and
    counts on.
    """
    server = start()
    sources = [*sources_of(0, 2, 2), *sources_of(1, 2, 2)]
    clients = [Client(server.target, source) for source in sources]
    before = [client.ask().counted for client in clients]
    server.reload()
    after = [client.ask().counted for client in clients]
    assert [hits for _, hits in after] == [2] * 4
    assert {pid for pid, _ in before}.isdisjoint(pid for pid, _ in after)
    fresh = [server.worker(0)] * 2 + [server.worker(1)] * 2
    assert [pid for pid, _ in after] == fresh
    for client in clients:
        client.close()


@HOSTS
def test_websockets_stay(host: tuple[str, str], start: Start) -> None:
    """
    A WebSocket goes on at its old worker, which leaves when the WebSocket has ended.
    """
    server = start(*host, workers=1)
    old = server.worker(0)
    with WebSocket(server.target) as websocket:
        assert websocket.say("before") == f"{old} before"
        server.reload()
        assert websocket.say("after") == f"{old} after"
        assert ask_once(server.target, path="/visits").counted[0] == server.worker(0) != old
        websocket.bid_farewell()
    server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")


@HOSTS
def test_websockets_are_told_at_the_deadline(host: tuple[str, str], start: Start) -> None:
    """
    A WebSocket that lasts longer than the drain timeout is closed with code 1012.
    """
    server = start(*host, "--drain-timeout", "0.3", workers=1)
    old = server.worker(0)
    with WebSocket(server.target) as websocket:
        server.reload()
        assert websocket.closed_with() == 1012
    server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")


def test_long_answers_are_finished(start: Start, gate: Gate) -> None:
    """
    An answer under way comes whole from the old worker; everybody else's session is at the
    fresh one meanwhile, and the connection follows.
    """
    server = start(*SITE, workers=1, variables=gate.variables)
    with Client(server.target) as slow, Client(server.target) as other:
        other.send("/visits")
        with other.response() as response:
            cookie = f"Cookie: {response.getheader('Set-Cookie', '').partition(';')[0]}"
            old = int(re.findall(rb"\d+", response.read())[0])
        slow.send("/held")
        gate.wait_for_arrival()
        server.reload()
        other.send("/visits", False, cookie)
        assert other.answer().counted == (server.worker(0), 2)
        gate.open()
        assert slow.answer().body == b"a" * HALF + b"b" * HALF
        slow.send("/visits", False, cookie)
        assert slow.answer().counted == (server.worker(0), 3)
        assert server.worker(0) != old
    server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")


def test_more_idle_connections_than_the_queue_holds(start: Start) -> None:
    """
    The queue's limit is for newcomers: any number of idle connections goes along.
    """
    server = start("--queue-limit", "4", workers=1)
    clients = [Client(server.target, source) for source in sources_of(0, 1, 40)]
    for client in clients:
        assert client.ask().counted[1] == 1
    server.reload()
    assert [client.ask().counted for client in clients] == [(server.worker(0), 2)] * 40
    for client in clients:
        client.close()


def test_new_code_takes_effect(start: Start, source: Source) -> None:
    """
    The fresh workers have imported the application anew.
    """
    server = start(*source.options, workers=1)
    with Client(server.target) as client:
        assert client.ask().body == b"one"
        source.write(VERSION.format("other"))
        server.reload()
        assert client.ask().body == b"other"


def test_broken_code_changes_nothing(start: Start, source: Source) -> None:
    """
    An application that does not import leaves the old workers serving; the log says why.
    """
    server = start(*source.options, workers=1)
    old = server.worker(0)
    with Client(server.target) as client:
        assert client.ask().body == b"one"
        source.write("raise RuntimeError('no such luck')")
        refused(server, "no such luck")
        assert client.ask().body == b"one"
    assert server.worker(0) == old


def test_a_worker_that_does_not_start_changes_nothing(start: Start, source: Source) -> None:
    """
    An application that can be imported but not served leaves the old worker serving.
    """
    server = start(*source.options, workers=1)
    old = server.worker(0)
    server.allow(f"keeps its worker {old}")
    with Client(server.target) as client:
        assert client.ask().body == b"one"
        # It tells the worker from the child that only tries it.
        source.write(
            "import os, sys\nif '--check' not in sys.argv: os._exit(9)\n" + VERSION.format("other")
        )
        refused(server, "slot 0: the fresh worker exited with code 9")
        assert client.ask().body == b"one"
        source.write(VERSION.format("other"))
        server.reload()
        assert client.ask().body == b"other"


def test_settings(start: Start, tmp_path: Path) -> None:
    """
    Settings are read again; those that cannot change are named, and a file that makes no
    sense changes nothing.
    """
    config = tmp_path / "stickyd.toml"
    config.write_text('resource = "tests.system.moving_apps:site"\n')
    server = start("--config", str(config), workers=1)
    old = server.worker(0)
    with Client(server.target) as client:
        assert client.ask("/visits").status == 200
        config.write_text('resource = "tests.system.apps:site"\nplacement = "modulo"\n')
        server.allow("placement cannot change at a reload")
        server.reload()
        server.log.wait_for("placement cannot change at a reload; upgrade to change it")
        assert client.ask("/visits").status == 404
        fresh = server.worker(0)
        assert client.ask("/mirror").told["pid"] == fresh != old
        config.write_text('resuorce = "tests.system.apps:site"\n')
        refused(server, "did you mean 'resource'")
        assert client.ask("/mirror").told["pid"] == fresh
        # What is logged follows, in the primary too: of this reload nothing but its begin.
        done = "Reloaded: every worker is fresh"
        config.write_text('resource = "tests.system.apps:site"\nlog-level = "error"\n')
        server.send(signal.SIGHUP)
        assert eventually(lambda: client.ask("/mirror").told["pid"] != fresh)
        config.write_text('resource = "tests.system.apps:site"\n')
        server.send(signal.SIGHUP)
        server.log.wait_for(done, count=2)
        assert len(server.log.found("Reloading$")) == 2

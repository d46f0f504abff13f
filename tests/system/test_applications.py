"""
Real frameworks in real workers: each runs, and each client has one worker.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import socketio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from tests.system.client import Client, ask_once
from tests.system.log import PATIENCE
from tests.system.placing import source_address

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

#: Enough that each of four workers has some: the odds against are 4 * 0.75 ** 40.
SOURCES = [source_address(number) for number in range(40)]

HERE = "tests.system.frameworks"

FRAMEWORKS = {
    "starlette": ("--asgi", f"{HERE}.starlette_app:app"),
    "starlette by a factory": ("--asgi-factory", f"{HERE}.starlette_app:make_app"),
    "fastapi": ("--asgi", f"{HERE}.fastapi_app:app"),
    "django asgi": ("--asgi", f"{HERE}.django_app:asgi"),
    "django wsgi": ("--wsgi", f"{HERE}.django_app:wsgi"),
    "flask": ("--wsgi", f"{HERE}.flask_app:app"),
    "quart": ("--asgi", f"{HERE}.quart_app:app"),
    "klein": ("--resource", f"{HERE}.klein_app:app.resource"),
}


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a test's coroutine, within reason.
    """
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_framework_runs_and_sticks(framework: str, start: Start) -> None:
    """
    On four workers each address keeps its worker, all workers have some, and the
    application sees the addresses; one that fails answers 500 and says so in the log.
    """
    server = start(*FRAMEWORKS[framework], workers=4)
    pids = set()
    for source in SOURCES:
        told = [ask_once(server.target, source).told for _ in range(2)]
        with Client(server.target, source) as kept:
            told += [kept.ask().told for _ in range(2)]
        assert {one["host"] for one in told} == {source}
        (pid,) = {one["pid"] for one in told}
        pids.add(pid)
    assert pids == {worker.pid for worker in server.started}
    server.allow("boom|Traceback|#error|#critical|File |Internal Server Error")
    assert ask_once(server.target, path="/boom").status == 500
    server.log.wait_for("ValueError: boom")
    assert ask_once(server.target).status == 200


def test_websocket_echo(start: Start) -> None:
    """
    A WebSocket talks to the worker that its client's requests go to.
    """
    server = start("--asgi", f"{HERE}.starlette_app:app", workers=4)

    async def talk(source: str) -> None:
        pid = ask_once(server.target, source).told["pid"]
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with connect(url, local_addr=(source, 0), proxy=None) as socket:
            for text in ("hello", "x" * 100_000):
                await socket.send(text)
                assert await socket.recv() == f"{pid} {text}"

    async def go() -> None:
        await asyncio.gather(*(talk(source) for source in SOURCES[:8]))

    run(go())


def test_stop_says_goodbye(start: Start) -> None:
    """
    At a stop a WebSocket is told to come back (1012) when its time is over, the lifespan
    is ended, and the server exits well.
    """
    server = start("--asgi", f"{HERE}.starlette_app:app", "--stop-timeout", "0.2")

    async def go() -> None:
        async with connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as socket:
            await socket.send("hello")
            await socket.recv()
            server.process.terminate()
            with pytest.raises(ConnectionClosedError) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012

    run(go())
    server.stop()
    assert len(server.log.found("the lifespan ends")) == 2


def test_startup_that_fails_is_told(start: Start) -> None:
    """
    A worker whose application fails to start says why, in the application's own words.
    """
    server = start("--asgi", f"{HERE}.starlette_app:broken", "--crash-limit", "2", ready=False)
    server.allow(".")
    server.log.wait_for(
        r"--asgi tests\.system\.frameworks\.starlette_app:broken: its startup failed:"
        " RuntimeError: there is no database"
    )


@pytest.mark.parametrize("name", ["fastapi", "flask"])
def test_blocking_functions_block_nobody(name: str, start: Start, gate: Gate) -> None:
    """
    While a function of the application blocks its thread, its worker answers others.
    """
    server = start(*FRAMEWORKS[name], variables=gate.variables)
    with Client(server.target) as slow:
        slow.send("/slow")
        gate.wait_for_arrival()
        pid = ask_once(server.target).told["pid"]
        gate.open()
        assert slow.answer().told["pid"] == pid


def test_wsgi_application_that_raises(start: Start) -> None:
    """
    A bare WSGI application that raises gives 500, a traceback in the log, and no harm.
    """
    server = start("--wsgi", f"{HERE}.flask_app:bare")
    server.allow("boom|Traceback|#critical|WSGI application error")
    for _ in range(2):
        assert ask_once(server.target).status == 500
    server.log.wait_for("ValueError: boom", count=2)


def test_wsgi_behind_a_prefix_on_a_unix_socket(start: Start, tmp_path: Path) -> None:
    """
    A WSGI application learns of its prefix, and serves clients that have no address.
    """
    path = tmp_path / "app.sock"
    server = start(*FRAMEWORKS["flask"], "--root-path", "/shop", listen=f"unix:{path}")
    server.wait_until_ready()
    told = ask_once(str(path)).told
    assert (told["root"], told["host"]) == ("/shop", "")


class Talker:
    """
    A Socket.IO client of its own address.
    """

    def __init__(self, server: Server, source: str, transports: list[str]) -> None:
        self._url = f"http://127.0.0.1:{server.port}"
        self._source = source
        self._transports = transports
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def talk(self) -> int:
        """
        Make a session, use it in several requests, and leave.

        :return: the pid of the worker that all of it went to.
        """
        connector = aiohttp.TCPConnector(local_addr=(self._source, 0))
        async with aiohttp.ClientSession(connector=connector) as http:
            client = socketio.AsyncClient(http_session=http, reconnection=False)
            client.on("heard", self.heard.put)
            await client.connect(self._url, transports=self._transports)
            pids = {await client.call("remember", word) for word in ("one", "two", "three")}
            assert await client.call("recall") == ["one", "two", "three"]
            await client.emit("shout", self._source)
            while await self.heard.get() != self._source:
                pass
            # Else a client that polls waits for its last answer.
            await client.eio.disconnect(abort=True)
        (pid,) = pids
        assert isinstance(pid, int)
        return pid


@pytest.mark.parametrize(
    "transports",
    [
        ["polling", "websocket"],
        # test_socketio.py has these by Socket.IO's own client.
        pytest.param(["polling"], marks=pytest.mark.soak),
        pytest.param(["websocket"], marks=pytest.mark.soak),
    ],
)
def test_socketio(transports: list[str], start: Start) -> None:
    """
    python-socketio's sessions hold on four workers, by polling, by WebSocket, and upgraded.
    """
    server = start("--asgi", f"{HERE}.socketio_app:app", workers=4)

    async def go() -> None:
        talkers = [Talker(server, source, transports) for source in SOURCES]
        pids = await asyncio.gather(*(talker.talk() for talker in talkers))
        assert set(pids) == {worker.pid for worker in server.started}

    run(go())


def test_chat(start: Start) -> None:
    """
    A protocol that is not HTTP: two connections of one address hear each other, and
    addresses are spread over the workers.
    """
    server = start("--protocol", f"{HERE}.chat:chat", "--stop-timeout", "0.2", workers=4)
    welcomes = set()
    for source in SOURCES:
        with Client(server.target, source) as ann, Client(server.target, source) as bob:
            lines = ann.socket.makefile("rb"), bob.socket.makefile("rb")
            (welcome,) = {file.readline() for file in lines}
            welcomes.add(welcome)
            ann.socket.sendall(b"hello\r\n")
            assert [file.readline() for file in lines] == [b"hello\r\n"] * 2
            for file in lines:
                file.close()
    assert welcomes == {b"welcome to %d\r\n" % worker.pid for worker in server.started}


def test_stop_cuts_protocols_off_when_their_time_is_over(start: Start) -> None:
    """
    A connection that nobody can tell to be idle ends with the deadline of a stop.
    """
    server = start("--protocol", f"{HERE}.chat:chat", "--stop-timeout", "0.2")
    with Client(server.target) as client:
        assert client.socket.recv(7) == b"welcome"
        server.stop()


def test_static_files(start: Start, tmp_path: Path) -> None:
    """
    Files are served by every worker, with types and ranges.
    """
    (tmp_path / "index.html").write_text("<p>home")
    (tmp_path / "data.json").write_text(json.dumps({"pid": 0}))
    server = start("--static", str(tmp_path), workers=4)
    for source in SOURCES[:8]:
        assert ask_once(server.target, source).body == b"<p>home"
        assert ask_once(server.target, source, "/data.json").told == {"pid": 0}
        assert ask_once(server.target, source, "/nothing").status == 404


def test_thread_is_kept(start: Start) -> None:
    """
    The thread that has run a function of the application runs the next one too, with what was
    kept for it, and does not hold up the end of its worker.
    """
    server = start(*FRAMEWORKS["fastapi"], workers=1)
    assert [ask_once(server.target).told["calls"] for _ in range(3)] == [1, 2, 3]
    server.stop()

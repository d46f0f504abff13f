"""
Sessions of applications of every framework, in real servers.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.client import Client
from tests.system.placing import sources_of
from tests.system.rehoming import set_cookies
from tests.system.websocket import WebSocket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

HERE = "tests.system.frameworks"
APPLICATIONS = {
    "host": ("--asgi", f"{HERE}.session_apps:plain", "--asgi-sessions", "on"),
    "asgi": ("--asgi", f"{HERE}.session_apps:starlette"),
    "wsgi": ("--wsgi", f"{HERE}.session_apps:wsgi"),
    "flask": ("--wsgi", f"{HERE}.session_apps:flask_app"),
    "django, asgi": ("--asgi", f"{HERE}.django_sessions:asgi"),
    "django, wsgi": ("--wsgi", f"{HERE}.django_sessions:wsgi"),
}
every = pytest.mark.parametrize("name", APPLICATIONS)

#: The others have the same parts, and are tried at length.
LESS = {"asgi", "wsgi", "django, asgi"}
most = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.soak] if name in LESS else []) for name in APPLICATIONS],
)


class Browser:
    """
    A browser at an address of its own, which keeps its cookies.
    """

    def __init__(self, server: Server, source: str) -> None:
        self.jar: dict[str, str] = {}
        self.source = source
        self._server = server

    @property
    def cookies(self) -> str:
        """
        The field that it sends.
        """
        return "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.jar.items())

    def get(self, path: str) -> Any:
        """
        Make a request on a connection of its own.

        :return: what is in the session.
        """
        with Client(self._server.target, self.source) as client:
            return self.get_by(client, path, True)

    def get_by(self, client: Client, path: str, close: bool = False) -> Any:
        """
        Make it on this one.

        :param close: whether it is the last.
        """
        client.send(path, close, *([self.cookies] if self.jar else []))
        with client.response() as response:
            body = response.read()
            for name, value in set_cookies(response).items():
                self.jar[name] = value.partition(";")[0]
        assert response.status == 200, (response.status, body)
        return json.loads(body)


@every
def test_sessions_go_along(name: str, start: Start) -> None:
    """
    Each client has a session of its own, which is there after a reload and a resize too, in
    whichever worker has the client then.
    """
    server = start(*APPLICATIONS[name])
    browsers = [Browser(server, source) for slot in (0, 1) for source in sources_of(slot, 2, 6)]
    for number in (1, 2):
        assert [browser.get("/count")["n"] for browser in browsers] == [number] * 12
    assert len({browser.jar["session"] for browser in browsers}) == 12
    before = {browser.get("/look")["pid"] for browser in browsers}
    server.reload()
    told = [browser.get("/count") for browser in browsers]
    assert [answer["n"] for answer in told] == [3] * 12
    assert before.isdisjoint(answer["pid"] for answer in told)
    server.resize_to(3)
    told = [browser.get("/count") for browser in browsers]
    assert [answer["n"] for answer in told] == [4] * 12
    assert len({answer["pid"] for answer in told}) == 3


@most
def test_request_under_way_at_a_reload(name: str, start: Start, gate: Gate) -> None:
    """
    What a request changes that is still handled while its worker is relieved is there for the
    next one, in the successor.
    """
    server = start(*APPLICATIONS[name], workers=1, variables=gate.variables)
    browser = Browser(server, "127.0.0.1")
    browser.get("/count")
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(browser.get("/wait")))
    asking.start()
    gate.wait_for_arrival()
    former = server.worker(0)
    server.reload()
    gate.open()
    asking.join(30)
    assert [answer["pid"] for answer in answers] == [former]
    told = browser.get("/look")
    assert told.pop("pid") == server.worker(0)
    assert told == {"n": 1, "waited": True}


@pytest.mark.parametrize("name", ["host", "asgi", "wsgi", "flask"])
def test_requests_at_the_same_time(name: str, start: Start) -> None:
    """
    Of requests of one client at the same time each transaction is counted.
    """
    server = start(*APPLICATIONS[name], workers=1)
    browser = Browser(server, "127.0.0.1")
    browser.get("/count")
    clients = [Client(server.target) for _ in range(24)]
    for client in clients:
        client.send("/add", False, browser.cookies)
    for client in clients:
        assert client.answer().status == 200
        client.close()
    assert browser.get("/look")["n"] == 25


@pytest.mark.parametrize("name", ["host", "asgi"])
def test_websocket(name: str, start: Start) -> None:
    """
    What a WebSocket saves is there for requests, and goes along at a reload, while the WebSocket
    stays.
    """
    server = start(*APPLICATIONS[name], workers=1)
    browser = Browser(server, "127.0.0.1")
    browser.get("/count")
    pid = server.worker(0)
    with WebSocket(server.target, cookies=browser.cookies.partition(" ")[2]) as websocket:
        assert websocket.say("hello") == f"{pid} hello"
        assert browser.get("/look") == {"pid": pid, "n": 1, "said": "hello"}
        server.reload()
        assert browser.get("/look") == {"pid": server.worker(0), "n": 1, "said": "hello"}


@most
def test_sessions_survive_a_kill(name: str, start: Start, tmp_path: Path) -> None:
    """
    What was answered is there after the worker's sudden death, of a session in SQLite.
    """
    server = start(*APPLICATIONS[name], "--sessions", f"sqlite:{tmp_path}/sessions", workers=1)
    browser = Browser(server, "127.0.0.1")
    assert [browser.get("/count")["n"] for _ in range(3)] == [1, 2, 3]
    former = server.worker(0)
    server.allow("died of signal 9")
    os.kill(former, signal.SIGKILL)
    server.wait_for_successor(former)
    told = browser.get("/count")
    assert told["n"] == 4
    assert told["pid"] != former

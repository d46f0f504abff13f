"""
Sessions of applications that another server serves: uvicorn, and wsgiref's in threads.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from stickyd.errors import OperatorError
from stickyd.sessions.apps.desk import session_desk
from stickyd.wsgi import SessionMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

#: An ASGI application, served by uvicorn on a port that it says.
PROGRAM = """
import asyncio, json, sys, uvicorn
from stickyd.asgi import SessionMiddleware

async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    session = scope["session"]
    session["n"] = session.get("n", 0) + 1
    body = json.dumps(session).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

app = SessionMiddleware(application, sys.argv[1])
Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off")).run()
"""


@contextmanager
def uvicorn_with(url: str) -> Iterator[int]:
    """
    Run uvicorn.

    :return: its port.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Browser:
    """
    A browser, which keeps its cookie.
    """

    cookie = ""

    def get(self, port: int, path: str = "/") -> Any:
        """
        Make a request.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Cookie": self.cookie} if self.cookie else {}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        for line in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookie = f"{name}={morsel.value}"
        body = response.read()
        connection.close()
        assert response.status == 200, body
        return json.loads(body)


@pytest.mark.parametrize("url", ["memory", "sqlite:{}/sessions"])
def test_under_uvicorn(url: str, tmp_path: Path) -> None:
    """
    The middleware has a store of its own; one in SQLite outlives the server's sudden death.
    """
    browser = Browser()
    with uvicorn_with(url.format(tmp_path)) as port:
        assert [browser.get(port)["n"] for _ in range(3)] == [1, 2, 3]
        assert Browser().get(port)["n"] == 1
    with uvicorn_with(url.format(tmp_path)) as port:
        assert browser.get(port)["n"] == (4 if url != "memory" else 1)


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """
        Say nothing.
        """


def test_in_threads_of_another_server(tmp_path: Path) -> None:
    """
    Requests of one client at the same time are all counted, in a store in SQLite.
    """

    def add(data: Any) -> None:
        data["n"] = data.get("n", 0) + 1

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["stickyd.session"]
        session.transact(add)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(session).encode()]

    app = SessionMiddleware(application, f"sqlite:{tmp_path}/sessions")
    with make_server("127.0.0.1", 0, app, _Threads, _Silent) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        browser = Browser()
        browser.get(server.server_port)
        asking = [
            threading.Thread(target=browser.get, args=(server.server_port,)) for _ in range(12)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(60)
        assert browser.get(server.server_port) == {"n": 14}
        server.shutdown()
        serving.join(60)
    session_desk.close()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlight:/tmp", "did you mean sqlite?"),
        ("sqlite:/proc/nobody/sessions", "/proc/nobody"),
        ("nothing", "there is no store 'nothing'"),
    ],
)
def test_bad_url_is_one_line(url: str, line: str) -> None:
    """
    A store that cannot be had is told in a line, when it is first needed; and the next attempt
    may go well.
    """
    for _ in range(2):
        with pytest.raises(OperatorError, match=line) as raised:
            session_desk.place(url)
        assert "\n" not in str(raised.value)

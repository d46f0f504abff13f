"""
Clients that share one connection, and applications that tell which worker answers.
"""

from __future__ import annotations

import json
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, cast

import pytest

from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Client

if TYPE_CHECKING:
    from tests.system.server import Server


HERE = "tests.system.frameworks.tellers"
KINDS = {
    "resource": ("--resource", f"{HERE}:resource"),
    "asgi": ("--asgi", f"{HERE}:asgi"),
    "wsgi": ("--wsgi", f"{HERE}:wsgi"),
}

WORKERS = 4
USERS = [f"user{number}" for number in range(12)]
HOMES = {user: Rendezvous(WORKERS).slot_of(user.encode()) for user in USERS}
every_kind = pytest.mark.parametrize("kind", KINDS)

#: A WSGI application is served by the resource's host, and so has the same channel.
every_channel = pytest.mark.parametrize(
    "kind", ["resource", "asgi", pytest.param("wsgi", marks=pytest.mark.soak)]
)


def request(*fields: str, path: str = "/", body: str = "", method: str = "GET") -> bytes:
    """
    Write a request.
    """
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def heard(client: Client) -> tuple[dict[str, Any], HTTPResponse]:
    """
    Read a response whole: what the application told, and the response's head.
    """
    response = client.response()
    with response:
        body = response.read()
    assert response.status == 200, (response.status, body)
    return json.loads(body), response


def ask(client: Client, *fields: str, path: str = "/", body: str = "") -> dict[str, Any]:
    """
    Make a request on a connection.
    """
    client.socket.sendall(request(*fields, path=path, body=body))
    return heard(client)[0]


class Answers:
    """
    The answers to requests that were sent without waiting, one after the other.
    """

    def __init__(self, client: Client) -> None:
        self._file = client.socket.makefile("rb")

    def makefile(self, mode: str) -> Any:
        """
        Called by each :class:`HTTPResponse`, which would read the next one's beginning
        into a buffer of its own, and closes what it got.
        """
        return _Unclosed(self._file)

    def next(self) -> dict[str, Any]:
        """
        Read the next answer whole.
        """
        response = HTTPResponse(cast("Any", self))
        response.begin()
        body = response.read()
        assert response.status == 200, (response.status, body)
        found: dict[str, Any] = json.loads(body)
        return found

    def close(self) -> None:
        """
        Read no more.
        """
        self._file.close()


class _Unclosed:
    """
    A file that others cannot close.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return (lambda: None) if name == "close" else getattr(self._file, name)


def ask_anew(target: tuple[str, int], *fields: str, path: str = "/") -> dict[str, Any]:
    """
    Make a request on a connection of its own.
    """
    with Client(target) as client:
        return ask(client, *fields, path=path)


def set_cookies(response: HTTPResponse) -> dict[str, str]:
    """
    The cookies that a response sets, with their attributes.
    """
    found = {}
    for line in response.headers.get_all("Set-Cookie") or ():
        name, _, value = line.partition("=")
        found[name] = value
    return found


def signalled(server: Server, signum: int, done: str) -> None:
    """
    Send the primary a signal, and wait for what it logs.
    """
    mark = server.log.mark()
    server.process.send_signal(signum)
    server.log.wait_for(done, since=mark)

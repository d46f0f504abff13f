"""
Deploys and resizes, one after the other, of applications that keep their state in a dict: no
client loses its session or sees an error.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.system.keeping import Players
from tests.system.log import PATIENCE
from tests.system.proxies import nginx
from tests.system.server import LONG
from tests.system.test_reload_by_client import BY_CLIENT, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))

_DICTS = "tests.system.frameworks.keeping_dicts"

APPLICATIONS = {
    **KINDS,
    "fastapi": ("--asgi", f"{_DICTS}:fastapi_app"),
    "flask": ("--wsgi", f"{_DICTS}:flask_app"),
}


#: What is tried where each connection carries the clients of all generations in turns.
BEHIND_NGINX = [
    ("asgi", "cookie:stickyd"),
    ("resource", "header:X-Name"),
    ("wsgi", "learn:header:X-Session"),
]


class Listener:
    """
    Reads an event stream, whose events are numbers that count up, until it is closed.

    :ivar heard: the numbers.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.heard: list[int] = []
        self._connection = HTTPConnection(*target, timeout=PATIENCE)
        self._connection.request("GET", "/events")
        self._response = self._connection.getresponse()
        self._thread = Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while line := self._response.readline():
            if line.startswith(b"data: "):
                self.heard.append(int(line[6:]))

    @property
    def is_listening(self) -> bool:
        """
        Whether the stream has not ended.
        """
        return self._thread.is_alive()

    def join(self) -> None:
        """
        Wait until the server has ended the stream.
        """
        self._thread.join(PATIENCE)
        self._connection.close()


def changes_of(server: Server) -> list[Callable[[], object]]:
    """
    What is done to a server of four slots, one after the other.
    """
    to_six, to_three = partial(server.resize_to, 6), partial(server.resize_to, 3)
    return [server.reload, to_six, server.reload, server.reload, to_three, server.reload]


def occupants_of(server: Server) -> set[int]:
    """
    The workers that have the slots.
    """
    return {server.worker(slot) for slot in range(server.workers)}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "affinity"),
    [
        ("fastapi", "cookie:stickyd"),
        ("fastapi", "learn:header:X-Session"),
        ("flask", "cookie:stickyd"),
        ("flask", "stamp:X-Session"),
        ("asgi", "header:X-Name"),
        ("resource", "ip"),
        *((f"{kind} behind nginx", affinity) for kind, affinity in BEHIND_NGINX),
    ],
)
def test_deploys_go_unnoticed(kind: str, affinity: str, start: Start, tmp_path: Path) -> None:
    """
    Reloads, and resizes from 4 to 6 to 3, ten seconds apart at 60 s: whoever has begun goes on at
    its worker, newcomers begin with workers that were not relieved, and when all have left, so
    have the old workers.  Behind nginx all clients share a few connections.
    """
    application, _, proxied = kind.partition(" behind ")
    trust = ("--trust", "127.0.0.1") if proxied else ()
    server = start(
        *(*APPLICATIONS[application], "--affinity", affinity, *trust, *BY_CLIENT), workers=4
    )
    changes = changes_of(server)
    relieved: set[int] = set()
    with ExitStack() as stack:
        target = server.target
        if proxied:
            target = stack.enter_context(nginx(tmp_path, target, 3)).target
        at_once = 4 if proxied else 1
        players = stack.enter_context(Players())
        begun = len(players.begin(target, affinity, 16))
        listeners = [Listener(server.target) for _ in range(2 * (kind == "fastapi"))]
        for change in changes:
            before = occupants_of(server)
            change()
            relieved |= before - occupants_of(server)
            fresh = players.begin(target, affinity, 4)
            begun += len(fresh)
            assert relieved.isdisjoint(player.pids[0] for player in fresh)
            ends = time.monotonic() + SOAK_SECONDS / len(changes)
            while time.monotonic() < ends:
                players.go_on(at_once)
        for listener in listeners:
            assert listener.is_listening
            assert listener.heard == list(range(len(listener.heard)))
            assert listener.heard
        players.release()
        for pid in () if listeners else relieved:
            server.log.wait_for(rf"Worker {pid} \(slot \d\) exited with code 0", timeout=LONG)
        server.allow("cut off", "stream")
        asked = players.asked
    server.stop()
    for listener in listeners:
        listener.join()
    print(  # noqa: T201
        f"{kind} {affinity}: {begun} clients, {asked} requests, {len(relieved)} workers relieved,"
        " none lost"
    )


@pytest.mark.soak
def test_a_room_of_channels_stays_together(start: Start) -> None:
    """
    Members of one room, at workers of all generations, hear whatever one of them says, once; each
    stays at its worker, newcomers are at those that were not relieved, and when all have left, so
    have the relieved workers.
    """
    server = start(
        *("--asgi", "tests.system.frameworks.channels_room:app", "--affinity", "cookie:stickyd"),
        *BY_CLIENT,
        workers=4,
    )
    changes = changes_of(server)
    relieved: set[int] = set()
    members: list[ClientConnection] = []
    address = f"ws://127.0.0.1:{server.port}/ws"
    homes: list[str] = []
    said = 0

    def say_something() -> None:
        nonlocal said
        for number, member in enumerate(members):
            said += 1
            member.send(str(said))
            (heard,) = {each.recv(PATIENCE) for each in members}
            home, _, text = str(heard).partition(" ")
            assert text == str(said)
            assert number >= len(homes) or home == homes[number]
            homes[number:number] = [home] * (number >= len(homes))

    with ExitStack() as stack:
        for change in (lambda: None, *changes):
            before = occupants_of(server)
            change()
            relieved |= before - occupants_of(server)
            members += [stack.enter_context(connect(address, ping_interval=None)) for _ in range(4)]
            ends = time.monotonic() + SOAK_SECONDS / len(changes)
            say_something()
            assert relieved.isdisjoint(map(int, homes[-4:]))
            while time.monotonic() < ends:
                say_something()
        for member in members:
            member.close()
    for pid in relieved:
        server.log.wait_for(rf"Worker {pid} \(slot \d\) exited with code 0", timeout=LONG)
    print(f"{len(members)} members, {said} messages, {len(relieved)} workers relieved")  # noqa: T201

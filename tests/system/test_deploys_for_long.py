"""
Deploys and resizes, one after the other, of applications that keep their state in a dict: no
client loses its session or sees an error.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.system.keeping import Players
from tests.system.log import PATIENCE
from tests.system.test_reload_by_client import BY_CLIENT, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.conftest import Start

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))

_DICTS = "tests.system.frameworks.keeping_dicts"

APPLICATIONS = {
    **KINDS,
    "fastapi": ("--asgi", f"{_DICTS}:fastapi_app"),
    "flask": ("--wsgi", f"{_DICTS}:flask_app"),
}


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
    ],
)
def test_deploys_go_unnoticed(kind: str, affinity: str, start: Start) -> None:
    """
    Reloads, and resizes from 4 to 6 to 3, ten seconds apart at 60 s: whoever has begun goes on at
    its worker, newcomers begin with workers that were not relieved, and when all have left, so
    have the old workers.
    """
    server = start(*APPLICATIONS[kind], "--affinity", affinity, *BY_CLIENT, workers=4)

    def resize_to(slots: int) -> Callable[[], object]:
        return lambda: server.resize_to(slots)

    def occupants() -> set[int]:
        return {server.worker(slot) for slot in range(server.workers)}

    changes = [server.reload, resize_to(6), server.reload, server.reload, resize_to(3)]
    changes.append(server.reload)
    relieved: set[int] = set()
    with ExitStack() as stack:
        players = stack.enter_context(Players())
        begun = len(players.begin(server.target, affinity, 16))
        listeners = [Listener(server.target) for _ in range(2 * (kind == "fastapi"))]
        for change in changes:
            before = occupants()
            change()
            relieved |= before - occupants()
            fresh = players.begin(server.target, affinity, 4)
            begun += len(fresh)
            assert relieved.isdisjoint(player.pids[0] for player in fresh)
            ends = time.monotonic() + SOAK_SECONDS / len(changes)
            while time.monotonic() < ends:
                players.go_on()
        for listener in listeners:
            assert listener.is_listening
            assert listener.heard == list(range(len(listener.heard)))
            assert listener.heard
        players.release()
        server.allow("cut off", "stream")
        asked = players.asked
    server.stop()
    for listener in listeners:
        listener.join()
    print(  # noqa: T201
        f"{kind} {affinity}: {begun} clients, {asked} requests, {len(relieved)} workers relieved,"
        " none lost"
    )

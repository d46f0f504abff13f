"""
What a worker tells of what it is doing, whatever it serves.
"""

from __future__ import annotations

import json
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from twisted.web.server import NOT_DONE_YET

from stickyd.handoff.frame import Handoff
from stickyd.serve.under_way import LONGEST_PATH_BYTES, REQUEST, UnderWay
from stickyd.testing import FakeHost
from stickyd.worker.looking import MOST_CHARACTERS, MOST_ROWS, tell
from tests.hosting import Visitors, a_loop, run
from tests.serve.asgi.test_websocket import Echo as AsgiEcho
from tests.serve.asgi.test_websocket import opened, served
from tests.serve.http2.wire import GET, begun
from tests.serve.wsgi.scene import serving
from tests.serve.wsgi.test_websockets import Echo as WsgiEcho
from tests.serve.wsgi.test_websockets import open_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.interfaces import IHost


def told(what: str, host: IHost) -> dict[str, Any]:
    """
    The answer.
    """
    answer: dict[str, Any] = json.loads(tell(what, host))
    return answer


class Busy:
    """
    A connection with some requests.
    """

    def __init__(self, number: int, *requests: UnderWay, key: bytes = b"") -> None:
        self.handoff = Handoff(-1, f"192.0.2.{number % 250}", 1, key)
        self._requests = list(requests)

    def under_way(self) -> list[UnderWay]:
        """
        What is under way.
        """
        return self._requests


class BusyHost(FakeHost):
    """
    A host of such connections.
    """

    def __init__(self, *connections: Busy) -> None:
        super().__init__()
        self._connections = connections

    def served(self) -> Iterator[Any]:
        """
        All of them.
        """
        return iter(self._connections)


def test_longest_comes_first_and_all_is_bounded() -> None:
    """
    However much is under way, what is told fits into a message, and says how much there is.
    """
    now = perf_counter_ns()
    paths = [b"/" + "\ufffd".encode() * 500 + b"?token=secret"] * 300
    requests = [
        UnderWay(REQUEST, now - number * 1_000_000_000, b"GET", path, 0)
        for number, path in enumerate(paths)
    ]
    host = BusyHost(*(Busy(number, each) for number, each in enumerate(requests)))
    text = tell("requests", host)
    assert len(text) <= MOST_CHARACTERS
    assert text.isascii()
    assert "secret" not in text
    answer = json.loads(text)
    assert answer["total"] == 300
    assert 10 < len(answer["rows"]) <= MOST_ROWS
    seconds = [row["seconds"] for row in answer["rows"]]
    assert seconds == sorted(seconds, reverse=True)
    assert int(seconds[0]) in (299, 300)
    assert told("nothing", host) == {"rows": [], "total": 0}


def test_paths_cannot_play_with_a_terminal() -> None:
    """
    What a client has written is shown as text, and not all of it if it is long.
    """
    path = UnderWay(REQUEST, 1, b"GET", b"/\x1b[2J\xff\r" + b"x" * 300).path
    assert path.startswith("/\\x1b[2J\\xff\\x0dxxx")
    assert path.endswith("x…")
    assert len(path) < 2 * LONGEST_PATH_BYTES
    assert path.isprintable()


def test_clients_are_counted_by_their_keys() -> None:
    """
    Of a key a digest is told, never the key: it may be what signs somebody in.
    """
    request = UnderWay(REQUEST, 1)
    host = BusyHost(
        Busy(1, request, key=b"token-of-alice"),
        Busy(2, key=b"token-of-alice"),
        Busy(3),
        Busy(3, request),
        Busy(3),
        Busy(4, key=b"other"),
    )
    text = tell("clients", host)
    assert "alice" not in text
    rows = [(r["client"], bool(r["key"]), r["connections"], r["under_way"]) for r in
            json.loads(text)["rows"]]  # fmt: skip
    assert rows == [
        ("192.0.2.3", False, 3, 1),
        ("192.0.2.1", True, 2, 1),
        ("192.0.2.4", True, 1, 0),
    ]


def test_websockets_of_asgi() -> None:
    """
    A WebSocket is under way as long as it is open.
    """
    visitors = Visitors()
    with a_loop() as loop:
        host = served(loop, AsgiEcho())

        async def go() -> None:
            await opened(host, visitors)
            (row,) = told("requests", host)["rows"]
            assert (row["kind"], row["path"], row["status"]) == ("websocket", "/ws", 101)
            assert row["seconds"] >= 0

        run(loop, go())
        visitors.close()


def test_websockets_of_wsgi() -> None:
    """
    The same, where a thread has the connection.
    """
    with serving(WsgiEcho(), threads=1) as scene:

        async def go() -> None:
            client = await open_one(scene)
            (row,) = told("requests", scene.host)["rows"]
            assert (row["kind"], row["status"]) == ("websocket", 101)
            client.close()

        scene.run(go)


def test_streams_of_http2() -> None:
    """
    Each stream is a request of its own.
    """
    requests = []

    def render(request: Any) -> int:
        requests.append(request)
        return NOT_DONE_YET

    wire = begun(render)
    for _ in range(2):
        wire.ask([*GET, ("host", "a.test")])
    found = wire.channel.under_way()
    assert [(each.kind, each.method, each.path, each.status) for each in found] == [
        ("request", b"GET", "/p", 0)
    ] * 2
    requests[0].write(b"x")
    requests[1].finish()
    (left,) = wire.channel.under_way()
    assert left.status == 200
    requests[0].finish()
    assert wire.channel.under_way() == []

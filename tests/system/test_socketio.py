"""
Socket.IO as it is used: many of its own JavaScript clients, and python-socketio in workers that
know nothing of each other.
"""

from __future__ import annotations

import itertools
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.client import Client
from tests.system.log import Log
from tests.system.nodejs import node_command, run_node
from tests.system.placing import rendezvous, source_address
from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.conftest import Start
    from tests.system.server import Server

WORKERS = 4
CLIENTS = 200
EVENTS = 50

HERE = "tests.system.frameworks"

#: By what the client begins with and may use.
TRANSPORTS = (["polling"], ["polling", "websocket"], ["websocket"])

#: All clients share this address and, for their polls, a pool of kept connections, as behind
#: a proxy: so nearly each request is of another client than the one before.
ONE_ADDRESS = ["127.0.0.1"]

#: One for each client, with connections of its own.
ADDRESSES = [source_address(number) for number in range(CLIENTS)]


def converse(
    server: Server,
    transports: list[str],
    sources: Sequence[str],
    clients: int = CLIENTS,
    events: int = EVENTS,
    cookies: bool = True,
) -> list[dict[str, Any]]:
    """
    Have clients talk, all at once.

    :param sources: the addresses that they have in turn.
    :param cookies: whether they keep cookies.
    :return: what each has seen: ``source``, ``pids``, ``answers``, ``transport``, and
        ``error`` if it failed.
    """
    plan = {
        "url": f"http://127.0.0.1:{server.port}",
        "clients": clients,
        "events": events,
        "transports": transports,
        "sources": sources,
        "pool": "shared" if len(sources) == 1 else "own",
        "cookies": cookies,
    }
    seen: list[dict[str, Any]] = run_node("socketio.js", plan, timeout=3 * LONG)
    assert len(seen) == clients
    return seen


@pytest.mark.usefixtures("node_packages")
@pytest.mark.parametrize(
    ("entry", "application", "sources"),
    [
        ("cookie:stickyd", "socketio_app", ONE_ADDRESS),
        ("learn:query:sid", "socketio_claiming", ONE_ADDRESS),
        ("ip", "socketio_app", ADDRESSES),
    ],
)
def test_no_session_is_unknown(
    entry: str, application: str, sources: Sequence[str], start: Start
) -> None:
    """
    200 clients say 50 things each, by long polling, upgraded and by WebSocket: every one is
    answered, by the worker that has the client's session, and each worker has its share.
    """
    # The server's log is looked through for errors when it stops.
    server = start("--asgi", f"{HERE}.{application}:app", "--affinity", entry, workers=WORKERS)
    shares: Counter[int] = Counter()
    for transports in TRANSPORTS:
        clients = converse(server, transports, sources)
        assert [client["error"] for client in clients if "error" in client] == []
        assert {client["answers"] for client in clients} == {EVENTS}
        assert {client["transport"] for client in clients} == {transports[-1]}
        assert {len(client["pids"]) for client in clients} == {1}
        shares.update(server.slot_of(client["pids"][0]) for client in clients)
    if entry == "ip":
        assert shares == Counter(
            len(TRANSPORTS) * [rendezvous(source, WORKERS) for source in sources]
        )
    else:
        # The first crowd is spread evenly. The figures by which the next one is placed may
        # still count connections that the one before had.
        assert min(shares[slot] for slot in range(WORKERS)) >= CLIENTS // WORKERS // 2


@pytest.mark.usefixtures("node_packages")
def test_flask_socketio_with_default_options(start: Start) -> None:
    """
    200 clients of Flask-SocketIO, told apart by address: half of them poll, half have
    WebSockets, all at once; every one is answered by its worker, and a page is served
    meanwhile.  And upgraded ones.
    """
    server = start("--wsgi", f"{HERE}.flask_socketio_app:app", workers=WORKERS)
    half = CLIENTS // 2
    with ThreadPoolExecutor(2) as pool:
        crowds = [
            pool.submit(converse, server, [transport], sources, clients=half)
            for transport, sources in (
                ("polling", ADDRESSES[:half]),
                ("websocket", ADDRESSES[half:]),
            )
        ]
        sources = itertools.cycle(ADDRESSES)
        while not all(crowd.done() for crowd in crowds):
            with Client(server.target, next(sources)) as visitor:
                answer = visitor.ask("/")
                assert answer.status == 200
                assert answer.body.startswith(b"served by ")
        clients = [client for crowd in crowds for client in crowd.result()]
    clients += converse(server, ["polling", "websocket"], ADDRESSES[:20], clients=20)
    assert [client["error"] for client in clients if "error" in client] == []
    assert {client["answers"] for client in clients} == {EVENTS}
    assert {len(client["pids"]) for client in clients} == {1}
    assert Counter(client["transport"] for client in clients) == {
        "polling": half,
        "websocket": half + 20,
    }
    # Clients that vanish make no line but this.
    server.allow("Invalid session")
    # Of two threads that connect a client each, one may find that the other has just taken away
    # what it has looked for: python-socketio has no lock there.
    server.allow_traceback(r'base_manager\.py", line \d+, in connect\b')


@pytest.mark.usefixtures("node_packages")
def test_sessions_are_unknown_where_nothing_tells_clients_apart(start: Start) -> None:
    """
    Clients that keep no cookies lose their sessions to other workers, so those above had
    theirs by what was configured.
    """
    # python-engineio holds the last poll of a client that has given up for ping_timeout.
    server = start(
        *("--asgi", f"{HERE}.socketio_app:app", "--affinity", "cookie:stickyd"),
        *("--stop-timeout", "1"),
        workers=WORKERS,
    )
    clients = converse(server, ["polling"], ONE_ADDRESS, clients=20, events=2, cookies=False)
    server.allow("Invalid session|did not stop in time")
    assert [client for client in clients if "Invalid session" in client.get("error", "")]


@pytest.mark.usefixtures("node_packages")
def test_reload_ends_sessions_of_polls_and_no_websocket(start: Start) -> None:
    """
    After a reload a client that polls is told that its session is invalid, and by itself has a
    new one, at the fresh worker; a WebSocket goes on at the old one.
    """
    server = start("--asgi", f"{HERE}.socketio_app:app", "--affinity", "cookie:stickyd")
    plan = {"url": f"http://127.0.0.1:{server.port}"}
    process = subprocess.Popen(node_command("socketio_lasting.js", plan), stdout=subprocess.PIPE)
    assert process.stdout is not None
    log = Log(process.stdout, lambda line: None)
    try:
        homes = {
            transport: int(log.wait_for(rf"{transport} (\d+) heard 2")[1])
            for transport in ("polling", "websocket")
        }
        server.reload()
        server.allow("Invalid session")
        log.wait_for("polling disconnected: transport error: .*Invalid session", timeout=LONG)
        # Its next session may be at either: Node's client begins that without its cookies.
        fresh = {server.worker(0), server.worker(1)}
        assert not fresh & set(homes.values())
        log.wait_for(rf"polling ({'|'.join(map(str, fresh))}) heard 2$", timeout=LONG)
        log.wait_for(rf"websocket {homes['websocket']} heard", since=log.mark())
        assert not log.found("websocket disconnected")
    finally:
        process.kill()
        process.wait()
    log.wait_for_end()

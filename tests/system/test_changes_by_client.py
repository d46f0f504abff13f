"""
Resize, drain, upgrade and recycling by client: a new placement is for newcomers.
"""

from __future__ import annotations

import os
import signal
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

from tests.system.keeping import Player, Players
from tests.system.proxies import nginx
from tests.system.test_http2 import H2Client
from tests.system.test_reload_by_client import BY_CLIENT, KINDS
from tests.system.websocket import WebSocket
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start


@pytest.mark.parametrize(
    ("kind", "affinity"),
    [("asgi", "cookie:stickyd"), pytest.param("resource", "ip", marks=pytest.mark.soak)],
)
def test_every_change_leaves_clients_where_they_are(kind: str, affinity: str, start: Start) -> None:
    """
    Slots come and go, one is drained, the workers and the primary's code are replaced: all who
    are known stay, newcomers are placed anew each time, and in the end the old workers leave.
    Of ASGI, a client that has nothing but a WebSocket is released with that.
    """
    server = start(*KINDS[kind], "--affinity", affinity, *BY_CLIENT, workers=2)
    with Players() as players, ExitStack() as open_to_the_end:
        if kind == "asgi":
            websocket = open_to_the_end.enter_context(WebSocket(server.target))
            first = int(websocket.say("here"))
        players.begin(server.target, affinity, 8)
        old = {server.worker(0), server.worker(1)}
        server.resize_to(3)
        players.go_on()
        old.add(server.worker(2))
        begun = players.begin(server.target, affinity, 12)
        assert server.worker(2) in {player.pids[0] for player in begun}
        server.resize_to(1)
        players.go_on()
        begun = players.begin(server.target, affinity, 3)
        assert {player.pids[0] for player in begun} == {server.worker(0)}
        server.upgrade()
        players.go_on()
        assert {player.pids[0] for player in players.begin(server.target, affinity, 2)} == {
            server.worker(0)
        }
        assert server.worker(0) not in old
        players.release()
        if kind == "asgi":
            assert int(websocket.say("there")) == first
            open_to_the_end.close()
        for pid in old:
            server.log.wait_for(rf"Worker {pid} \(slot \d\) exited with code 0")


def test_a_drained_slot_keeps_its_clients_until_they_have_left(start: Start) -> None:
    """
    Newcomers go elsewhere, whoever is known stays, and others come when it is undrained.
    """
    server = start(*KINDS["wsgi"], "--affinity", "stamp:X-Session", *BY_CLIENT, embedded=True)
    with Players() as players:
        players.begin(server.target, "stamp", 6)
        assert server.ask("drain 0") == ""
        players.go_on()
        begun = players.begin(server.target, "stamp", 4)
        assert {player.pids[0] for player in begun} == {server.worker(1)}
        assert server.ask("undrain 0") == ""
        players.go_on()
        # Enough that the other one, which has all of the others, is not the least loaded for long.
        begun = players.begin(server.target, "stamp", 16)
        assert server.worker(0) in {player.pids[0] for player in begun}


def test_recycling_relieves_one_worker_by_client(start: Start) -> None:
    """
    A worker that is told to end keeps its clients as at a reload; one that dies does not.
    """
    server = start(*KINDS["asgi"], "--affinity", "header:X-Name,ip", *BY_CLIENT)
    with Players() as players:
        begun = players.begin(server.target, "header", 6)
        old = server.worker(0)
        os.kill(old, signal.SIGTERM)
        server.log.wait_for(rf"Worker {old} \(slot 0, generation 1\) keeps the clients")
        players.go_on()
        os.kill(old, signal.SIGKILL)
        server.log.wait_for(rf"Worker {old} \(slot 0\) died of signal 9")
        for player in begun:
            player.close()
            if player.pids[0] == old:
                assert player.request()[0] == 404  # its successor does not know it
            else:
                player.ask()


def test_where_the_kernel_steers(start: Start) -> None:
    """
    The kernel sends a client to its slot's present worker, which knows that another one may keep
    it; a client of the kept worker is known there, and newcomers are served where they come.
    """
    server = start(
        *(*KINDS["resource"], "--steering", "kernel", *BY_CLIENT),
        listen="tcp:0:interface=127.0.0.1",
    )
    with Players() as players:
        players.begin(server.target, "ip", 6)
        old = {server.worker(0), server.worker(1)}
        server.reload()
        players.go_on()
        begun = players.begin(server.target, "ip", 6)
        assert {player.pids[0] for player in begun} == {server.worker(0), server.worker(1)}
        players.release()
        for pid in old:
            server.log.wait_for(rf"Worker {pid} \(slot \d\) exited with code 0")


@pytest.mark.parametrize("kind", ["resource", pytest.param("asgi", marks=pytest.mark.soak)])
def test_over_tls(kind: str, start: Start, tmp_path: Path) -> None:
    """
    TLS ends at the worker that the address leads to, and each request is answered by the one that
    knows its client: on a kept connection, and through a tunnel on a fresh one.
    """
    certificate = write_certificate(tmp_path, "a", "localhost")
    server = start(
        *(*KINDS[kind], "--affinity", "cookie:stickyd", "--tls", certificate),
        *BY_CLIENT,
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Players(context) as players:
        players.begin(server.target, "cookie", 4)
        server.reload()
        players.go_on()
        begun = players.begin(server.target, "cookie", 4)
        assert {player.pids[0] for player in begun} <= {server.worker(0), server.worker(1)}
        players.go_on()


@pytest.mark.parametrize("kind", ["resource", pytest.param("wsgi", marks=pytest.mark.soak)])
def test_over_http2(kind: str, start: Start, tmp_path: Path) -> None:
    """
    Of several clients on one HTTP/2 connection each is answered by whoever knows it: here, or,
    refused unbegun, on the next connection; newcomers by the new workers.
    """
    server = start(
        *(*KINDS[kind], "--affinity", "cookie:stickyd", "--http2", "on"),
        *("--tls", write_certificate(tmp_path, "a", "localhost"), *BY_CLIENT),
    )
    with ExitStack() as stack:

        def connect() -> H2Client:
            return stack.enter_context(closing(H2Client(server)))

        clients = []
        for generation in range(2):
            if generation:
                server.reload()
            fresh = {server.worker(0), server.worker(1)}
            for _ in range(3):
                told, head = (at := connect()).answer(at.send())
                cookie = ("cookie", head["set-cookie"].partition(";")[0])
                clients.append((told["pid"], cookie, ("x-session", head["x-session"])))
                assert told["pid"] in fresh
        connection = connect()
        for count in (2, 3):
            for pid, *fields in clients:
                stream = connection.send(*fields)
                if connection.outcome(stream) == ErrorCodes.REFUSED_STREAM:
                    connection = connect()
                    stream = connection.send(*fields)
                assert connection.answer(stream)[0] == {"pid": pid, "count": count, "version": ""}


@pytest.mark.parametrize(
    ("affinity", "generations"),
    [pytest.param("cookie:stickyd", 2, marks=pytest.mark.soak), ("header:X-Name", 3)],
)
def test_through_a_proxy_that_mixes_its_clients(
    affinity: str, generations: int, start: Start, tmp_path: Path
) -> None:
    """
    Behind nginx each of its few connections carries the clients of all generations in turns.
    """
    server = start(*KINDS["asgi"], "--affinity", affinity, "--trust", "127.0.0.1", *BY_CLIENT)
    with nginx(tmp_path, server.target, 2) as proxy, Players() as players:
        everybody: list[Player] = []
        for generation in range(generations):
            if generation:
                server.reload()
            everybody += players.begin(proxy.target, affinity, 6)
            fresh = {server.worker(0), server.worker(1)}
            assert {player.pids[0] for player in everybody[-6:]} <= fresh
            with ThreadPoolExecutor(4) as pool:
                for _ in range(3):
                    list(pool.map(Player.ask, everybody))
        for player in everybody:
            assert set(player.pids) == {player.pids[0]}

"""
Each request on TLS, too, is answered by the worker that owns its client.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.frameworks.tellers import LARGE
from tests.system.placing import rendezvous
from tests.system.processes import descriptors_of, eventually, is_alive
from tests.system.rehoming import (
    HOMES,
    KINDS,
    USERS,
    WORKERS,
    Answers,
    ask,
    every_channel,
    heard,
    request,
    set_cookies,
)
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server


@pytest.fixture
def encrypted(start: Start, tmp_path: Path) -> Callable[..., Server]:
    """
    Start a server whose workers keep the TLS.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")

    def start_one(*arguments: str) -> Server:
        return start(*arguments, "--tls", certificate, workers=WORKERS)

    return start_one


def tls_client(server: Server) -> Client:
    """
    Connect, and shake hands.
    """
    client = Client(server.target)
    client.socket = client_context().wrap_socket(client.socket, server_hostname="localhost")
    return client


@every_channel
def test_requests_on_tls_go_home(kind: str, encrypted: Callable[..., Server]) -> None:
    """
    The workers that own the requests answer them, and know that the client speaks TLS and
    who it is, though another worker has its TLS.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    with tls_client(server) as client:
        for user in USERS * 2:
            told = ask(client, f"X-User: {user}", body="body")
            assert told == {
                "slot": HOMES[user],
                "host": "127.0.0.1",
                "secure": True,
                "id": None,
            }
        # Without one to name, it is the worker that has the TLS.
        assert ask(client)["slot"] == rendezvous("127.0.0.1", WORKERS)


@every_channel
def test_much_goes_through_a_tunnel(kind: str, encrypted: Callable[..., Server]) -> None:
    """
    What does not fit into any buffer arrives whole, in both directions.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    with tls_client(server) as client:
        for user in USERS[:5]:
            told = ask(client, f"X-User: {user}", path="/large", body="b" * LARGE)
            assert (told["slot"], len(told["padding"])) == (HOMES[user], LARGE)


@every_channel
def test_pipelined_requests_on_tls(kind: str, encrypted: Callable[..., Server]) -> None:
    """
    Requests that come in one TLS record are answered in order, each at its home.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    with tls_client(server) as client:
        client.socket.sendall(b"".join(request(f"X-User: {user}") for user in USERS))
        with closing(Answers(client)) as reader:
            assert [reader.next()["slot"] for _ in USERS] == [HOMES[user] for user in USERS]


@every_channel
def test_tunnel_ends_with_the_connection(kind: str, encrypted: Callable[..., Server]) -> None:
    """
    When the owner closes, the client hears of it in good order; when the client does,
    nothing of the tunnel is left.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    workers = [server.worker(slot) for slot in range(WORKERS)]
    before = [len(descriptors_of(pid)) for pid in workers]
    user = next(user for user in USERS if HOMES[user] != rendezvous("127.0.0.1", WORKERS))
    with tls_client(server) as client:
        assert ask(client, f"X-User: {user}", "Connection: close")["slot"] == HOMES[user]
        assert client.at_end()
    with tls_client(server) as client:
        assert ask(client, f"X-User: {user}")["slot"] == HOMES[user]
    assert eventually(lambda: [len(descriptors_of(pid)) for pid in workers] == before)


@every_channel
def test_reload_under_tunnels_loses_nothing(kind: str, encrypted: Callable[..., Server]) -> None:
    """
    Clients who ask without a pause, on connections whose TLS is at one worker and whose
    owner is another, have every request answered by the right slot while all of them are
    replaced; the replaced ones leave once the clients have.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    replaced = [server.worker(slot) for slot in range(WORKERS)]
    over = threading.Event()
    asked: Counter[str] = Counter()

    def ask_on(user: str) -> None:
        while not over.is_set():
            with tls_client(server) as client:
                stays = True
                while stays and not over.is_set():
                    client.socket.sendall(request(f"X-User: {user}", body="body"))
                    told, response = heard(client)
                    assert (told["slot"], told["host"]) == (HOMES[user], "127.0.0.1")
                    asked[user] += 1
                    stays = response.getheader("Connection") != "close"
                    # Its own worker had the TLS; the others are not even told.
                    assert stays or HOMES[user] == rendezvous("127.0.0.1", WORKERS)

    with ThreadPoolExecutor(len(USERS)) as pool:
        asking = [pool.submit(ask_on, user) for user in USERS]
        try:
            assert eventually(lambda: len(asked) == len(USERS))
            server.reload()
            before = asked.copy()
            assert eventually(lambda: all(asked[user] > before[user] + 3 for user in USERS))
        finally:
            over.set()
        for each in asking:
            each.result()
    assert eventually(lambda: not any(is_alive(pid) for pid in replaced))


def test_cookie_on_tls_is_secure(encrypted: Callable[..., Server]) -> None:
    """
    The cookie that is set on TLS, through a tunnel too, is sent on TLS only.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "cookie:stickyd,header:X-User,ip")
    with tls_client(server) as client:
        for user in USERS[:4]:
            client.socket.sendall(request(f"X-User: {user}"))
            told, response = heard(client)
            assert told["slot"] == HOMES[user]
            assert "; Secure; HttpOnly" in set_cookies(response)["stickyd"]

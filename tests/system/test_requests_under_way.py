"""
Fault 10: requests under way while their worker is relieved are finished where they are, for
as long as they take, and their sessions follow.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Answer, Client
from tests.system.placing import rendezvous, source_address
from tests.system.test_http2 import H2Client
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

SITE = ("--resource", "tests.system.moving_apps:site")

#: A client whose slot is another one of two slots, and of three.
MOVED = next(
    source
    for source in map(source_address, range(99))
    if rendezvous(source, 2) == 0 and rendezvous(source, 3) == 2
)


def reload(server: Server) -> None:
    """
    Replace every worker.
    """
    server.reload()


def reload_twice(server: Server) -> None:
    """
    Replace every worker, and its successor.
    """
    server.reload()
    server.reload()


def resize(server: Server) -> None:
    """
    Add a slot, which gets the client.
    """
    server.resize_to(3)


def resize_there_and_back(server: Server) -> None:
    """
    Add a slot, and take it away again.
    """
    server.resize_to(3)
    server.resize_to(2)


def drain(server: Server) -> None:
    """
    Keep clients away from the slot.
    """
    assert server.ask("drain 0") == ""


def term(server: Server) -> None:
    """
    Tell the worker to end.
    """
    pid = server.worker(0)
    since = server.log.mark()
    os.kill(pid, signal.SIGTERM)
    server.log.wait_for(rf"Worker {pid} \(slot 0\) was told to end", since)
    server.log.wait_for(r"Worker \d+ online", since)


def reload_and_resize(server: Server) -> None:
    """
    Replace every worker, then add a slot.
    """
    server.reload()
    server.resize_to(3)


EVENTS: dict[str, Callable[[Server], None]] = {
    event.__name__: event
    for event in (
        reload,
        reload_twice,
        resize,
        resize_there_and_back,
        reload_and_resize,
        drain,
        term,
    )
}


class Visitor:
    """
    A client with a cookie jar, on several connections.
    """

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self._server = server
        self._stack = stack
        self._cookie = ""

    def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        """
        Open a connection.
        """
        client = self._stack.enter_context(Client(self._server.target, MOVED))
        if tls is not None:
            client.socket = tls.wrap_socket(client.socket, server_hostname="localhost")
        return client

    def ask(self, client: Client, path: str) -> tuple[int, int]:
        """
        Make a request.

        :return: the worker's pid, and the count.
        """
        self.begin(client, path)
        return self.counted(client)

    def begin(self, client: Client, path: str) -> None:
        """
        Send a request without a body.
        """
        client.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{self._cookie}\r\n".encode())

    def begin_body(self, client: Client, path: str) -> None:
        """
        Send the head of a request, and half of its body.
        """
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{self._cookie}Content-Length: 8\r\n\r\nhalf"
        client.socket.sendall(head.encode())

    def end_body(self, client: Client) -> tuple[int, int]:
        """
        Send the rest of the body, and read the response.
        """
        client.socket.sendall(b"rest")
        return self.counted(client)

    def counted(self, client: Client) -> tuple[int, int]:
        """
        Read a response, and keep its cookie.
        """
        with client.response() as response:
            cookie = response.getheader("Set-Cookie")
            answer = Answer(response.status, response.read())
        counted = answer.counted
        if cookie is not None:
            self._cookie = f"Cookie: {cookie.partition(';')[0]}\r\n"
        return counted


@pytest.mark.parametrize(
    ("path", "event"), [("demonstration", "reload"), *(("/visits", event) for event in EVENTS)]
)
def test_fault_10_body_that_comes_afterwards(path: str, event: str, start: Start) -> None:
    """
    Fault 10: the head of a POST was there, and its body comes when all else has gone, another
    idle connection of the same client included.
    """
    site, path = ((), "/") if path == "demonstration" else (SITE, path)
    server = start(*site, embedded=True, workers=2)
    with ExitStack() as stack:
        visitor = Visitor(server, stack)
        busy, idle = visitor.connect(), visitor.connect()
        home = server.worker(0)
        assert visitor.ask(busy, path) == (home, 1)
        assert visitor.ask(idle, path) == (home, 2)
        visitor.begin_body(busy, path)
        # It has the head: what is sent on another connection later is answered later.
        assert visitor.ask(idle, path) == (home, 3)
        EVENTS[event](server)
        assert visitor.end_body(busy) == (home, 4)
        # On each connection, and on a new one, whoever owns the client goes on counting.
        counts = [visitor.ask(client, path) for client in (visitor.connect(), busy, idle)]
        assert [count for _, count in counts] == [5, 6, 7]
        (owner,) = {pid for pid, _ in counts}
        assert owner != home or event == "resize_there_and_back"


@pytest.mark.parametrize("event", ["reload", "drain"])
def test_fault_10_resource_that_asks_late(event: str, start: Start, gate: Gate) -> None:
    """
    Fault 10: the resource has its request, and asks for the session when all else has gone.
    """
    server = start(*SITE, embedded=True, workers=2, variables=gate.variables)
    with ExitStack() as stack:
        visitor = Visitor(server, stack)
        busy, idle = visitor.connect(), visitor.connect()
        home = server.worker(0)
        assert visitor.ask(busy, "/visits") == (home, 1)
        assert visitor.ask(idle, "/visits") == (home, 2)
        visitor.begin(busy, "/hesitating")
        gate.wait_for_arrival()
        EVENTS[event](server)
        gate.open()
        assert visitor.counted(busy) == (home, 3)
        counts = [visitor.ask(client, "/visits") for client in (visitor.connect(), busy, idle)]
        assert [count for _, count in counts] == [4, 5, 6]


@pytest.mark.parametrize("event", ["reload", "reload_and_resize", "term"])
def test_fault_10_session_made_afterwards(event: str, start: Start) -> None:
    """
    Fault 10: a client that has no session yet gets one from the worker that is relieved; its
    next request finds it wherever it is answered.
    """
    server = start(*SITE, embedded=True, workers=2)
    with ExitStack() as stack:
        visitor = Visitor(server, stack)
        busy, idle = visitor.connect(), visitor.connect()
        home = server.worker(0)
        assert Visitor(server, stack).ask(idle, "/visits") == (home, 1)
        visitor.begin_body(busy, "/visits")
        assert Visitor(server, stack).ask(idle, "/visits") == (home, 1)
        EVENTS[event](server)
        assert visitor.end_body(busy) == (home, 1)
        counts = [visitor.ask(client, "/visits") for client in (visitor.connect(), busy)]
        assert [count for _, count in counts] == [2, 3]


@pytest.mark.parametrize("event", ["reload", "drain"])
def test_fault_10_body_on_tls(event: str, start: Start, tmp_path: Path) -> None:
    """
    Fault 10, where TLS ends in the worker: the connection is closed after the response.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")
    server = start(*SITE, "--tls", certificate, embedded=True, workers=2)
    with ExitStack() as stack:
        visitor = Visitor(server, stack)
        busy, idle = (visitor.connect(client_context()) for _ in range(2))
        home = server.worker(0)
        assert visitor.ask(busy, "/visits") == (home, 1)
        assert visitor.ask(idle, "/visits") == (home, 2)
        visitor.begin_body(busy, "/visits")
        assert visitor.ask(idle, "/visits") == (home, 3)
        EVENTS[event](server)
        assert visitor.end_body(busy) == (home, 4)
        assert visitor.ask(visitor.connect(client_context()), "/visits")[1] == 5


def test_fault_10_streams(start: Start, tmp_path: Path) -> None:
    """
    Fault 10, over HTTP/2: the body of a stream that was begun may come for as long as it takes.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")
    options = ("--tls", certificate, "--http2", "on")
    server = start(*SITE, *options, embedded=True, workers=2)
    with closing(H2Client(server, MOVED)) as first:
        cookie = first.whole(first.send(path="/visits"))[1]["set-cookie"].partition(";")[0]
        carried = ("cookie", cookie)
        stream = first.begin(carried, path="/visits")
        assert first.whole(first.send(carried, path="/visits"))[0].endswith("hits: 2\n")
        server.reload()
        first.end(stream, b"body")
        assert first.whole(stream)[0] == f"Worker {server.started[0].pid} session hits: 3\n"
    with closing(H2Client(server, MOVED)) as second:
        assert second.whole(second.send(carried, path="/visits"))[0].endswith("hits: 4\n")


@pytest.mark.parametrize("event", ["reload", "reload_twice", "drain", "reload_and_resize"])
def test_fault_10_other_requests_of_the_client_wait(event: str, start: Start) -> None:
    """
    Fault 10: while one request of a client is finished by the old worker, the next one, which
    reaches the fresh one, waits for their session.
    """
    server = start(*SITE, embedded=True, workers=2)
    # A connection that is still on its way when the test is over.
    server.allow("refused \\(503\\): the server stops")
    with ExitStack() as stack:
        visitor = Visitor(server, stack)
        busy = visitor.connect()
        home = server.worker(0)
        assert visitor.ask(busy, "/visits") == (home, 1)
        visitor.begin_body(busy, "/visits")
        assert visitor.ask(visitor.connect(), "/visits") == (home, 2)
        EVENTS[event](server)
        other = visitor.connect()
        visitor.begin(other, "/visits")
        # It is with the fresh worker by the time that this one is answered there.
        assert Visitor(server, stack).ask(visitor.connect(), "/visits")[1] == 1
        assert visitor.end_body(busy) == (home, 3)
        assert visitor.counted(other)[1] == 4


def test_fault_10_many_at_once(start: Start) -> None:
    """
    Fault 10: the sessions of many requests that end at the same moment all arrive, and the
    primary sees nothing wrong with the worker that sends them.
    """
    server = start(*SITE, embedded=True, workers=2)
    with ExitStack() as stack:
        visitors = [Visitor(server, stack) for _ in range(60)]
        busy = [visitor.connect() for visitor in visitors]
        for visitor, client in zip(visitors, busy, strict=True):
            assert visitor.ask(client, "/visits")[1] == 1
            visitor.begin_body(client, "/visits")
        assert Visitor(server, stack).ask(visitors[0].connect(), "/visits")[1] == 1
        server.reload()
        for client in busy:
            client.socket.sendall(b"rest")
        for visitor, client in zip(visitors, busy, strict=True):
            assert visitor.counted(client)[1] == 2
        for visitor in visitors:
            assert visitor.ask(visitor.connect(), "/visits")[1] == 3


def test_fault_10_body_that_comes_after_an_upgrade(start: Start) -> None:
    """
    Fault 10, where the primary replaces itself and then its workers.
    """
    server = start(*SITE, workers=2)
    with ExitStack() as stack:
        visitor = Visitor(server, stack)
        busy, idle = visitor.connect(), visitor.connect()
        home = server.worker(0)
        assert visitor.ask(busy, "/visits") == (home, 1)
        visitor.begin_body(busy, "/visits")
        assert visitor.ask(idle, "/visits") == (home, 2)
        server.upgrade()
        assert visitor.end_body(busy) == (home, 3)
        counts = [visitor.ask(client, "/visits") for client in (visitor.connect(), busy, idle)]
        assert [count for _, count in counts] == [4, 5, 6]

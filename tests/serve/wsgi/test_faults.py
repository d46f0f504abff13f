"""
The faults from the field that concern WSGI: issue 8, by their numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from twisted.internet.address import UNIXAddress

from tests.hosting import LOOPS, Client, logged, until
from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Environ = dict[str, Any]


class Seen:
    """
    An application that keeps what it is given, and answers how long the body was.
    """

    def __init__(self) -> None:
        self.environ: Environ = {}
        self.body = b""

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        self.environ = environ
        self.body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % len(self.body)]


def test_fault_9_names_with_underscores_reach_nobody() -> None:
    """
    ``X_Forwarded_For`` is another field than ``X-Forwarded-For``, and a proxy takes only the
    latter off.
    """
    seen = Seen()
    with serving(seen) as scene:

        async def go() -> None:
            await scene.visit().ask(
                "/", "X-Forwarded-For: 192.0.2.1", "X_Forwarded_For: 192.0.2.2", "A_b: 1", "_: 1"
            )

        scene.run(go)
    assert seen.environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    assert not [name for name in seen.environ if name in ("HTTP_A_B", "HTTP__")]


@pytest.mark.parametrize("forwarded", ["192.0.2.7", "2001:db8::7", None])
def test_fault_31_forwarded_client_on_a_unix_socket(forwarded: str | None) -> None:
    """
    The client has an address and our end has none: each is told as it is.
    """
    seen = Seen()
    with serving(seen, trust=["unix"]) as scene:

        async def go() -> int:
            handoff = scene.visit().handoff
            handoff.host = ""
            ours, theirs = socket.socketpair()
            with contextlib.closing(ours):
                for end in (ours, theirs):
                    end.setblocking(False)
                scene.host.adopt(theirs, UNIXAddress(None), handoff)
                fields = [] if forwarded is None else [f"X-Forwarded-For: {forwarded}"]
                response = await Client(ours, handoff).ask("/", *fields, "X-Forwarded-Proto: https")
                return response.status

        assert scene.run(go) == 200
    assert seen.environ["REMOTE_ADDR"] == (forwarded or "")
    assert isinstance(seen.environ["REMOTE_PORT"], str)
    assert seen.environ["wsgi.url_scheme"] == "https"
    assert (seen.environ["SERVER_NAME"], seen.environ["SERVER_PORT"]) == ("localhost", "443")


@pytest.mark.parametrize("size", [0, 5, 70_000, 3_000_000])
@pytest.mark.parametrize("cut", [False, True])
def test_fault_32_a_chunked_body_is_delivered(size: int, cut: bool) -> None:
    """
    Whole, with its length; whatever its size, and also in pieces.
    """
    seen = Seen()
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    coded = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (body[i : i + 50_000] for i in range(0, size, 50_000))
    )
    message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n"
    with serving(seen) as scene:

        async def go() -> None:
            client = scene.visit()
            if cut and size < 1000:
                for index in range(len(message)):
                    await client.send(message[index : index + 1])
                    await asyncio.sleep(0)
            else:
                await client.send(message)
            await client.send("\r\n")
            assert (await client.response()).body == b"%d" % size
            # And the connection goes on.
            assert (await client.ask()).status == 200

        scene.run(go)
    assert seen.environ.get("CONTENT_LENGTH") is None  # of the last one, a GET


def test_fault_32_a_chunked_body_has_a_length() -> None:
    """
    ``CONTENT_LENGTH`` says how long it was, and the stream has an end.
    """
    seen = Seen()
    with serving(seen) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5\r\nabcde\r\n0\r\n\r\n"
            )
            assert (await client.response()).body == b"5"

        scene.run(go)
    assert seen.body == b"abcde"
    assert seen.environ["CONTENT_LENGTH"] == "5"
    assert seen.environ["wsgi.input_terminated"]
    assert "HTTP_TRANSFER_ENCODING" not in seen.environ


@pytest.mark.parametrize("way", ["iterable", "write"])
@pytest.mark.parametrize("loop", LOOPS)
def test_fault_33_a_client_who_stops_reading_stops_the_application(loop: str, way: str) -> None:
    """
    A long response is made no faster than it is taken, and its application is told when the
    client leaves.
    """
    piece = b"x" * 65536
    made: list[int] = []
    closed = threading.Event()

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            for number in range(10_000):
                made.append(number)
                yield piece

        def close(self) -> None:
            closed.set()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if way == "iterable":
            return Pieces()
        try:
            for number in range(10_000):
                made.append(number)
                write(piece)
        finally:
            closed.set()
        return []

    with serving(application, loop) as scene:

        async def go() -> None:
            client = scene.visit()
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            await client.request()
            before = -1
            while len(made) > before:
                before = len(made)
                await asyncio.sleep(0.1)
            # What the kernel took is not ours to bound: some MB, of 655.
            assert len(made) < 200
            while len(made) == before:
                await client.more()
            client.close()
            await until(closed.is_set)
            assert len(made) < 1000

        scene.run(go)


def test_fault_33_requests_of_clients_that_have_left_are_not_run() -> None:
    """
    Neither of those that have reset the connection, nor of those that have closed it; but
    those that have shut their sending side only do get their answer.
    """
    gate = threading.Event()
    run: list[str] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        run.append(environ["PATH_INFO"])
        gate.wait()
        start_response("200 OK", [])
        return [b"answer"]

    with serving(application, threads=1) as scene:

        async def go() -> None:
            first = scene.visit()
            await first.request("/first")
            await until(lambda: run)
            leaving = [scene.visit() for _ in range(20)]
            waiting = [scene.visit() for _ in range(3)]
            for client in leaving + waiting:
                await client.request("/queued")
            await until(lambda: scene.host.requests == 24)
            for index, client in enumerate(leaving):
                if index % 2:
                    client.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                    )
                client.close()
            for client in waiting:
                client.socket.shutdown(socket.SHUT_WR)
            await until(lambda: scene.host.connections == 4)
            gate.set()
            for client in [first, *waiting]:
                response = await client.response()
                assert (response.status, response.body) == (200, b"answer")

        scene.run(go)
    assert run == ["/first"] + ["/queued"] * 3


def test_fault_33_the_queue_is_bounded() -> None:
    """
    A request too many gets 503 at once, and the log says so once.
    """
    gate = threading.Event()

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        gate.wait()
        start_response("200 OK", [])
        return [b""]

    with serving(application, threads=2, queue_limit=3) as scene, logged() as events:

        async def go() -> None:
            clients = [scene.visit() for _ in range(5)]
            for number, client in enumerate(clients):
                await client.request()
                await until(lambda number=number: scene.host.requests > number)  # type: ignore[misc]  # no type for a default
                if number == 1:
                    await until(lambda: not scene.host._backend.threads.waiting)
            for _ in range(10):
                response = await scene.visit().ask()
                assert response.status == 503
                assert response.fields["retry-after"]
            gate.set()
            for client in clients:
                assert (await client.response()).status == 200

        scene.run(go)
    told = [event for event in events if "--wsgi-threads" in str(event.get("log_format"))]
    assert len(told) == 1


def test_fault_36_the_environ_is_valid() -> None:
    """
    wsgiref.validate has nothing to say: to a body, to none, to an answer in pieces.
    """
    seen: list[Environ] = []

    @validator
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(environ)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"] == "/write":
            start_response("200 OK", [("Content-Type", "text/plain")])(body)
            return []
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([body, b"!"])

    with serving(application) as scene, logged() as events:

        async def go() -> None:
            client = scene.visit()
            for path in ("/", "/write"):
                for method in ("POST", "PUT"):
                    await client.send(
                        f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
                        "Content-Length: 5\r\n\r\nabcde"
                    )
                    head = await client.head()
                    assert head.startswith(b"HTTP/1.1 200"), head
                    await client.taken(10 if path == "/write" else 0)
                    tail = b""
                    while not tail.endswith(b"0\r\n\r\n"):
                        tail += await client.taken(1)
            await client.request("/?a=b")
            assert (await client.head()).startswith(b"HTTP/1.1 200")

        scene.run(go)
    assert not [event for event in events if "log_failure" in event]
    assert seen[0]["CONTENT_TYPE"] == "text/plain"
    assert seen[0]["CONTENT_LENGTH"] == "5"
    assert not [name for name in seen[0] if name.startswith("HTTP_CONTENT")]


@pytest.mark.parametrize("size", [4, 3_000_000])
@pytest.mark.parametrize("loop", LOOPS)
def test_fault_37_half_closed_clients_get_their_answers(loop: str, size: int) -> None:
    """
    Also several, also long ones, also of an application that takes its time.
    """

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        threading.Event().wait(0.05)
        start_response("200 OK", [])
        return (b"x" * min(size, 100_000) for _ in range(max(1, size // 100_000)))

    with serving(application, loop) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
            client.socket.shutdown(socket.SHUT_WR)
            rest = await client.rest()
            assert rest.count(b"HTTP/1.1 200 OK\r\n") == 2
            assert rest.endswith(b"0\r\n\r\n")
            assert rest.count(b"x") == 2 * size
            await until(lambda: not scene.host.connections)

        scene.run(go)


def test_fault_37_half_a_request_gets_none() -> None:
    """
    What can never be whole ends with the connection.
    """
    seen = Seen()
    with serving(seen) as scene:

        async def go() -> None:
            for half in (
                "GET / HTTP/1.1\r\nHos",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc",
            ):
                client = scene.visit()
                await client.send(half)
                client.socket.shutdown(socket.SHUT_WR)
                assert await client.rest() == b""
            await until(lambda: not scene.host.connections)

        scene.run(go)
    assert not seen.environ


def test_fault_41_no_content_type_is_none() -> None:
    """
    What the application does not say, we do not either.
    """

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    with serving(application) as scene:

        async def go() -> None:
            assert "content-type" not in (await scene.visit().ask()).fields

        scene.run(go)


@pytest.mark.parametrize(
    ("status", "line"),
    [("200", b"200 OK"), ("404", b"404 Not Found"), ("299", b"299 Unknown"), ("200 ", b"200 OK")],
)
def test_fault_41_a_status_without_a_reason(status: str, line: bytes) -> None:
    """
    It gets the usual one.
    """

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        start_response(status, [])
        return [b"x"]

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request()
            assert (await client.head()).startswith(b"HTTP/1.1 %b\r\n" % line)

        scene.run(go)

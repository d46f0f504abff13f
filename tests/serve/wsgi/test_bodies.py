"""
The bodies of requests: whole, in pieces, slow, large, never whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.wsgi.body import MOST_MEMORY_BYTES, Body, BodyLost, Spills
from tests.hosting import LOOPS, logged, until
from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Environ = dict[str, Any]


def head(length: int, path: str = "/") -> str:
    """
    The head of a POST.
    """
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"


class Digest:
    """
    Answers with the digest of what it reads, in several ways; ``/answer`` does not read.
    """

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[BaseException] = []

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        self.begun.set()
        stream = environ["wsgi.input"]
        path = environ["PATH_INFO"]
        if path == "/answer":
            start_response("413 Content Too Large", [("Content-Length", "3")])
            return [b"no\n"]
        self.gate.wait()
        digest = hashlib.sha256()
        try:
            if path == "/lines":
                for line in stream:
                    digest.update(line)
            elif path == "/pieces":
                while piece := stream.read(1000):
                    assert len(piece) <= 1000
                    digest.update(piece)
            else:
                digest.update(stream.read())
            assert stream.read() == b""
        except BaseException as problem:
            self.failures.append(problem)
            raise
        start_response("200 OK", [])
        return [digest.hexdigest().encode()]


def some_bytes(size: int) -> bytes:
    """
    Bytes with lines among them.
    """
    line = bytes(range(11, 256)) + b"\n"
    return (line * (size // len(line) + 1))[:size]


@pytest.mark.parametrize("size", [1, 1000, 65_536, 300_000, 5_000_000])
@pytest.mark.parametrize("path", ["/", "/pieces", "/lines"])
def test_arrive_whole(size: int, path: str) -> None:
    """
    At once, with the head; and in pieces, with pauses in which the application is begun.
    """
    body = some_bytes(size)
    expected = hashlib.sha256(body).hexdigest().encode()
    application = Digest()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(head(size, path).encode() + body)
            assert (await client.response()).body == expected
            application.begun.clear()
            await client.send(head(size, path).encode() + body[: size // 3])
            await until(application.begun.is_set)
            await client.send(body[size // 3 : size // 2])
            await asyncio.sleep(0.01)
            await client.send(body[size // 2 :])
            assert (await client.response()).body == expected
            await until(lambda: scene.host._backend.spills.count == 0)
            assert scene.host._backend.spills.memory_bytes == 0

        scene.run(go)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [10, 100_000_000])
@pytest.mark.parametrize("sent", [0, 5])
def test_an_application_may_answer_before_it_has_read(loop: str, size: int, sent: int) -> None:
    """
    The client waits for an answer and sends no more; it gets it, and then the connection ends.
    """
    application = Digest()
    with serving(application, loop) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(head(size, "/answer") + "x" * sent)
            response = await client.response()
            assert (response.status, response.body) == (413, b"no\n")
            assert await client.rest() == b""

        scene.run(go)


def test_a_client_who_goes_on_sending_gets_the_early_answer() -> None:
    """
    And not a reset, which would take it along.
    """
    application = Digest()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            size = 20_000_000
            sending = asyncio.ensure_future(
                client.send(head(size, "/answer").encode() + bytes(size))
            )
            assert (await client.response()).status == 413
            await sending

        scene.run(go)


def test_one_that_does_not_read_holds_the_client_back() -> None:
    """
    What it does not take stays with the client, and takes no memory here.
    """
    size = 100_000_000
    application = Digest()
    application.gate.clear()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            body = bytes(1 << 20)
            digest = hashlib.sha256(bytes(size))
            sent = 0

            async def send() -> None:
                nonlocal sent
                await client.send(head(size))
                while sent < size:
                    piece = body[: size - sent]
                    await client.send(piece)
                    sent += len(piece)

            sending = asyncio.ensure_future(send())
            await until(application.begun.is_set)
            before = -1
            while sent > before:
                before = sent
                await asyncio.sleep(0.1)
            # Some MB are in the kernel's buffers.
            assert sent < 20_000_000
            assert scene.host._backend.spills.count == 0
            application.gate.set()
            assert (await client.response()).body == digest.hexdigest().encode()
            await sending

        scene.run(go)


def test_slow_bodies_take_no_more_threads_than_may_wait_for_them() -> None:
    """
    Fault 33: of many slow clients half of the threads wait for some; the others' bodies are
    collected, large ones in files, and a page is served at once.
    """
    application = Digest()
    with serving(application, threads=4) as scene:

        async def go() -> None:
            backend = scene.host._backend
            body = some_bytes(MOST_MEMORY_BYTES + 100_000)
            clients = [scene.visit() for _ in range(30)]
            for client in clients:
                await client.send(head(len(body)).encode() + body[:-10])
            await until(lambda: backend.spills.count == 28)
            assert scene.host.descriptors == 30 + 28
            assert (await scene.visit().ask("/")).status == 200
            assert backend.threads.count <= 4
            for client in clients:
                await client.send(body[-10:])
            expected = hashlib.sha256(body).hexdigest().encode()
            for client in clients:
                assert (await client.response()).body == expected
            await until(lambda: backend.spills.count == 0)

        scene.run(go)


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """
    As many clients as this process may have, of a thousand.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(1000, (min(hard, 65536) - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_clients_that_send_byte_by_byte(many_descriptors: int) -> None:
    """
    They take no more threads than there are, and nothing of the disk; a page is served after
    each byte of theirs, and each gets its answer in the end.
    """
    with serving(Digest(), threads=4) as scene:

        async def go() -> None:
            backend = scene.host._backend
            body = b"abcd"
            clients = [scene.visit() for _ in range(many_descriptors)]
            for client in clients:
                await client.send(head(len(body)))
            for number in range(len(body) - 1):
                for client in clients:
                    await client.send(body[number : number + 1])
                assert (await scene.visit().ask("/")).status == 200
                assert backend.threads.count <= 4
                assert backend.spills.count == 0
            for client in clients:
                await client.send(body[-1:])
            expected = hashlib.sha256(body).hexdigest().encode()
            for client in clients:
                assert (await client.response()).body == expected
            assert backend.threads.count <= 4

        scene.run(go)


def test_the_next_slow_body_takes_the_place_of_one_that_is_whole() -> None:
    """
    Also one that has waited in a file: it is read from there, and on as it comes.
    """
    application = Digest()
    size = MOST_MEMORY_BYTES + 100_000
    body = some_bytes(size)
    with serving(application, threads=2) as scene:

        async def go() -> None:
            first, second = scene.visit(), scene.visit()
            await first.send(head(10) + "01234")
            await until(application.begun.is_set)
            await second.send(head(size).encode() + body[:-10])
            await until(lambda: scene.host._backend.spills.count == 1)
            application.begun.clear()
            await first.send("56789")
            await first.response()
            await until(application.begun.is_set)
            await second.send(body[-10:])
            expected = hashlib.sha256(body).hexdigest().encode()
            assert (await second.response()).body == expected
            await until(lambda: scene.host._backend.spills.count == 0)

        scene.run(go)


@pytest.mark.parametrize("sent", [5, 2_000_000])
def test_who_leaves_in_the_middle_is_an_error_to_read(sent: int) -> None:
    """
    An end would be taken for that of the body; and the log has nothing of it.
    """
    application = Digest()
    with serving(application) as scene, logged() as events:

        async def go() -> None:
            client = scene.visit()
            await client.send(head(10_000_000) + "x" * sent)
            await until(application.begun.is_set)
            client.close()
            await until(lambda: application.failures)
            await until(lambda: scene.host.connections == 0)

        scene.run(go)
    assert [type(problem) for problem in application.failures] == [BodyLost]
    assert not [event for event in events if "log_failure" in event]


@pytest.mark.parametrize("read_first", [True, False], ids=["reads before", "reads after"])
def test_the_rest_does_not_come_once_the_client_is_answered(read_first: bool) -> None:
    """
    An application that reads on when its response is complete is told so, and its thread is
    free again.
    """
    failures: list[BaseException] = []
    answered, freed = threading.Event(), threading.Event()

    def application(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/page":
            start_response("200 OK", [])
            return [b"page"]
        start_response("200 OK", [("Content-Length", "2")])(b"ok")
        if not read_first:
            answered.wait(10)
        try:
            environ["wsgi.input"].read()
        except BaseException as problem:
            failures.append(problem)
            raise
        finally:
            freed.set()
        return []

    with serving(application) as scene, logged() as events:

        async def go() -> None:
            client = scene.visit()
            # More than is kept for who does not read: the application is called early.
            await client.send(head(10_000_000) + "x" * 2_000_000)
            assert (await client.response()).body == b"ok"
            answered.set()
            await until(freed.is_set)
            client.close()
            other = scene.visit()
            await other.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await other.response()).body == b"page"

        scene.run(go)
    assert [type(problem) for problem in failures] == [BodyLost]
    assert len([event for event in events if "log_failure" in event]) == 1


def test_a_body_that_stops_is_refused() -> None:
    """
    With 408, and its application is told.
    """
    application = Digest()
    with serving(application, limits=HTTPLimits(body=1.0)) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(head(10) + "x")
            response = await client.response()
            assert response.status == 408
            await until(lambda: application.failures)

        scene.run(go)


def test_there_are_only_so_many_files() -> None:
    """
    Each is a descriptor; one too many is refused with 503, and the log says why.
    """
    application = Digest()
    with serving(application, threads=1) as scene, logged() as events:
        scene.host._backend.spills.most = 1

        async def go() -> None:
            body = bytes(MOST_MEMORY_BYTES + 1000)
            first, second = scene.visit(), scene.visit()
            await first.send(head(2_000_000).encode() + body)
            await until(lambda: scene.host._backend.spills.count == 1)
            await second.send(head(2_000_000).encode() + body)
            assert (await second.response()).status == 503
            first.close()
            await until(lambda: scene.host._backend.spills.count == 0)

        scene.run(go)
    assert len([event for event in events if "is refused" in str(event["log_format"])]) == 1


def test_memory_is_shared() -> None:
    """
    When all bodies together take much, each may take little.
    """
    spills = Spills(10)
    body = Body(lambda: None, lambda: None, spills)
    body.feed(bytes(100_000))
    large = [body.large]
    spills.memory_bytes += 64 << 20
    large.append(body.large)
    assert large == [False, True]
    body.spill()
    assert spills.memory_bytes == 64 << 20
    body.close()
    assert spills.count == 0


@pytest.mark.parametrize("expect", [True, False])
def test_continue_is_said_to_who_waits_for_it(expect: bool) -> None:
    """
    A client that expects 100 gets it, then sends its body.
    """
    application = Digest()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            field = "Expect: 100-continue\r\n" if expect else ""
            await client.send(f"POST / HTTP/1.1\r\nHost: a\r\n{field}Content-Length: 3\r\n\r\n")
            if expect:
                assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send("abc")
            digest = hashlib.sha256(b"abc").hexdigest()
            assert (await client.response()).body == digest.encode()

        scene.run(go)

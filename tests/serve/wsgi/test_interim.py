"""
What a client is told before the response: 100 Continue and 103 Early Hints.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosting import until
from tests.serve.wsgi.answering import Environ, StartResponse
from tests.serve.wsgi.scene import serving
from tests.serve.wsgi.test_http2 import Browser

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
POST = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"


class Reader:
    """
    An application that reads when the test says so.
    """

    def __init__(self) -> None:
        self.called = threading.Event()
        self.may_read = threading.Event()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """
        Give back what the client has sent.
        """
        if environ["PATH_INFO"] == "/page":
            start_response("200 OK", [])
            return [b"page"]
        self.called.set()
        self.may_read.wait(10)
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]


def test_continue_is_said_when_the_application_reads() -> None:
    """
    Not before, however long that takes; then the body comes, and the connection goes on.
    """
    application = Reader()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            for _ in range(2):
                application.may_read.clear()
                application.called.clear()
                await client.send(POST)
                await until(application.called.is_set)
                # It would have come by now: this one asks behind it.
                assert (await scene.visit().ask("/page")).body == b"page"
                with pytest.raises(BlockingIOError):
                    client.socket.recv(1)
                application.may_read.set()
                assert await client.head() == CONTINUE
                await client.send("abc")
                await client.send("def")
                assert (await client.response()).body == b"abcdef"

        scene.run(go)


def test_continue_is_not_said_by_an_application_that_does_not_read() -> None:
    """
    The client has its answer, and need not send what nobody wants.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("403 Forbidden", [])
        return [b"no"]

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(POST)
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert b"Connection: close\r\n" in answer
            assert answer.endswith(b"no")

        scene.run(go)


def test_who_does_not_wait_is_served() -> None:
    """
    A client may send its body though it is not told to (RFC 9110, 10.1.1).
    """
    application = Reader()
    application.may_read.set()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(POST + "abcdef")
            assert (await client.response()).body == b"abcdef"
            application.may_read.clear()
            application.called.clear()
            await client.send(POST)
            await until(application.called.is_set)
            await client.send("abcdef")
            application.may_read.set()
            assert await client.head() == CONTINUE
            assert (await client.response()).body == b"abcdef"

        scene.run(go)


def test_chunked_bodies_are_asked_for_at_once() -> None:
    """
    Applications cannot tell where they end, so they are called when they are whole.
    """
    application = Reader()
    application.may_read.set()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            head = POST.replace("Content-Length: 6", "Transfer-Encoding: chunked")
            await client.send(head)
            assert await client.head() == CONTINUE
            assert not application.called.is_set()
            await client.send("6\r\nabcdef\r\n0\r\n\r\n")
            assert (await client.response()).body == b"abcdef"

        scene.run(go)


def test_clients_without_a_thread_are_told_at_once() -> None:
    """
    More wait than threads may: the others send their bodies meanwhile, and all are served.
    """
    application = Reader()
    with serving(application, threads=4) as scene:

        async def go() -> None:
            clients = [scene.visit() for _ in range(6)]
            for client in clients[:2]:
                await client.send(POST)
            await until(lambda: scene.host._backend.uploads.full)
            for client in clients[2:]:
                await client.send(POST)
                assert await client.head() == CONTINUE
                await client.send("abcdef")
            application.may_read.set()
            for client in clients[:2]:
                assert await client.head() == CONTINUE
                await client.send("abcdef")
            for client in clients:
                assert (await client.response()).body == b"abcdef"

        scene.run(go)


def test_nothing_is_said_within_the_response() -> None:
    """
    Once the response has begun, 100 would be taken for a part of it.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "8")])
        write(b"ab")
        yield environ["wsgi.input"].read()

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(POST)
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.taken(2) == b"ab"
            await client.send("abcdef")
            assert await client.taken(6) == b"abcdef"

        scene.run(go)


def test_who_leaves_instead_of_sending() -> None:
    """
    The application, which reads, learns of it, and no thread is lost.
    """
    application = Reader()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(POST)
            await until(application.called.is_set)
            client.close()
            application.may_read.set()
            await until(lambda: not any(seat.job for seat in scene.host._backend.threads.seats))

        scene.run(go)


def test_continue_over_http2() -> None:
    """
    The same, for a stream.
    """
    application = Reader()
    with serving(application) as scene:

        async def go() -> None:
            browser = Browser(scene)
            number = browser.h2.get_next_available_stream_id()
            fields = [
                (":method", "POST"),
                (":path", "/"),
                (":scheme", "https"),
                (":authority", "a"),
                ("content-length", "6"),
                ("expect", "100-continue"),
            ]
            browser.h2.send_headers(number, fields)
            await browser.flush()
            await until(application.called.is_set)
            application.may_read.set()
            while browser.informed.get(number) != "100":
                await browser.more()
            browser.h2.send_data(number, b"abcdef", end_stream=True)
            await browser.flush()
            assert await browser.answer(number) == b"abcdef"
            browser.socket.close()

        scene.run(go)


HINTS = [("Link", "</style.css>; rel=preload; as=style"), ("Link", "</a.js>; rel=preload")]


class Hinting:
    """
    An application with early hints.
    """

    def __init__(self, hints: Any = HINTS, late: bool = False) -> None:
        self.hints = hints
        self.late = late
        self.go_on = threading.Event()
        self.problem: BaseException | None = None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """
        Say them, wait, answer.
        """
        if self.late:
            start_response("200 OK", [("Content-Length", "4")])(b"pa")
        try:
            environ["wsgi.early_hints"](self.hints)
        except (TypeError, ValueError) as problem:
            self.problem = problem
        if self.late:
            return [b"ge"]
        self.go_on.wait(10)
        start_response("200 OK", [])
        return [b"page"]


def test_early_hints_come_before_the_response() -> None:
    """
    At once, while the application is still at work.
    """
    application = Hinting()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            for _ in range(2):
                application.go_on.clear()
                await client.request()
                assert await client.head() == (
                    b"HTTP/1.1 103 Early Hints\r\n"
                    b"Link: </style.css>; rel=preload; as=style\r\n"
                    b"Link: </a.js>; rel=preload\r\n\r\n"
                )
                application.go_on.set()
                assert (await client.response()).body == b"page"

        scene.run(go)


def test_early_hints_over_http2() -> None:
    """
    The same, for a stream.
    """
    application = Hinting()
    with serving(application) as scene:

        async def go() -> None:
            browser = Browser(scene)
            number = await browser.ask("/")
            while browser.informed.get(number) != "103":
                await browser.more()
            application.go_on.set()
            assert await browser.answer(number) == b"page"
            browser.socket.close()

        scene.run(go)


def test_old_clients_get_no_hints() -> None:
    """
    HTTP/1.0 has no heads before the response.
    """
    application = Hinting()
    application.go_on.set()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send("GET / HTTP/1.0\r\n\r\n")
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.0 200 ")
            assert b"103" not in answer
            assert answer.endswith(b"page")

        scene.run(go)


def test_late_hints_are_dropped() -> None:
    """
    They would stand in the body.
    """
    with serving(Hinting(late=True)) as scene:

        async def go() -> None:
            client = scene.visit()
            assert (await client.ask()).body == b"page"

        scene.run(go)


@pytest.mark.parametrize(
    ("hints", "kind"),
    [
        ([("Link", "a\r\nSet-Cookie: b")], ValueError),
        ([("Link\r\n", "a")], ValueError),
        ([("Link", b"a")], TypeError),
        ([("Link",)], TypeError),
        ("Link", TypeError),
    ],
)
def test_hints_that_are_none_are_refused(hints: Any, kind: type[Exception]) -> None:
    """
    The application is told, the client gets its response.
    """
    application = Hinting(hints)
    application.go_on.set()
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            assert (await client.ask()).body == b"page"
            assert isinstance(application.problem, kind)

        scene.run(go)


def test_hints_have_nothing_that_frames() -> None:
    """
    Lengths and what is hop by hop are left out.
    """
    application = Hinting([("Content-Length", "5"), ("Connection", "close"), ("Link", "<a>")])
    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request()
            assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
            application.go_on.set()
            assert (await client.response()).body == b"page"

        scene.run(go)

"""
Responses, in all the ways that PEP 3333 knows, right and wrong.
"""

from __future__ import annotations

import gc
import socket
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import formatEvent

from stickyd.serve.wsgi.response import read_head
from tests.hosting import Client, logged, until
from tests.serve.wsgi.answering import OK, Application, Environ, StartResponse, answered, says
from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_list_has_a_length() -> None:
    """
    As all of it is known.
    """
    assert answered(says([b"ab", b"", b"c"])) == OK + b"Content-Length: 3\r\n\r\nabc"
    assert answered(says((b"abc",))) == OK + b"Content-Length: 3\r\n\r\nabc"
    assert answered(says([])) == OK + b"Content-Length: 0\r\n\r\n"


def test_an_iterable_is_chunked() -> None:
    """
    Each piece leaves as it is; an empty one is none.
    """
    assert answered(says(iter([b"ab", b"", b"c"]))) == CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert answered(says(iter([]))) == OK + b"Content-Length: 0\r\n\r\n"


def test_of_http_1_0_it_ends_with_the_connection() -> None:
    """
    It knows no chunks.
    """
    old = "GET / HTTP/1.0\r\n\r\n"
    assert answered(says(iter([b"ab", b"c"])), old) == b"HTTP/1.0 200 OK\r\n\r\nabc"
    assert answered(says([b"abc"]), old) == b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"


def test_a_length_is_kept() -> None:
    """
    That of the application.
    """
    length = ("Content-Length", "3")
    expected = OK + b"Content-Length: 3\r\n\r\nabc"
    assert answered(says(iter([b"ab", b"c"]), "200 OK", length)) == expected
    assert answered(says([b"abc"], "200 OK", length)) == expected


@pytest.mark.parametrize("make", [list, iter])
def test_too_much_is_not_sent(make: Callable[[Any], Any]) -> None:
    """
    The next response would begin with it; the log says so.
    """
    with logged() as events:
        answer = answered(says(make([b"abcd", b"ef"]), "200 OK", ("Content-Length", "3")))
    assert answer == OK + b"Content-Length: 3\r\n\r\nabc"
    assert "GET /: the response is longer than its Content-Length" in formatEvent(
        next(event for event in events if "longer" in str(event["log_format"]))
    )


@pytest.mark.parametrize("make", [list, iter])
def test_too_little_ends_the_connection(make: Callable[[Any], Any]) -> None:
    """
    The client must not take it for whole.
    """
    with logged() as events:
        answer = answered(says(make([b"a"]), "200 OK", ("Content-Length", "3")))
    assert answer == OK + b"Content-Length: 3\r\n\r\na"
    assert "by 2 bytes" in formatEvent(
        next(event for event in events if "shorter" in str(event["log_format"]))
    )


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_response_that_breaks_off_is_not_taken_for_whole(version: str) -> None:
    """
    Where its chunks say so it has its beginning, and no last one; else the connection is reset.
    """

    def pieces() -> Iterable[bytes]:
        yield b"abc"
        raise ValueError("no more")

    with logged():
        answer = answered(says(pieces()), f"GET / HTTP/{version}\r\nHost: a\r\n\r\n")
    if version == "1.1":
        assert answer == OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    else:
        assert answer.endswith(b"<reset>")


@pytest.mark.parametrize("pieces", [[], [b"x"], iter([b"x", b"y"])])
def test_head_has_no_body(pieces: Iterable[bytes]) -> None:
    """
    But the fields of a GET.
    """
    head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    expected = OK + b"Content-Length: 10\r\n\r\n"
    assert answered(says(pieces, "200 OK", ("Content-Length", "10")), head) == expected
    assert answered(says([b"x"]), head) == OK + b"\r\n"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("pieces", [[], [b"x"], iter([b"x", b"y"])])
def test_some_statuses_have_no_body(status: str, pieces: Iterable[bytes]) -> None:
    """
    Whatever the application says.
    """
    assert answered(says(pieces, status)) == b"HTTP/1.1 " + status.encode() + b"\r\n\r\n"
    with_length = answered(says([], status, ("Content-Length", "5")))
    assert (b"Content-Length" in with_length) == status.startswith("304")


def test_what_is_hop_by_hop_is_ours() -> None:
    """
    ``Connection: close`` is heard; of the others nothing is sent.
    """
    headers = [
        ("Connection", "x, Close"),
        ("Transfer-Encoding", "gzip"),
        ("Keep-Alive", "3"),
        ("Upgrade", "x"),
    ]
    twice = "GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2
    answer = answered(says([b"x"], "200 OK", *headers), twice)
    assert answer == OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx"


def test_server_and_date_may_be_the_applications() -> None:
    """
    And stand there once.
    """
    answer = answered(says([b""], "200 OK", ("SERVER", "mine"), ("Date", "today")))
    assert answer == OK + b"SERVER: mine\r\nDate: today\r\nContent-Length: 0\r\n\r\n"


def test_write() -> None:
    """
    What is written stands before what is returned.
    """

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"ab")
        write(b"")
        write(b"c")
        return [b"d", b"e"]

    assert answered(application) == CHUNKED + (
        b"2\r\nab\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n"
    )


def test_the_head_waits_for_the_first_piece() -> None:
    """
    Until then an error may change it all.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("X-First", "1")])
        yield b""
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oh", [("X-Second", "2")], sys.exc_info())
        yield b"oh"

    assert answered(application).startswith(b"HTTP/1.1 500 Oh\r\nX-Second: 2\r\nTransfer")


def test_afterwards_the_error_is_raised() -> None:
    """
    With the head out, ``exc_info`` is raised again, and the connection ends.
    """
    raised: list[BaseException] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"half"
        try:
            raise ValueError("boom")
        except ValueError:
            try:
                start_response("500 Oh", [], sys.exc_info())
            except ValueError as problem:
                raised.append(problem)
                raise

    with logged() as events:
        answer = answered(application)
    assert not answer.endswith(b"0\r\n\r\n")
    assert [str(problem) for problem in raised] == ["boom"]
    assert len([event for event in events if "log_failure" in event]) == 1


@pytest.mark.parametrize(
    ("application", "problem"),
    [
        (lambda environ, start_response: [], "start_response() was not called"),
        (lambda environ, start_response: [b"x"], "before start_response() was called"),
        (lambda environ, start_response: iter([b"x"]), "before start_response() was called"),
        (says(["text"]), "the body must be bytes, not str"),  # type: ignore[list-item]
        (says(iter(["text"])), "the body must be bytes, not str"),  # type: ignore[arg-type]
        (says(None), "'NoneType' object is not iterable"),  # type: ignore[arg-type]
        (says([], "OK"), "must be a number from 200 and a phrase, not 'OK'"),
        (says([], "100 Continue"), "must be a number from 200"),
        (says([], b"200 OK"), "the status must be str, not b'200 OK'"),  # type: ignore[arg-type]
        (says([], "200 a\r\nX: y"), "must be a number from 200 and a phrase"),
        (says([], "200 OK", ("X", "a\r\nY: b")), "it has an end of line in it"),
        (says([], "200 OK", ("X", "a\0")), "it has an end of line in it"),
        (says([], "200 OK", ("X y", "a")), "'X y' cannot be the name of a header"),
        (says([], "200 OK", ("X", "\u20ac")), "it must be Latin-1 (PEP 3333)"),
        (says([], "200 OK", ("X", 1)), "must be a pair of str, not ('X', 1)"),  # type: ignore[arg-type]
        (says([], "200 OK", (b"X", b"1")), "must be a pair of str"),  # type: ignore[arg-type]
        (says([], "200 OK", ("X",)), "must be a pair of str, not ('X',)"),  # type: ignore[arg-type]
        (says([], "200 OK", ("Content-Length", "-1")), "Content-Length cannot be '-1'"),
        (
            says([], "200 OK", ("Content-Length", "1"), ("Content-Length", "2")),
            "Content-Length cannot be 1 and 2",
        ),
        (says(1), "'int' object is not iterable"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_a_500_and_said(application: Application, problem: str) -> None:
    """
    To the application, by an exception, which is in the log if it does not catch it.
    """
    with logged() as events:
        answer = answered(application)
    assert answer == (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 26\r\n\r\n500 Internal Server Error\n"
    )
    (failure,) = [event["log_failure"] for event in events if "log_failure" in event]
    assert problem in failure.getErrorMessage()


def test_start_response_twice() -> None:
    """
    Only with ``exc_info``.
    """

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    with logged() as events:
        assert answered(application).startswith(b"HTTP/1.1 500 ")
    assert len([event for event in events if "log_failure" in event]) == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_ends_one_response_only(error: type[BaseException]) -> None:
    """
    The thread goes on.
    """

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/boom":
            raise error
        start_response("200 OK", [])
        return [b"ok"]

    with serving(application, threads=1) as scene, logged():

        async def go() -> None:
            client = scene.visit()
            for _ in range(3):
                assert (await client.ask("/boom")).status == 500
                assert (await client.ask()).body == b"ok"

        scene.run(go)


class Closing:
    """
    An iterable that is to be closed.
    """

    def __init__(self, pieces: Iterable[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("error", [None, ValueError("boom")])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_once(error: Exception | None, method: str) -> None:
    """
    Whether it was iterated to its end or not.
    """
    pieces = Closing([b"a", b"b"], error)
    with logged():
        answered(says(pieces), f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert pieces.closed == 1


def test_what_an_iterable_does_at_its_end_is_done() -> None:
    """
    Also when the response was complete before, by its length; and it keeps nobody waiting.
    """
    gate = threading.Event()
    done = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "1")])
        yield b"x"
        gate.wait()
        done.set()

    with serving(application) as scene:

        async def go() -> None:
            assert (await scene.visit().ask()).body == b"x"
            assert not done.is_set()
            gate.set()
            await until(done.is_set)

        scene.run(go)


def test_an_error_in_close_is_in_the_log() -> None:
    """
    The response is out by then.
    """

    class Bad(Closing):
        def close(self) -> None:
            raise ValueError("cannot close")

    with logged() as events:
        assert answered(says(Bad([b"a"]))).endswith(b"1\r\na\r\n0\r\n\r\n")
    (failure,) = [event["log_failure"] for event in events if "log_failure" in event]
    assert failure.getErrorMessage() == "cannot close"


@pytest.mark.parametrize("way", ["list", "iterable", "write"])
@pytest.mark.parametrize("told", [False, True], ids=["no length", "length"])
def test_a_large_piece_keeps_its_thread_until_most_is_taken(way: str, told: bool) -> None:
    """
    So no more of them are in the memory than there are threads, whoever does not read.
    """
    body = bytes(range(256)) * 40_000
    ended: list[str] = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            yield body

        def close(self) -> None:
            ended.append(way)

    class Whole(list[bytes]):
        close = Pieces.close

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", str(len(body)))] if told else [])
        if way != "write":
            return Whole([body]) if way == "list" else Pieces()
        try:
            write(body)
        finally:
            ended.append(way)
        return []

    with serving(application) as scene, logged() as events:

        async def go() -> None:
            client, leaving = scene.visit(), scene.visit()
            await leaving.request()
            await client.request()
            for each in (leaving, client):
                await each.head()
            assert not ended
            leaving.close()
            await until(lambda: ended)
            client.socket.shutdown(socket.SHUT_WR)
            rest = await client.rest()
            if told or way == "list":
                assert rest == body
            else:
                assert rest.count(body[:256]) > 39_000
                assert rest.endswith(b"\r\n0\r\n\r\n")
            await until(lambda: len(ended) == 2)

        scene.run(go)
    assert not events


def test_writing_after_the_client_has_left_raises() -> None:
    """
    An application that only writes would go on for ever.
    """
    raised: list[BaseException] = []
    gate = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"x")
        gate.wait()
        try:
            while True:
                write(b"x" * 1000)
        except ConnectionResetError as problem:
            raised.append(problem)
            raise

    with serving(application) as scene, logged() as events:

        async def go() -> None:
            client = scene.visit()
            await client.request()
            await client.head()
            client.close()
            gate.set()
            await until(lambda: raised)
            await until(lambda: scene.host.connections == 0)

        scene.run(go)
    assert not [event for event in events if "log_failure" in event]


def test_a_connection_that_is_lost_within_a_response_is_freed() -> None:
    """
    It does not wait for Python's garbage collector.
    """
    requests: list[weakref.ref[Any]] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        requests.append(weakref.ref(environ["wsgi.early_hints"].__self__))
        start_response("200 OK", [])
        while True:
            yield b"x" * 65536

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request()
            await client.head()
            client.close()
            await until(lambda: requests[0]() is None)

        gc.collect()
        gc.disable()
        try:
            scene.run(go)
        finally:
            gc.enable()


async def answers(client: Client, count: int) -> list[bytes]:
    """
    The bodies of the next responses.
    """
    return [(await client.response()).body for _ in range(count)]


def test_pipelined_requests_are_answered_in_turn() -> None:
    """
    However many threads there are.
    """

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        threading.Event().wait(0.02 if environ["PATH_INFO"] == "/0" else 0)
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(
                "".join(f"GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n" for number in range(20))
            )
            assert await answers(client, 20) == [b"/%d" % number for number in range(20)]

        scene.run(go)


def test_environ() -> None:
    """
    What a request says is where PEP 3333 wants it.
    """
    environs: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environs.append(environ)
        start_response("200 OK", [])
        return []

    with serving(application, root_path="/shop") as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(
                "GET /a%20b/%C3%A9//c?d=%41&e HTTP/1.1\r\nHost: Example.org:81\r\n"
                "Cookie: a=1\r\nCookie: b=2\r\nX-Two: 1\r\nx-two: 2\r\nX-Odd: \xe9\r\n\r\n".encode(
                    "latin-1"
                )
            )
            await client.response()
            await client.send("GET http://[::1]:90/x HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.response()
            environs[0]["REMOTE_ADDR"] = client.name[0]
            await client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.response()).status == 204

        scene.run(go)
    first, second = environs
    assert first["SCRIPT_NAME"] == "/shop"
    assert first["PATH_INFO"] == "/a b/\xc3\xa9//c"
    assert first["QUERY_STRING"] == "d=%41&e"
    assert first["REQUEST_URI"] == "/a%20b/%C3%A9//c?d=%41&e"
    assert first["HTTP_COOKIE"] == "a=1; b=2"
    assert first["HTTP_X_TWO"] == "1,2"
    assert first["HTTP_X_ODD"] == "\xe9"
    assert first["HTTP_HOST"] == "Example.org:81"
    assert first["SERVER_NAME"] == "Example.org"
    assert first["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert first["SERVER_SOFTWARE"].startswith("stickyd/")
    assert "CONTENT_LENGTH" not in first
    assert second["SERVER_NAME"] == "::1"
    assert second["HTTP_HOST"] == "[::1]:90"
    # What an application does to one environ is not in the next.
    assert "HTTP_COOKIE" not in second


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(_TEXTS, st.lists(st.tuples(_TEXTS, _TEXTS), max_size=4))
def test_nothing_splits_a_response(status: str, headers: list[tuple[str, str]]) -> None:
    """
    Either it is refused, or it makes just so many lines.
    """
    try:
        head = read_head(status, headers)
    except ValueError:
        return
    assert b"\r" not in head.reason
    assert b"\n" not in head.reason
    assert len(head.fields) <= len(headers)
    lines = b"".join(b"%b: %b\r\n" % field for field in head.fields)
    assert head.lines == lines
    for character in (b"\r", b"\n"):
        assert head.lines.count(character) == len(head.fields)
    assert b"\0" not in head.lines


_NAMES = st.sampled_from(["Content-Type", "X", "Set-Cookie", "content-length", "Connection"])
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6))
def test_fields_are_what_the_application_wrote(headers: list[tuple[str, str]]) -> None:
    """
    All but hop by hop, in its order.
    """
    try:
        head = read_head("200 OK", headers)
    except ValueError:
        return
    expected = [
        (name.encode(), value.encode("latin-1").strip(b" \t"))
        for name, value in headers
        if name not in ("Connection", "content-length")
    ]
    assert [field for field in head.fields if field[0] != b"content-length"] == expected

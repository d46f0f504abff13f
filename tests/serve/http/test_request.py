"""
Tests of the request: that it does what twisted.web's does, and no more than asked.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.web.http_headers import InvalidHeaderName
from twisted.web.server import NOT_DONE_YET

from stickyd.serve.http import Request
from tests.http_wire import GET, Wire, bodies
from tests.serve.http.pages import fails, plain, request_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def logged() -> Iterator[EventLoggingObserver]:
    """
    Collect what is logged.
    """
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


def test_nothing_is_made_unasked() -> None:
    """
    A plain request and response make no headers, cookies, arguments, content or Deferred.
    """
    requests = []

    def answer(request: Any) -> bytes:
        request.getHeader(b"host")
        request.setHeader(b"x", b"y")
        requests.append(request)
        return b""

    wire = Wire(answer)
    wire.feed(GET)
    made = vars(requests[0])
    for name in (
        *("requestHeaders", "responseHeaders", "received_cookies", "cookies", "args"),
        *("content", "notifications", "client", "host", "transport"),
    ):
        assert name not in made


def test_reason_cannot_split_the_response() -> None:
    """
    Line ends in a reason phrase become spaces, with simple heads and others.
    """

    def answer(request: Any) -> bytes:
        request.setResponseCode(200, b"a\r\nX: y")
        if request.path == b"/full":
            request.responseHeaders.addRawHeader(b"a", b"b")
        return b""

    wire = Wire(answer)
    for target in (b"/", b"/full"):
        wire.feed(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.output().startswith(b"HTTP/1.1 200 a X: y\r\nServer: ")


def test_field_names_are_checked() -> None:
    """
    A response field whose name is no token is refused as twisted.web refuses it.
    """
    errors = []

    def answer(request: Any) -> bytes:
        for name in (b"a b", "a\r\nb", b""):
            with pytest.raises(InvalidHeaderName) as caught:
                request.setHeader(name, b"x")
            errors.append(caught)
        return b""

    Wire(answer).feed(GET)
    assert len(errors) == 3


def test_late_failure_is_not_a_whole_response(logged: EventLoggingObserver) -> None:
    """
    An application that fails after it began to write gets no proper end: the connection
    is aborted, so that the client does not take half for the whole.
    """

    def answer(request: Any) -> bytes:
        request.write(b"half")
        raise ZeroDivisionError

    wire = Wire(answer)
    wire.feed(GET)
    assert b"0\r\n\r\n" not in wire.output()
    assert wire.transport.disconnected
    assert any("log_failure" in event for event in logged)


def test_failure_after_finish_is_only_logged(logged: EventLoggingObserver) -> None:
    """
    An application that fails after it finished does no harm to the connection.
    """

    def answer(request: Any) -> bytes:
        request.finish()
        raise ZeroDivisionError

    wire = Wire(answer)
    wire.feed(GET + GET)
    assert wire.output().count(b"HTTP/1.1 200 OK") == 2
    assert not wire.closing
    assert sum("log_failure" in event for event in logged) == 2


def test_failure_tells_no_details(logged: EventLoggingObserver) -> None:
    """
    An exception becomes a 500 that says nothing about it, and is logged.
    """
    wire = Wire(fails)
    wire.feed(GET)
    [(status, body)] = bodies(wire.output())
    assert status == 500
    assert b"secret" not in body
    assert b"ZeroDivision" not in body
    [event] = [event for event in logged if "log_failure" in event]
    assert "secret" in str(event["log_failure"].value)


def test_large_upload_is_on_disk() -> None:
    """
    The body of a large upload is a file, and closed when the request is done.
    """
    files = []

    def answer(request: Any) -> bytes:
        files.append(request.content)
        assert not isinstance(request.content, BytesIO)
        assert os.fstat(request.content.fileno()).st_size == 300000
        assert request.content.read() == b"x" * 300000
        return b"x"

    wire = Wire(answer)
    wire.feed(request_for(b"PUT /", b"Content-Length: 300000"))
    for _ in range(100):
        wire.feed(b"x" * 3000)
    assert bodies(wire.output()) == [(200, b"x")]
    assert files[0].closed


def test_upload_is_closed_when_the_connection_is_lost() -> None:
    """
    The file of an upload that never became whole is closed with the connection.
    """
    wire = Wire()
    wire.feed(request_for(b"PUT /", b"Content-Length: 300000", body=b"abc"))
    content = wire.channel.unanswered[0].content
    wire.lose()
    assert content.closed


def test_site_may_choose_the_content_file() -> None:
    """
    A site's ``getContentFile`` is asked for the file of a body, as by twisted.web.
    """
    lengths = []

    def get_content_file(length: int) -> BytesIO:
        lengths.append(length)
        return BytesIO()

    wire = Wire()
    wire.site.getContentFile = get_content_file  # type: ignore[attr-defined]  # twisted.web's hook
    wire.feed(request_for(b"PUT /", b"Content-Length: 3", body=b"abc"))
    assert bodies(wire.output()) == [(200, b"PUT / abc")]
    assert lengths == [3]


def test_session() -> None:
    """
    A session is found again by its cookie, and expires by the site's clock.
    """

    def answer(request: Any) -> bytes:
        session = request.getSession()
        session.hits = getattr(session, "hits", 0) + 1
        return b"%d" % session.hits

    wire = Wire(answer)
    wire.feed(GET)
    output = wire.output()
    cookie = output.partition(b"Set-Cookie: ")[2].partition(b";")[0]
    assert cookie.startswith(b"TWISTED_SESSION=")
    again = request_for(b"GET /", b"Cookie: " + cookie)
    wire.feed(again)
    output = wire.output()
    assert bodies(output) == [(200, b"2")]
    assert b"Set-Cookie" not in output
    wire.clock.advance(901)
    assert wire.site.sessions == {}


def test_information_outlives_the_request() -> None:
    """
    Addresses and headers can still be asked for when the request is done or lost.
    """
    requests: list[Any] = []

    def answer(request: Any) -> int:
        requests.append(request)
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    requests[0].finish()
    wire.feed(GET)
    wire.lose()
    for request in requests:
        assert request.getClientAddress() == wire.transport.getPeer()
        assert request.getHost() == wire.transport.getHost()
        assert request.getAllHeaders() == {b"host": b"a"}
        assert request.responseHeaders.hasHeader(b"date")
        assert not request.isSecure()


def test_notify_finish() -> None:
    """
    The Deferreds of ``notifyFinish`` fire when the response is done.
    """
    fired: list[object] = []

    def answer(request: Any) -> bytes:
        request.notifyFinish().addCallback(fired.append)
        request.notifyFinish().addCallback(fired.append)
        assert not fired
        return b""

    Wire(answer).feed(GET)
    assert fired == [None, None]


def test_overridden_write_and_finish_are_called() -> None:
    """
    A subclass's or an instance's own write() and finish() see what resources return.
    """
    seen: list[object] = []

    class Spy(Request):
        def write(self, data: bytes) -> None:
            seen.append(data)
            super().write(data)

        def finish(self) -> None:
            seen.append("finish")
            super().finish()

    wire = Wire(plain)
    wire.channel.requestFactory = Spy
    wire.feed(GET)
    assert seen == [b"plain", "finish"]

    def answer(request: Any) -> bytes:
        real = request.finish

        def finish() -> None:
            seen.append("patched")
            real()

        request.finish = finish
        return b""

    Wire(answer).feed(GET)
    assert seen[2:] == ["patched"]


def test_unregistered_producer_is_logged(logged: EventLoggingObserver) -> None:
    """
    A producer that is still registered when the request is finished is dropped and logged.
    """

    class Producer:
        def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
            """Produce nothing."""

    def answer(request: Any) -> int:
        request.registerProducer(Producer(), True)
        request.finish()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    assert not wire.closing
    assert any("log_failure" in event for event in logged)


def test_only_bytes_are_written() -> None:
    """
    Writing text is an error for the application, at the place where it does it.
    """
    errors = []

    def answer(request: Any) -> bytes:
        for target in (b"content-length", b"x"):
            request.setHeader(target, b"1")
            with pytest.raises(TypeError) as caught:
                request.write("text")
            errors.append(caught)
        request.write(bytearray(b"y"))
        return b""

    Wire(answer).feed(GET)
    assert len(errors) == 2


def test_state_to_copy() -> None:
    """
    A request can be copied to another process, with what had not been asked for yet.
    """

    def answer(request: Any) -> bytes:
        state = request.getStateToCopyFor(None)
        assert state["requestHeaders"] == [(b"Host", [b"a"])]
        assert state["content_data"] == b""
        assert not [name for name in state if name.startswith("_block")]
        return b""

    wire = Wire(answer)
    wire.feed(GET)
    assert bodies(wire.output()) == [(200, b"")]

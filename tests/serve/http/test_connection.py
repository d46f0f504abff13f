"""
One connection: the order of requests and answers, writes, and its end.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer, ITransport
from twisted.web.http import Request as StockRequest
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from stickyd.interfaces import IDetachable
from tests.http_wire import GET, Wire, WireTransport, bodies
from tests.serve.http.applications import Later

CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
COMMON = b"Server: test\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_interfaces() -> None:
    """
    The channel provides what transports, requests and the worker expect of it.
    """
    channel = Wire().channel
    for interface in (IProtocol, ITransport, IConsumer, IPushProducer, IDetachable):
        assert verifyObject(interface, channel)


def test_short_response_is_one_write() -> None:
    """
    A response that a resource returns as bytes leaves in one write, with its length.
    """
    wire = Wire(lambda request: b"hello")
    wire.feed(GET)
    assert wire.transport.writes == [
        b"HTTP/1.1 200 OK\r\n" + COMMON + b"Content-Length: 5\r\n"
        b"Content-Type: text/html\r\n\r\nhello"
    ]


def test_write_and_finish_is_one_write() -> None:
    """
    A response written with write() and finish() during render leaves in one write.
    """

    def answer(request: Any) -> int:
        request.write(b"hello")
        request.finish()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    assert wire.transport.writes == [
        b"HTTP/1.1 200 OK\r\n" + COMMON + b"Transfer-Encoding: chunked\r\n"
        b"Content-Type: text/html\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ]


def test_pipelined_responses_are_one_write() -> None:
    """
    Pipelined requests that are answered at once are answered in order, in one write.
    """
    wire = Wire()
    wire.feed(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
    assert len(wire.transport.writes) == 1
    assert bodies(wire.output()) == [(200, b"GET /%d " % n) for n in range(5)]


def test_pipelined_requests_wait_for_each_other() -> None:
    """
    The application sees a request only when the one before it is answered.
    """
    later = Later()
    wire = Wire(later)
    wire.feed(GET + GET)
    assert len(later.requests) == 1
    assert wire.output() == b""
    later.answer(b"first")
    assert bodies(wire.output()) == [(200, b"first")]
    assert len(later.requests) == 1
    later.answer(b"second")
    assert bodies(wire.output()) == [(200, b"second")]


def test_read_ahead_is_bounded() -> None:
    """
    While a request is being answered the connection is read up to the bound, then not
    until the answer is done.
    """
    later = Later()
    wire = Wire(later, read_ahead_bytes=100)
    wire.feed(GET)
    wire.feed(GET * 3)
    assert wire.transport.producerState == "producing"
    wire.feed(GET)
    assert wire.transport.producerState == "paused"
    later.answer()
    assert wire.transport.producerState == "producing"
    for _ in range(4):
        later.answer()
    assert len(bodies(wire.output())) == 5
    assert wire.channel.idle


def test_a_full_transport_stops_the_pipeline() -> None:
    """
    With a transport that is full no further pipelined request is served, and nothing is
    read, until it has room again.
    """
    seen = []

    def answer(request: Any) -> bytes:
        seen.append(request)
        return b"x" * 70000

    class Full(WireTransport):
        def write(self, data: bytes) -> None:
            super().write(data)
            assert self.producer is not None
            self.producer.pauseProducing()

    wire = Wire(answer, transport=Full())
    wire.feed(GET * 3)
    assert len(seen) == 1
    assert wire.transport.producerState == "paused"
    wire.channel.resumeProducing()
    assert len(seen) == 2
    assert wire.transport.producerState == "paused"
    wire.feed(b"GET /more HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(seen) == 2
    wire.channel.resumeProducing()
    wire.channel.resumeProducing()
    assert [request.uri for request in seen] == [b"/", b"/", b"/", b"/more"]
    wire.channel.resumeProducing()
    assert wire.transport.producerState == "producing"
    wire.feed(GET)
    assert wire.transport.producerState == "paused"


def test_pauses_between_requests_and_in_bodies() -> None:
    """
    A transport that is full is not read between two requests and during a body.
    """
    wire = Wire()
    for data in (GET, b"POST / HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 9\r\n\r\nabc"):
        wire.feed(data)
        wire.channel.pauseProducing()
        assert wire.transport.producerState == "paused"
        wire.channel.resumeProducing()
        assert wire.transport.producerState == "producing"
    wire.feed(b"defghi")
    assert [status for status, _ in bodies(wire.output())] == [200, 200]


def test_nothing_is_left_when_the_connection_is_lost() -> None:
    """
    Whatever a transport calls after the end, no delayed call stays behind.
    """
    wire = Wire(stall=10)
    wire.feed(GET)
    wire.lose()
    wire.channel.pauseProducing()
    wire.channel.abortConnection()
    wire.clock.pump([1] * 500)
    assert wire.clock.getDelayedCalls() == []


def test_a_late_answer_to_a_full_transport_stops_reading() -> None:
    """
    A client that sends request after request and reads no response is not read any more.
    """
    later = Later()
    wire = Wire(later)
    wire.feed(GET)
    wire.channel.pauseProducing()
    later.answer()
    assert wire.transport.producerState == "paused"
    wire.channel.resumeProducing()
    assert wire.transport.producerState == "producing"


@pytest.mark.parametrize(
    "head",
    [
        CLOSE,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_client_closes(head: bytes) -> None:
    """
    A client that says ``close`` gets it said back, and the connection closes.
    """
    wire = Wire()
    wire.feed(head)
    assert b"\r\nConnection: close\r\n" in wire.output()
    assert wire.transport.disconnecting


def test_application_closes() -> None:
    """
    An application that sets ``Connection: close`` has the connection closed.
    """

    def answer(request: Any) -> bytes:
        request.setHeader(b"connection", b"close")
        return b""

    wire = Wire(answer)
    wire.feed(GET)
    assert wire.output().count(b"Connection: close") == 1
    assert wire.transport.disconnecting


def test_http_1_0_closes() -> None:
    """
    HTTP/1.0 gets its own version back, no chunks, and the connection closes.
    """

    def answer(request: Any) -> int:
        request.write(b"hello")
        request.finish()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    output = wire.output()
    assert output.startswith(b"HTTP/1.0 200 OK\r\n")
    assert output.endswith(b"\r\n\r\nhello")
    assert wire.transport.disconnecting


def test_more_after_the_last_request_is_dropped() -> None:
    """
    Bytes after a request with ``Connection: close`` are dropped, and as they would make a
    reset of a plain close, ours is a half one.
    """
    wire = Wire()
    wire.feed(CLOSE + GET)
    assert len(bodies(wire.output())) == 1
    assert wire.transport.half_closed
    assert not wire.transport.disconnecting


def test_expect_continue() -> None:
    """
    A client that waits for ``100 Continue`` gets it before its body is read, and not if
    it did not wait.
    """
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
    wire = Wire()
    wire.feed(head)
    assert wire.output() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.feed(b"abc")
    assert bodies(wire.output()) == [(200, b"POST / abc")]
    wire.feed(head + b"abc")
    assert bodies(wire.output()) == [(200, b"POST / abc")]


def test_expect_continue_is_not_said_before_a_refusal() -> None:
    """
    A body that is too large is refused without having been asked for.
    """
    wire = Wire(body_bytes=2)
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert wire.output().startswith(b"HTTP/1.1 413 ")


def test_second_write_turns_off_delays() -> None:
    """
    Nagle's algorithm is turned off when a second write follows, and not before.
    """
    wire = Wire()
    wire.feed(GET)
    assert not wire.transport.no_delay
    wire.feed(GET)
    assert wire.transport.no_delay


def test_absolute_target_replaces_host() -> None:
    """
    The authority of an absolute target replaces ``Host``, for this request only.
    """
    seen = []

    def answer(request: Any) -> bytes:
        seen.append((request.uri, request.path, request.getAllHeaders()[b"host"]))
        body: bytes = request.content.read()
        return body

    wire = Wire(answer)
    fields = b" HTTP/1.1\r\nHost: b\r\n\r\n"
    wire.feed(b"GET http://a:81/x?y" + fields + b"GET /" + fields + b"GET HTTPS://c?z" + fields)
    wire.feed(b"OPTIONS http://d" + fields)
    wire.feed(b"PUT http://e/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET")
    assert seen == [
        (b"/x?y", b"/x", b"a:81"),
        (b"/", b"/", b"b"),
        (b"/?z", b"/", b"c"),
        (b"/", b"/", b"e"),
    ]
    assert bodies(wire.output()) == [(200, b"")] * 4 + [(200, b"GET")]


def test_asterisk_is_for_options() -> None:
    """
    The target ``*`` is answered for OPTIONS, and 405 for the rest.
    """
    wire = Wire()
    wire.feed(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [status for status, _ in bodies(wire.output())] == [200, 405]


def test_transport_without_producers() -> None:
    """
    A transport that is nothing but an ITransport serves too.
    """

    class Plain:
        def __init__(self) -> None:
            self.data = b""
            self.disconnecting = False

        def write(self, data: bytes) -> None:
            self.data += data

        def writeSequence(self, data: list[bytes]) -> None:  # noqa: N802 - Twisted's name
            self.write(b"".join(data))

        def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
            self.disconnecting = True

    transport = Plain()
    wire = Wire(lambda request: b"x" * 100000, transport=transport)
    wire.feed(GET)
    assert bodies(transport.data) == [(200, b"x" * 100000)]
    wire.feed(b"bad\r\n\r\n")
    assert transport.disconnecting


def test_foreign_requests() -> None:
    """
    A request class that knows nothing of ours is served as twisted.web serves it.
    """

    class Foreign(StockRequest):
        def process(self) -> None:
            content: Any = self.content
            body = content.read() + self.getCookie(b"c") + self.args[b"x"][0]
            self.setHeader(b"content-length", b"%d" % len(body))
            self.write(body)
            self.finish()

    wire = Wire()
    wire.channel.requestFactory = Foreign
    wire.feed(
        b"POST /?x=3 HTTP/1.1\r\nHost: a\r\nCookie: c=2\r\nContent-Length: 1\r\n\r\n1"
        b"GET /?x=6 HTTP/1.1\r\nHost: a\r\nCookie: c=5\r\nConnection: close\r\n\r\n"
    )
    output = wire.output()
    assert bodies(output) == [(200, b"123"), (200, b"56")]
    assert output.count(b"Connection: close") == 1
    assert wire.transport.disconnecting


def test_answer_before_the_body_is_here() -> None:
    """
    A request that answers before its body has come gets the rest of it dropped.
    """

    class Hasty(StockRequest):
        def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
            super().gotLength(length)
            self.clientproto = b"HTTP/1.1"

        def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
            self.setResponseCode(403)
            self.setHeader(b"content-length", b"0")
            self.finish()

    wire = Wire()
    wire.channel.requestFactory = Hasty
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    assert bodies(wire.output()) == [(403, b"")]
    wire.feed(b"def" + GET)
    assert wire.output() == b""
    assert wire.closing


def test_idle() -> None:
    """
    A connection is idle between requests, not during one, not with output unsent.
    """
    later = Later()
    wire: Any = Wire(later)
    assert wire.channel.idle
    wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert wire.channel.idle
    wire.feed(b"\r\n")
    assert not wire.channel.idle
    wire.transport.unsent = 7
    later.answer()
    assert not wire.channel.idle
    wire.transport.unsent = 0
    assert wire.channel.idle


def test_detach() -> None:
    """
    Detaching gives the socket and all bytes that were not consumed, and ends the channel.
    """
    wire = Wire()
    wire.feed(GET + b"GET / HT")
    wire.transport.unread = b"TP/1.1\r\n"
    sock, unread = wire.channel.detach()
    sock.close()
    assert sock is wire.transport.detached
    assert unread == b"GET / HTTP/1.1\r\n"
    assert wire.ended == [wire.channel]
    assert wire.transport.producer is None
    assert not wire.channel.idle
    wire.clock.pump([1] * 300)
    assert not wire.closing


def test_detach_needs_an_idle_connection() -> None:
    """
    Detaching in the middle of a request is an error and changes nothing.
    """
    later = Later()
    wire = Wire(later)
    wire.feed(GET)
    with pytest.raises(RuntimeError):
        wire.channel.detach()
    later.answer()
    assert bodies(wire.output()) == [(200, b"late")]


def test_connection_lost_during_a_request() -> None:
    """
    A request whose connection is lost is told, and cannot be finished.
    """
    failures: list[object] = []

    def answer(request: Any) -> int:
        request.notifyFinish().addErrback(failures.append)
        requests.append(request)
        return NOT_DONE_YET

    requests: list[Any] = []
    wire = Wire(answer)
    wire.feed(GET)
    wire.lose()
    assert len(failures) == 1
    [request] = requests
    request.write(b"nobody")
    with pytest.raises(RuntimeError):
        request.finish()
    assert wire.output() == b""


def test_only_the_answered_request_can_be_done() -> None:
    """
    A request that is not being answered cannot be done.
    """
    wire = Wire(Later())
    wire.feed(GET)
    with pytest.raises(TypeError):
        wire.channel.requestDone(object())
    assert len(wire.channel.unanswered) == 1


def test_losing_the_connection_in_a_response() -> None:
    """
    An application may close the connection in the middle of a response.
    """

    def answer(request: Any) -> int:
        request.write(b"half")
        request.loseConnection()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET + GET)
    assert wire.output().endswith(b"4\r\nhalf\r\n")
    assert wire.transport.disconnecting

"""
Tests of the channel: the order of requests, writes, ends, and giving connections away.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer, ITransport
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.web.http import Request as StockRequest
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from stickyd.interfaces import IDetachable
from stickyd.serve.http import Head
from tests.http_wire import GET, Wire, WireTransport, bodies, echo

_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_COMMON = b"Server: test\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


class Later:
    """
    Answers when it is told to.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> int:
        """
        Remember the request.
        """
        self.requests.append(request)
        return NOT_DONE_YET

    def answer(self, body: bytes = b"late") -> None:
        """
        Answer the oldest request.
        """
        request = self.requests.pop(0)
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()


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
        b"HTTP/1.1 200 OK\r\n" + _COMMON + b"Content-Length: 5\r\n"
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
        b"HTTP/1.1 200 OK\r\n" + _COMMON + b"Transfer-Encoding: chunked\r\n"
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
        _CLOSE,
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
    wire.feed(_CLOSE + GET)
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


# Giving connections away.


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
    ended: list[object] = []
    wire = Wire()
    wire.channel.ended = ended.append
    wire.feed(GET + b"GET / HT")
    wire.transport.unread = b"TP/1.1\r\n"
    sock, unread = wire.channel.detach()
    sock.close()
    assert sock is wire.transport.detached
    assert unread == b"GET / HTTP/1.1\r\n"
    assert ended == [wire.channel]
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


class Router:
    """
    Takes the connections whose requests ask for ``/away``.
    """

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.taken: list[tuple[socket.socket, bytes]] = []

    def __call__(self, head: Head, handoff: object) -> Any:
        """
        Look at a head.
        """
        self.heads.append(head)
        return self.take if head.target == b"/away" else None

    def take(self, sock: socket.socket, unread: bytes) -> None:
        """
        Take a connection.
        """
        sock.close()
        self.taken.append((sock, unread))


_AWAY = b"POST /away HTTP/1.1\r\nHOST: a\r\nX-Y: z\r\nContent-Length: 3\r\n\r\n"


def test_route_sees_heads() -> None:
    """
    The router sees each request once, with its fields, before the application does.
    """
    router = Router()
    wire = Wire(lambda request: b"%d" % len(router.heads), route=router)
    wire.feed_bytes(b"PUT /a?b HTTP/1.1\r\nHOST: a\r\nX-Y:  z\r\nContent-Length: 1\r\n\r\nx" + GET)
    assert bodies(wire.output()) == [(200, b"1"), (200, b"2")]
    head = router.heads[0]
    assert (head.method, head.target) == (b"PUT", b"/a?b")
    assert head.headers == [(b"host", b"a"), (b"x-y", b"z"), (b"content-length", b"1")]


@pytest.mark.parametrize("whole", [True, False])
def test_route_takes_the_connection(whole: bool) -> None:
    """
    A connection that the router takes leaves after the answers before it, with the bytes
    from the start of that request's head, and the application does not see the request.
    """
    router = Router()
    ended: list[object] = []
    wire = Wire(route=router)
    wire.channel.ended = ended.append
    wire.transport.unread = b"more"
    if whole:
        wire.feed(GET + GET + _AWAY + b"ab")
        expected = _AWAY + b"abmore"
    else:
        wire.feed_bytes(GET + GET + _AWAY)
        expected = _AWAY + b"more"
    assert bodies(wire.output()) == [(200, b"GET / ")] * 2
    assert router.taken == [(wire.transport.detached, expected)]
    assert ended == [wire.channel]
    assert wire.transport.producer is None


def test_route_waits_for_late_answers() -> None:
    """
    The router is asked about a pipelined request only when the one before is answered.
    """
    router = Router()
    later = Later()
    wire = Wire(later, route=router)
    wire.feed(GET + _AWAY)
    assert len(router.heads) == 1
    assert router.taken == []
    later.answer()
    assert [unread for _, unread in router.taken] == [_AWAY]


def test_route_waits_until_all_is_sent() -> None:
    """
    A taken connection leaves only when the transport has sent the answers before.
    """
    router = Router()
    wire = Wire(route=router)
    wire.transport.unsent = 9
    wire.feed(GET + _AWAY)
    assert router.taken == []
    assert not wire.channel.idle
    wire.feed(b"abc")
    wire.transport.unsent = 0
    assert not wire.transport.streaming
    wire.transport.producer.resumeProducing()
    assert [unread for _, unread in router.taken] == [_AWAY + b"abc"]


def test_route_needs_a_transport_that_detaches() -> None:
    """
    On a transport that cannot be detached the router is not asked.
    """
    router = Router()
    transport = StringTransport()
    wire = Wire(route=router, transport=transport)
    wire.feed(_AWAY + b"abc")
    assert bodies(transport.value()) == [(200, b"POST /away abc")]
    assert router.heads == []


# Drain.


def test_drain_closes_an_idle_connection() -> None:
    """
    Draining closes an idle connection at once.
    """
    wire = Wire()
    wire.feed(GET)
    wire.channel.drain()
    assert wire.transport.disconnecting


def test_drain_lets_a_response_finish() -> None:
    """
    Draining lets the response under way finish, which says that the connection closes;
    requests behind it are not served.
    """
    later = Later()
    wire: Any = Wire(later)
    wire.feed(GET + GET)
    wire.channel.drain()
    assert not wire.closing
    later.answer()
    output = wire.output()
    assert bodies(output) == [(200, b"late")]
    assert b"\r\nConnection: close\r\n" in output
    assert wire.closing
    assert later.requests == []


def test_drain_after_the_head_is_written() -> None:
    """
    A response whose head is out already is finished, then the connection closes.
    """
    later = Later()
    wire = Wire(later)
    wire.feed(GET)
    later.requests[0].write(b"a")
    wire.channel.drain()
    later.requests[0].finish()
    assert wire.output().endswith(b"1\r\na\r\n0\r\n\r\n")
    assert wire.transport.disconnecting


@pytest.mark.parametrize("part", [10, 45, 48])
def test_drain_lets_a_request_come(part: int) -> None:
    """
    A request that has begun to come when the drain begins is served, as the last one.
    """
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
    wire = Wire()
    wire.feed(request[:part])
    wire.channel.drain()
    assert not wire.closing
    wire.feed(request[part:])
    output = wire.output()
    assert bodies(output) == [(200, b"POST / abcde")]
    assert b"\r\nConnection: close\r\n" in output
    assert wire.transport.disconnecting


# Release.


def test_release_of_an_idle_connection() -> None:
    """
    An idle connection that is released leaves at once, with what came of the next head.
    """
    router = Router()
    wire = Wire()
    wire.feed(GET + b"GET /x HT")
    wire.transport.unread = b"TP"
    wire.channel.give_away(lambda _: True, router.take)
    assert [unread for _, unread in router.taken] == [b"GET /x HTTP"]


@pytest.mark.parametrize("unsent", [0, 5])
def test_release_after_the_response(unsent: int) -> None:
    """
    A released connection that is busy leaves after the response under way, when that is
    sent, without having to wait for the next request; a drain in between changes nothing.
    """
    router = Router()
    later = Later()
    wire = Wire(later)
    wire.feed(GET)
    wire.channel.give_away(lambda _: True, router.take)
    wire.channel.drain()
    assert wire.channel.busy
    wire.transport.unsent = unsent
    later.answer()
    assert len(router.taken) == (0 if unsent else 1)
    output = wire.output()
    assert bodies(output) == [(200, b"late")]
    assert b"Connection: close" not in output
    if unsent:
        wire.feed(b"GET")
        wire.transport.unsent = 0
        wire.transport.producer.resumeProducing()
        assert [unread for _, unread in router.taken] == [b"GET"]
    assert not wire.channel.busy


def test_release_in_a_body() -> None:
    """
    A connection that is released in the middle of a request's body leaves after the
    response to it.
    """
    router = Router()
    wire = Wire()
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
    wire.channel.give_away(lambda _: True, router.take)
    assert router.taken == []
    wire.feed(b"bc")
    assert bodies(wire.output()) == [(200, b"POST / abc")]
    assert len(router.taken) == 1


def test_release_takes_pipelined_requests_along() -> None:
    """
    Of pipelined requests a released connection answers the one under way; the rest goes.
    """
    router = Router()
    later = Later()
    wire = Wire(later)
    wire.feed(GET + _AWAY)
    wire.channel.give_away(lambda _: True, router.take)
    later.answer()
    assert bodies(wire.output()) == [(200, b"late")]
    assert [unread for _, unread in router.taken] == [_AWAY]


def test_release_of_what_cannot_leave() -> None:
    """
    On a transport that cannot be detached a release is a drain.
    """
    transport = StringTransport()
    wire = Wire(transport=transport)
    wire.channel.give_away(lambda _: True, Router().take)
    assert transport.disconnecting


# Upgrades.


class Reverse(Protocol):
    """
    Writes back in reverse what it receives.
    """

    reason: object = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """
        Reverse.
        """
        transport: Any = self.transport
        transport.write(data[::-1])

    def connectionLost(self, reason: object = None) -> None:  # noqa: N802 - Twisted's name
        """
        Remember why.
        """
        self.reason = reason


_UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: rev\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False])
def test_upgrade(at_once: bool) -> None:
    """
    After an upgrade the protocol gets all bytes, those that came with the request too,
    after the answer is written; and it is told when the connection is lost.
    """
    protocol = Reverse()
    failures: list[object] = []
    requests: list[Any] = []

    def upgrade() -> None:
        [request] = requests
        request.notifyFinish().addErrback(failures.append)
        transport = request.channel.transport
        request.channel._protocolUpgradeForWebsockets(protocol)
        transport.write(b"101\r\n")

    def answer(request: Any) -> int:
        requests.append(request)
        if at_once:
            upgrade()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(_UPGRADE + b"abc")
    if not at_once:
        upgrade()
        wire.clock.advance(0)
    assert wire.output() == b"101\r\ncba"
    assert wire.transport.producer is None
    wire.feed(b"def")
    assert wire.output() == b"fed"
    wire.clock.pump([1] * 1000)
    assert not wire.closing
    wire.channel.drain()
    assert not wire.closing
    wire.lose()
    assert protocol.reason is not None
    assert len(failures) == 1


def test_upgrade_offer_may_be_ignored() -> None:
    """
    An application that ignores the offer to upgrade answers as ever, and the connection
    goes on.
    """
    wire = Wire(echo)
    wire.feed(_UPGRADE + _UPGRADE)
    assert bodies(wire.output()) == [(200, b"GET / ")] * 2
    assert wire.channel.idle


def test_taken_transport() -> None:
    """
    What was written before somebody takes the transport leaves before what he writes.
    """

    def answer(request: Any) -> int:
        request.write(b"a")
        request.channel.transport.write(b"b")
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    assert wire.output().endswith(b"1\r\na\r\nb")


# Ends.


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
    assert len(wire.channel.requests) == 1


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

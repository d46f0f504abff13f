"""
One request, one answer: what every host executes is what was sent, wherever the stream is
cut, and whatever a client offers to speak instead.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyd.net.readiness import readiness_of
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.wsgi.host import WsgiHost
from stickyd.serve.wsgi.options import WsgiOptions
from tests.hosting import Visitors, a_loop, a_reactor, fired, run, some_turns
from tests.http_wire import Wire as ResourceWire
from tests.http_wire import bodies
from tests.serve.asgi.test_strict import Wire as AsgiWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What must never be executed: it stands in bodies only.
INNER = b"GET /admin HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n"

#: Offers, none of which anybody takes.
OFFERS = [
    b"",
    b"Connection: upgrade\r\nUpgrade: foo\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
    b"CONNECTION: UPGRADE\r\nUPGRADE: TLS/1.0, HTTP/2.0\r\n",
    b"Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: foo\r\n",
    b"Connection: upgrade\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\nSec-WebSocket-Version: 13\r\n",
    b"Connection: upgrade\r\nUpgrade: \r\n",
]

#: A handshake that is none with a body, or in a POST.
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@dataclass(frozen=True)
class Request:
    """
    A request as it was meant, and as it is sent.
    """

    method: bytes
    target: bytes
    fields: bytes
    body: bytes | None
    chunk: int

    @property
    def meant(self) -> tuple[bytes, bytes, bytes]:
        return self.method, self.target, self.body or b""

    @property
    def sent(self) -> bytes:
        head = b"%b %b HTTP/1.1\r\nHost: h\r\n%b" % (self.method, self.target, self.fields)
        body = self.body
        if body is None:
            return head + b"\r\n"
        if not self.chunk:
            return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        pieces = [body[at : at + self.chunk] for at in range(0, len(body), self.chunk)]
        chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return b"%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (head, chunks)


def requests_of(
    method: bytes, target: int, fields: bytes, body: bytes | None, chunk: int
) -> Request:
    """
    Make a request that is no WebSocket.
    """
    if fields is WEBSOCKET and not body:
        method = b"POST"
    return Request(method, b"/%d" % target, fields, body, chunk)


REQUESTS = st.builds(
    requests_of,
    st.sampled_from([b"GET", b"POST", b"PUT", b"BREW"]),
    st.integers(0, 99),
    st.sampled_from([*OFFERS, WEBSOCKET]),
    st.sampled_from([None, b"", b"x", INNER, INNER + INNER, b"\r\n\r\n" + INNER, b"0\r\n\r\n"]),
    st.sampled_from([0, 1, 7, 1000]),
)
STREAMS = st.lists(REQUESTS, min_size=1, max_size=5)
CUTS = st.lists(st.integers(0, 1500), max_size=20)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """
    Cut a stream into pieces, at least one.
    """
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """
    One loop for all examples.
    """
    with a_loop("asyncio") as loop:
        yield loop


class Executed:
    """
    An application of each kind that notes what it executes.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, bytes]] = []

    def resource(self, request: Any) -> bytes:
        self.requests.append((request.method, request.uri, request.content.read()))
        return b"ok"

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.requests.append((scope["method"].encode(), scope["raw_path"], body))
        fields = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"ok"})

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method.encode(), path.encode(), body))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def by_resource(loop: Any, pieces: list[bytes], executed: Executed) -> bytes:
    """
    Have a resource serve a stream.
    """
    wire = ResourceWire(executed.resource)
    for piece in pieces:
        wire.feed(piece)
    return wire.output()


def by_asgi(loop: Any, pieces: list[bytes], executed: Executed, route: Any = None) -> bytes:
    """
    Have an ASGI application serve a stream.
    """

    async def serve() -> bytes:
        wire = AsgiWire(loop)
        options = AsgiOptions(lifespan="off", limits=HTTPLimits())
        host = AsgiHost(executed.asgi, loop, options=options, route=route)
        wire.protocol = host._make_protocol(wire.protocol.handoff)
        wire.protocol.connection_made(wire.transport)
        for piece in pieces:
            if not wire.transport.closed:
                wire.protocol.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(10):
            await some_turns()
        output = wire.transport.output
        wire.protocol.connection_lost(None)
        return output

    return bytes(loop.run_until_complete(serve()))


def by_routed_asgi(loop: Any, pieces: list[bytes], executed: Executed) -> bytes:
    """
    The same where each head is looked at before: those, and no others.
    """
    targets: list[bytes] = []

    def route(head: Any, handoff: object) -> None:
        targets.append(head.target)

    output = by_asgi(loop, pieces, executed, route)
    assert targets == [target for _, target, _ in executed.requests]
    return output


HOSTS = [by_resource, by_asgi, by_routed_asgi]


@pytest.mark.parametrize("serve", HOSTS)
def test_what_is_executed_is_what_was_sent(serve: Callable[..., bytes], loop: Any) -> None:
    """
    Fault 1: bodies are bodies, also behind an offer of an upgrade; each request is executed
    once and answered once, however the stream is cut.
    """

    @settings(deadline=None, max_examples=60)
    @given(STREAMS, CUTS)
    def check(requests: list[Request], cuts: list[int]) -> None:
        executed = Executed()
        stream = b"".join(request.sent for request in requests)
        output = serve(loop, cut(stream, cuts), executed)
        assert executed.requests == [request.meant for request in requests]
        assert [status for status, _ in bodies(output)] == [200] * len(requests)

    check()


@pytest.mark.parametrize("serve", HOSTS)
def test_bytes_one_by_one(serve: Callable[..., bytes], loop: Any) -> None:
    """
    Fault 1, byte by byte: each offer, in front of a body that looks like a request.
    """
    for offer in [*OFFERS, WEBSOCKET]:
        for chunk in (0, 10):
            request = Request(b"POST", b"/p", offer, INNER, chunk)
            stream = request.sent * 2
            executed = Executed()
            serve(loop, [stream[at : at + 1] for at in range(len(stream))], executed)
            assert executed.requests == [request.meant] * 2, offer


DAMAGE = st.sampled_from([b"", b"\r\n", b"\n", b" ", b"\x00", b",", b"0"])
MUTATIONS = st.lists(st.tuples(st.integers(0, 1500), DAMAGE), max_size=2)


def test_hosts_agree_on_what_is_broken(loop: Any) -> None:
    """
    Faults 2 and 13: of a damaged stream all hosts execute the same requests and give the
    same statuses, wherever it is cut.
    """

    @settings(deadline=None, max_examples=100)
    @given(STREAMS, MUTATIONS, CUTS)
    def check(requests: list[Request], mutations: list[tuple[int, bytes]], cuts: list[int]) -> None:
        stream = b"".join(request.sent for request in requests)
        for at, what in mutations:
            stream = stream[:at] + what + stream[at + 1 :]
        outcomes = []
        for serve in (by_resource, by_asgi):
            for pieces in ([stream], cut(stream, cuts)):
                executed = Executed()
                answers = bodies(serve(loop, pieces, executed))
                outcomes.append((executed.requests, [status for status, _ in answers]))
        assert outcomes == outcomes[:1] * 4

    check()


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: \r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: \r\n",
    ],
)
@pytest.mark.parametrize("serve", HOSTS)
@pytest.mark.parametrize("pieces", [1, 1000])
def test_fault_13_several_lines_of_transfer_encoding(
    serve: Callable[..., bytes], fields: bytes, pieces: int, loop: Any
) -> None:
    """
    Fault 13: several lines are one list (RFC 9110, 5.3), in which nothing but ``chunked``
    alone may stand; and a request that is refused behind a good one gets its status.
    """
    good = b"GET /good HTTP/1.1\r\nHost: h\r\n\r\n"
    bad = b"POST /bad HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n0\r\n\r\n" + INNER
    stream = good + bad
    size = -(-len(stream) // pieces)
    executed = Executed()
    cuts = [stream[at : at + size] for at in range(0, len(stream), size)]
    statuses = [status for status, _ in bodies(serve(loop, cuts, executed))]
    assert statuses[0] == 200
    assert statuses[1] in (400, 501)
    assert len(statuses) == 2
    assert executed.requests == [(b"GET", b"/good", b"")]


def test_wsgi_executes_what_was_sent() -> None:
    """
    Fault 1, for WSGI: the body is the body, and one request has one answer.
    """
    executed, visitors = Executed(), Visitors()
    with a_reactor() as reactor:
        served = reactor._asyncioEventloop
        host = WsgiHost(
            executed.wsgi, reactor, readiness_of(reactor), WsgiOptions(), HTTPContext(reactor)
        )
        requests = [Request(b"POST", b"/p", offer, INNER, 0) for offer in [*OFFERS, WEBSOCKET]]

        async def go() -> None:
            await fired(host.start())
            client = visitors.visit(host)
            await client.send(b"".join(request.sent for request in requests))
            for _ in requests:
                assert (await client.response()).status == 200
            client.close()
            await fired(host.drain())
            await fired(host.stop())

        run(served, go())
        assert executed.requests == [request.meant for request in requests]

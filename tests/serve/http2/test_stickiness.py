"""
HTTP/2: who the client is, and whose its requests are.
"""

# mypy: allow-untyped-calls
# (h2's and Twisted's test tools are not annotated.)

from __future__ import annotations

from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    ResponseReceived,
)
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from stickyd.affinity.address import parse_ip_key
from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.release_desk import client_of
from stickyd.serve.stickiness import GenerationMarks, Stickiness
from tests.serve.http2.wire import GET, begun, frames, later


def test_session_is_carried_with_its_key() -> None:
    """
    ``getSession()`` gives a session of this worker, with the key of the connection, and a
    cookie that is sent over TLS alone.
    """

    def render(request: Any) -> bytes:
        session = request.getSession()
        assert session.live.key == b"key"
        return bytes(session.uid)

    wire = begun(render)
    first = wire.ask()
    cookie = dict(wire.told(ResponseReceived, first)[0].headers)["set-cookie"]
    assert "Secure" in cookie
    second = wire.ask([*GET, ("cookie", cookie.partition(";")[0])])
    assert wire.body(first) == wire.body(second)


def test_fault_10_stream_whose_session_has_left() -> None:
    """
    Fault 10: a stream that begins when its session has gone to another worker already is
    refused before it is begun, so the client makes it again, there; others are served.
    """
    wire = begun()
    registry = wire.site.session_registry
    session = wire.site.makeSession()
    registry.forward(lambda live: None)
    list(registry.export_batches())
    wire.client.send_headers(
        1, [*GET, ("cookie", f"TWISTED_SESSION={session.uid.decode()}")], end_stream=True
    )
    wire.feed(wire.client.data_to_send())
    refusal = RstStreamFrame(1, error_code=ErrorCodes.REFUSED_STREAM).serialize()
    assert refusal in wire.transport.value()
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, 2**31 - 1)]
    assert not wire.requests
    assert not wire.channel.streams


class Claims:
    """
    The primary's end of ids that are learnt.
    """

    def __init__(self) -> None:
        self.ids: list[bytes] = []
        self.known: Deferred[None] = Deferred()

    def __call__(self, identifiers: list[bytes]) -> Deferred[None]:
        self.ids += identifiers
        return self.known


def stickiness_of(*affinity: str, trust: tuple[str, ...] = ()) -> tuple[Stickiness, Claims]:
    """
    What slot 3 does to requests and responses.
    """
    claims = Claims()
    keys = parse_affinity(affinity, parse_ip_key)
    return Stickiness(keys, Signer([b"x" * 16]), lambda: 3, claims, Networks.parse(trust)), claims


def test_sticky_cookie() -> None:
    """
    A client without our cookie gets it, over TLS only, and no other once it sends it.
    """
    stickiness, _ = stickiness_of("cookie:stickyd", "ip")
    wire = begun(stickiness=stickiness)
    cookie = dict(wire.told(ResponseReceived, wire.ask())[0].headers)["set-cookie"]
    assert cookie.startswith("stickyd=3.")
    assert "; Secure" in cookie
    again = wire.ask([*GET, ("cookie", cookie.partition(";")[0])])
    assert "set-cookie" not in dict(wire.told(ResponseReceived, again)[0].headers)


def test_trusted_proxy_tells_the_client() -> None:
    """
    The application sees the client that a trusted proxy tells of.
    """

    def render(request: Any) -> bytes:
        return f"{request.getClientAddress().host} {request.isSecure()}".encode()

    stickiness, _ = stickiness_of("ip", trust=("192.168.1.1",))
    wire = begun(render, stickiness=stickiness)
    fields = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http")]
    assert wire.body(wire.ask([*GET, *fields])) == b"203.0.113.9 False"
    stranger = begun(render)
    assert stranger.body(stranger.ask([*GET, *fields])) == b"192.168.1.1 True"


@pytest.mark.parametrize("leaves", [False, True])
def test_minted_ids_wait_for_the_primary(leaves: bool) -> None:
    """
    A response that tells a new id leaves when the primary knows it, and whole; unless the
    client has gone by then.
    """

    def render(request: Any) -> Any:
        request.setHeader(b"X-Session", b"s1")
        request.write(b"first ")
        request.write(b"second")
        request.finish()
        return NOT_DONE_YET

    stickiness, claims = stickiness_of("learn:header:X-Session", "ip")
    wire = begun(render, stickiness=stickiness)
    stream = wire.ask()
    assert claims.ids
    assert not wire.told(ResponseReceived)
    if leaves:
        wire.client.reset_stream(stream)
        wire.exchange()
    failures: list[Failure] = []
    claims.known.callback(None)
    claims.known.addErrback(failures.append)
    wire.exchange()
    assert failures == []
    assert wire.body(stream) == (b"" if leaves else b"first second")
    assert not wire.closed


OTHER = [*GET[:-1], (":path", "/other")]


def route_of(*elsewhere: bytes) -> Any:
    """
    A route that gives requests for some targets away.
    """
    return lambda head, handoff: (lambda sock, unread: None) if head.target in elsewhere else None


def test_request_of_another_client_is_refused_unbegun() -> None:
    """
    The client is told first that the connection takes no more, so that it makes the request
    again on another; what is under way is answered.
    """
    wire = begun(later, route=route_of(b"/other"))
    wire.ask()
    wire.client.send_headers(3, OTHER, end_stream=True)
    wire.feed(wire.client.data_to_send())
    assert wire.goaways() == [(ErrorCodes.NO_ERROR, 2**31 - 1)]
    kinds = frames(wire.transport.value())
    refused = (RstStreamFrame.type, 3, ErrorCodes.REFUSED_STREAM.to_bytes(4, "big"))
    assert kinds.index(refused) > [kind for kind, _, _ in kinds].index(GoAwayFrame.type)
    assert len(wire.requests) == 1
    wire.transport.clear()
    wire.requests[0].write(b"whole")
    wire.requests[0].finish()
    wire.clock.advance(0)
    assert any(
        stream == 1 and b"whole" in body for _, stream, body in frames(wire.transport.value())
    )


def test_requests_of_a_proxy_are_served_and_told() -> None:
    """
    Whosever they are, as a proxy would not make them again; the log says so now and then.
    """
    stickiness, _ = stickiness_of("ip", trust=("127.0.0.1",))
    wire = begun(stickiness=stickiness, route=route_of(b"/other"))
    with capturedLogs() as events:
        for _ in range(3):
            assert wire.status(wire.ask(OTHER)) == "200"
    (line,) = [formatEvent(event) for event in events if "log_level" in event]
    assert "The proxy 127.0.0.1 sends requests of several clients" in str(line)
    assert not wire.told(ConnectionTerminated)


def test_requests_under_way_stay_their_clients() -> None:
    """
    Of several clients on one connection each request is its own client's until it ends; one that
    is served here though another worker knows its client is nobody's.
    """

    def route(head: Any, handoff: Any) -> Any:
        if head.target == b"/other":
            return lambda sock, unread: None
        handoff.key = handoff.client = head.target
        return None

    stickiness, _ = stickiness_of("ip", trust=("127.0.0.1",))
    wire = begun(later, stickiness=stickiness, route=route)
    for path in (b"/a", b"/b", b"/other"):
        wire.ask([*GET[:-1], (":path", path.decode())])
    seen = [(request.channel.handoff.client, client_of(request)) for request in wire.requests]
    assert seen == [(b"/a", b"/a"), (b"/b", b"/b"), (None, None)]
    assert [request.channel.handoff.identity for request in wire.requests[:2]] == [b"/a", b"/b"]


def test_a_newcomers_connection_is_its_clients() -> None:
    """
    Where workers keep the clients that they know, a newcomer is known by the token that its first
    response gives, and has an open connection; but who has made a request there since has it.
    """
    marks = GenerationMarks(lambda: 1, lambda client: b"t" + client)
    stickiness = Stickiness(
        *(parse_affinity("cookie:stickyd"), Signer([b"x" * 16]), lambda: 3, Claims()),
        Networks(),
        marks=marks,
    )

    def route(head: Any, handoff: Any) -> None:
        handoff.client = None if head.target == b"/p?q=1" else b"tother"

    wire = begun(later, stickiness=stickiness, route=route)
    brought = wire.channel.handoff
    assert brought is not None
    wire.ask()
    (first,) = wire.requests
    first.write(b"")
    wire.exchange()
    assert client_of(first) is not None
    assert brought.client == client_of(first)
    wire.ask()
    wire.ask(OTHER)
    wire.requests[1].write(b"")
    wire.exchange()
    assert client_of(wire.requests[1]) not in (None, b"tother")
    assert brought.client == b"tother"

"""
Responses that wait until the primary knows whose the ids in them are, and the rest of what
stickiness does in the channel.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.handoff.frame import Flag
from stickyd.serve.stickiness import Stickiness
from tests.http_wire import Wire, WireTransport, hold

SIGNER = Signer([b"a secret of some length"])
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Claims:
    """
    A primary that answers claims when the test says.
    """

    def __init__(self) -> None:
        self.answers: list[Deferred[None]] = []

    def __call__(self, identifiers: list[bytes]) -> Deferred[None]:
        self.answers.append(Deferred())
        return self.answers[-1]


def stickiness(entries: str, claims: Any = None, trust: str = "") -> Stickiness:
    """
    The stickiness of slot 0.
    """
    return Stickiness(
        parse_affinity(entries), SIGNER, lambda: 0, claims or Claims(), Networks.parse(trust)
    )


def mint(request: Any) -> bytes:
    """
    Answer with an id if the path is ``/mint``.
    """
    if request.path == b"/mint":
        request.setHeader(b"X-Id", b"abc")
    return b"<%b>" % request.path


MINT = b"GET /mint HTTP/1.1\r\nHost: h\r\n\r\n"


def test_response_waits_for_the_primary() -> None:
    """
    What mints an id leaves when it is claimed, whole and once.
    """
    claims = Claims()
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(MINT)
    assert wire.output() == b""
    claims.answers[0].callback(None)
    output = wire.output()
    assert output.count(b"X-Id: abc") == 1
    assert output.endswith(b"\r\n\r\n</mint>")


def test_order_is_kept_around_a_response_that_waits() -> None:
    """
    Answers before it have left, and requests behind it are served after it.
    """
    claims = Claims()
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(GET + MINT + GET + MINT + GET)
    assert wire.output().endswith(b"</>")
    claims.answers[0].callback(None)
    output = wire.output()
    assert output.index(b"</mint>") < output.index(b"</>")
    assert output.endswith(b"</>")
    assert len(claims.answers) == 2
    claims.answers[1].callback(None)
    assert wire.output().count(b"HTTP/1.1 200") == 2


def test_late_answer_waits_too() -> None:
    """
    It does not matter whether the application answers at once or later, in pieces.
    """
    claims, requests = Claims(), list[Any]()
    wire = Wire(hold(requests), stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(GET + GET)
    requests[0].setHeader(b"X-Id", b"abc")
    requests[0].write(b"one")
    requests[0].write(b"two")
    assert wire.output() == b""
    claims.answers[0].callback(None)
    assert wire.output().endswith(b"3\r\none\r\n3\r\ntwo\r\n")
    requests[0].finish()
    assert len(requests) == 2


def test_long_response_waits_too() -> None:
    """
    What waits is not sent for being much.
    """
    claims, requests = Claims(), list[Any]()
    wire = Wire(hold(requests), stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(GET)
    requests[0].setHeader(b"X-Id", b"abc")
    for _ in range(4):
        requests[0].write(b"x" * 50_000)
    assert wire.output() == b""
    claims.answers[0].callback(None)
    assert wire.output().count(b"x" * 50_000 + b"\r\n") == 4


def test_producer_waits_with_its_response() -> None:
    """
    A producer is paused while the head waits, or it would fill the memory.
    """
    claims, requests = Claims(), list[Any]()
    wire = Wire(hold(requests), stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(GET)

    class Producer:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def pauseProducing(self) -> None:  # noqa: N802 - IPushProducer's name
            self.calls.append("pause")

        def resumeProducing(self) -> None:  # noqa: N802 - IPushProducer's name
            self.calls.append("resume")

        def stopProducing(self) -> None:  # noqa: N802 - IPushProducer's name
            self.calls.append("stop")

    producer = Producer()
    requests[0].setHeader(b"X-Id", b"abc")
    requests[0].registerProducer(producer, True)
    requests[0].write(b"x")
    assert producer.calls == ["pause"]
    claims.answers[0].callback(None)
    assert producer.calls == ["pause", "resume"]


def test_connection_that_is_lost_meanwhile() -> None:
    """
    When the client has gone before the primary answers, nothing is written any more.
    """
    claims = Claims()
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(MINT)
    wire.lose()
    claims.answers[0].callback(None)
    assert wire.output() == b""


def test_last_response_of_a_connection_waits() -> None:
    """
    The connection is closed behind the response, not instead of it.
    """
    claims = Claims()
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(MINT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert not wire.closing
    claims.answers[0].callback(None)
    assert wire.output().endswith(b"</mint>")
    assert wire.closing


def test_claim_that_is_answered_at_once_holds_nothing() -> None:
    """
    If the primary has answered already, the response leaves as ever.
    """
    done: Deferred[None] = Deferred()
    done.callback(None)
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", lambda _: done))
    wire.feed(MINT + GET)
    assert wire.output().count(b"HTTP/1.1 200") == 2


def test_slow_primary_is_not_a_slow_client() -> None:
    """
    A response that waits is not cut off by the client's deadlines.
    """
    claims = Claims()
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", claims), idle=2.0, stall=2.0)
    wire.feed(MINT)
    wire.clock.pump([1.0] * 8)
    assert not wire.closing
    claims.answers[0].callback(None)
    assert wire.output().endswith(b"</mint>")


def test_cookie_in_both_kinds_of_heads() -> None:
    """
    The cookie stands in the short heads of simple responses, and in those that
    twisted.web makes, beside the application's own.
    """

    def answer(request: Any) -> Any:
        if request.path == b"/rich":
            request.addCookie(b"a", b"b")
        elif request.path == b"/late":
            request.write(b"x")
            request.finish()
            return NOT_DONE_YET
        return b"x"

    for path in (b"/", b"/rich", b"/late"):
        wire = Wire(answer, stickiness=stickiness("cookie:stickyd"))
        wire.feed(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
        output = wire.output()
        assert output.count(b"\r\nSet-Cookie: stickyd=0.") == 1
        assert output.count(b"Set-Cookie: a=b") == (path == b"/rich")


def test_cookie_is_looked_for_in_each_request() -> None:
    """
    A client that sends the cookie, even with the same bytes again and again, gets none;
    one behind it on the same connection does.
    """
    wire = Wire(stickiness=stickiness("cookie:stickyd"))
    known = GET[:-2] + b"Cookie: stickyd=%b\r\n\r\n" % SIGNER.mint(0).encode()
    for _ in range(3):
        wire.feed(known)
        assert b"Set-Cookie" not in wire.output()
    wire.feed(GET)
    assert b"Set-Cookie: stickyd=0." in wire.output()
    wire.feed(known)
    assert b"Set-Cookie" not in wire.output()


def test_each_request_is_received_anew() -> None:
    """
    What is known of one request says nothing of the next on the same connection.
    """
    seen: list[tuple[str, bool, bytes | None]] = []

    def answer(request: Any) -> bytes:
        client = request.getClientAddress()
        seen.append((client.host, request.isSecure(), request.getHeader(b"x-id")))
        return b"x"

    transport = WireTransport()
    peer = transport.getPeer().host
    wire = Wire(
        answer, stickiness=stickiness("stamp:X-Id", trust=f"{peer}/32"), transport=transport
    )
    stamped = SIGNER.stamp(b"abc", 3)
    told = b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Id: %b\r\n\r\n" % stamped
    wire.feed(GET[:-2] + told + GET)
    assert seen == [("192.0.2.9", True, b"abc"), (peer, False, None)]


def test_plain_end_of_a_tunnel_is_secure() -> None:
    """
    A connection whose TLS is elsewhere is as good as TLS.
    """
    seen: list[bool] = []

    def answer(request: Any) -> bytes:
        seen.append(request.isSecure())
        return b"x"

    wire = Wire(answer)
    wire.feed(GET)
    assert wire.channel.handoff is not None
    wire.channel.handoff.flags |= Flag.SECURE
    wire.feed(GET)
    assert seen == [False, True]


def test_fault_37_whole_response_waits_for_the_primary() -> None:
    """
    Fault 37: a client that shuts its side while its answer is complete but held gets it.
    """
    claims = Claims()
    wire = Wire(mint, stickiness=stickiness("learn:header:X-Id", claims))
    wire.feed(MINT)
    wire.channel.readConnectionLost()
    assert not wire.closing
    claims.answers[0].callback(None)
    assert wire.output().endswith(b"<%b>" % b"/mint")
    assert wire.closing

"""
Connections whose next request belongs to another worker.
"""

from __future__ import annotations

import re

import pytest
from twisted.internet.testing import StringTransport

from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.token import Signer
from stickyd.affinity.trust import Networks
from stickyd.serve.stickiness import GenerationMarks, Stickiness
from tests.http_wire import GET, Wire, bodies
from tests.serve.http.applications import AWAY, Later, Router


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
    wire = Wire(route=router)
    wire.transport.unread = b"more"
    if whole:
        wire.feed(GET + GET + AWAY + b"ab")
        expected = AWAY + b"abmore"
    else:
        wire.feed_bytes(GET + GET + AWAY)
        expected = AWAY + b"more"
    assert bodies(wire.output()) == [(200, b"GET / ")] * 2
    assert router.taken == [(wire.transport.detached, expected)]
    assert wire.ended == [wire.channel]
    assert wire.transport.producer is None


def test_route_waits_for_late_answers() -> None:
    """
    The router is asked about a pipelined request only when the one before is answered.
    """
    router = Router()
    later = Later()
    wire = Wire(later, route=router)
    wire.feed(GET + AWAY)
    assert len(router.heads) == 1
    assert router.taken == []
    later.answer()
    assert [unread for _, unread in router.taken] == [AWAY]


def test_route_waits_until_all_is_sent() -> None:
    """
    A taken connection leaves only when the transport has sent the answers before.
    """
    router = Router()
    wire = Wire(route=router)
    wire.transport.unsent = 9
    wire.feed(GET + AWAY)
    assert router.taken == []
    assert not wire.channel.idle
    wire.feed(b"abc")
    wire.transport.unsent = 0
    assert not wire.transport.streaming
    wire.transport.producer.resumeProducing()
    assert [unread for _, unread in router.taken] == [AWAY + b"abc"]


def test_route_needs_a_transport_that_detaches() -> None:
    """
    On a transport that cannot be detached the router is not asked.
    """
    router = Router()
    transport = StringTransport()
    wire = Wire(route=router, transport=transport)
    wire.feed(AWAY + b"abc")
    assert bodies(transport.value()) == [(200, b"POST /away abc")]
    assert router.heads == []


def test_a_newcomers_connection_is_its_clients() -> None:
    """
    Where workers keep the clients that they know, a newcomer is known by the token that its first
    response gives, and has an open connection.
    """
    marks = GenerationMarks(lambda: 1, lambda client: b"t" + client)
    stickiness = Stickiness(
        *(parse_affinity("cookie:stickyd"), Signer([b"x" * 16]), lambda: 3, lambda ids: None),
        Networks(),
        marks=marks,
    )
    wire = Wire(stickiness=stickiness)
    wire.feed(GET)
    (token,) = re.findall(rb"stickyd=[^.]*\.([^.]*)\.", wire.output())
    handoff = wire.channel.handoff
    assert handoff is not None
    assert handoff.client == b"t" + token

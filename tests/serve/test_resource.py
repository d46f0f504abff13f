"""
Tests of the host for resources.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IHost
from stickyd.net.readiness import readiness_of
from stickyd.serve.http import AccessLog, HTTPContext, HTTPLimits
from stickyd.serve.resource import ResourceHost
from tests.http_wire import GET, Answer, WireTransport, hold


def _host(
    answer: Any = None,
    limits: HTTPLimits | None = None,
    route: Any = None,
    access_log: Any = None,
) -> tuple[ResourceHost, Clock]:
    clock = Clock()
    context = HTTPContext(clock, limits, route)
    root = Answer(answer or (lambda request: b"x"))
    log = None if access_log is None else AccessLog(access_log, clock)
    return ResourceHost(root, readiness_of(reactor), context, access_log=log), clock


def _connect(host: ResourceHost, handoff: Any = None) -> tuple[Any, Any]:
    transport = WireTransport()
    channel = host.make_channel(handoff)
    channel.makeConnection(transport)
    return channel, transport


def test_interface() -> None:
    """
    The host is one.
    """
    assert verifyObject(IHost, _host()[0])


def test_connections_are_counted() -> None:
    """
    A connection counts from its making until it is lost or given away.
    """
    host, _ = _host()
    assert host.start().called
    first, _ = _connect(host)
    second, _ = _connect(host)
    assert host.connections == 2
    first.connectionLost(None)
    assert host.connections == 1
    sock, _ = second.detach()
    sock.close()
    assert host.connections == 0


def test_drain() -> None:
    """
    A drain closes idle connections, waits for the others, and fires when none is left.
    """
    requests: list[Any] = []
    host, _ = _host(hold(requests))
    idle, idle_transport = _connect(host)
    busy, busy_transport = _connect(host)
    busy.dataReceived(GET)
    fired: list[object] = []
    host.drain().addCallback(fired.append)
    assert idle_transport.disconnecting
    assert not busy_transport.disconnecting
    idle.connectionLost(None)
    assert fired == []
    requests[0].finish()
    assert b"Connection: close" in busy_transport.value()
    assert busy_transport.disconnecting
    busy.connectionLost(None)
    assert fired == [None]


def test_drain_of_nothing() -> None:
    """
    Without connections a drain is done at once.
    """
    fired: list[object] = []
    _host()[0].drain().addCallback(fired.append)
    assert fired == [None]


def test_abort() -> None:
    """
    Aborting ends every connection, whatever it is doing.
    """
    host, _ = _host(lambda request: NOT_DONE_YET)
    _, idle_transport = _connect(host)
    busy, busy_transport = _connect(host)
    busy.dataReceived(GET)
    host.abort()
    assert idle_transport.disconnected
    assert busy_transport.disconnected


def test_stop_releases_everything() -> None:
    """
    After the stop no delayed call is left, and the access log is written.
    """
    file = StringIO()
    host, clock = _host(access_log=file, limits=HTTPLimits(idle=5))
    channel, _ = _connect(host)
    channel.dataReceived(GET)
    channel.connectionLost(None)
    host.stop()
    assert clock.getDelayedCalls() == []
    assert '"GET / HTTP/1.1" 200 1 ' in file.getvalue()


def test_limits_and_route_are_used() -> None:
    """
    The host's connections keep its limits and ask its router.
    """
    heads = []
    host, clock = _host(limits=HTTPLimits(idle=5), route=lambda head, _: heads.append(head))
    channel, transport = _connect(host, Handoff(-1, "192.0.2.1", 1, b"key"))
    channel.dataReceived(GET)
    assert [head.target for head in heads] == [b"/"]
    clock.pump([1] * 8)
    assert transport.disconnecting


def test_one_timer_for_all() -> None:
    """
    Any number of connections takes one delayed call.
    """
    host, clock = _host()
    for _ in range(50):
        channel, _ = _connect(host)
        channel.dataReceived(GET)
    assert len(clock.getDelayedCalls()) == 1


def test_release() -> None:
    """
    Of the chosen connections the idle ones go at once and the busy ones after their
    response; it fires when no chosen request is under way, and the others stay.
    """
    requests: list[Any] = []
    host, _ = _host(hold(requests))
    going, staying = (Handoff(-1, "192.0.2.1", port, b"key") for port in (1, 2))
    channels = [_connect(host, handoff)[0] for handoff in (going, going, staying)]
    channels[1].dataReceived(GET)
    channels[2].dataReceived(GET)
    given: list[object] = []

    def give(sock: Any, unread: bytes, handoff: object) -> None:
        sock.close()
        given.append((unread, handoff))

    fired: list[object] = []
    host.give_away(lambda handoff: handoff is going, give).addCallback(fired.append)
    assert given == [(b"", going)]
    assert fired == []
    requests[0].finish()
    assert given == [(b"", going)] * 2
    assert fired == [None]
    assert host.connections == 1
    assert host.requests == 2


def test_fault_35_bodies_in_files_count_among_the_descriptors() -> None:
    """
    Fault 35: what lies in a file takes a descriptor, for as long as its request lasts.
    """
    host, _ = _host()
    channel, _ = _connect(host)
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
    assert (host.connections, host.descriptors) == (1, 1)
    channel.dataReceived(b"x" * 150_000)
    assert (host.connections, host.descriptors) == (1, 2)
    channel.dataReceived(b"x" * 50_000)
    assert (host.connections, host.descriptors) == (1, 1)

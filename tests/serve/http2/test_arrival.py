# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
An HTTP/2 connection whose first request has not come.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    SettingsAcknowledged,
)
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import capturedLogs, formatEvent

from stickyd.handoff.frame import MAX_UNREAD_BYTES, Flag, Handoff
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http2.arrival import HTTP2Arrival
from stickyd.serve.http2.begun import Begun

if TYPE_CHECKING:
    from stickyd.affinity.peek.http1 import Head

FIELDS = [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", "/")]


class Diverting(StringTransportWithDisconnection):
    """
    A TLS transport that can be taken out.
    """

    can_divert = True
    wrappedProtocol: Any = None  # noqa: N815 - Twisted's name
    aborts = 0

    def divert(self) -> socket.socket:
        """
        Give one end of a pair.
        """
        self.other, given = socket.socketpair()
        return given

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """
        Cut off.
        """
        self.aborts += 1


class Channel:
    """
    Stands for the channel that serves the connection.
    """

    def __init__(self, begun: Begun) -> None:
        self.begun = begun
        self.transport: Any = None
        self.drained = False

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Begin.
        """
        self.transport = transport

    def drain(self) -> None:
        """
        Finish.
        """
        self.drained = True


class Rig:
    """
    An arrival, its client, and a route whose answer the test decides.
    """

    def __init__(self, away: bool, **limits: Any) -> None:
        self.clock = Clock()
        self.heads: list[Head] = []
        self.taken: list[tuple[socket.socket, bytes]] = []
        self.channels: list[Channel] = []
        self.ended: list[Any] = []

        def route(head: Any, handoff: Handoff) -> Any:
            self.heads.append(head)
            return (lambda sock, unread: self.taken.append((sock, unread))) if away else None

        self.context = HTTPContext(self.clock, HTTPLimits(**limits), route)
        self.handoff = Handoff(-1, "192.0.2.1", 7, b"key")
        make = cast("Any", self._make_channel)
        self.arrival = HTTP2Arrival(self.context, self.handoff, make, self.ended.append)
        self.heard: list[Any] = []
        self.transport = Diverting()
        self.transport.protocol = self.arrival
        self.arrival.makeConnection(self.transport)
        self.client = H2Connection(H2Configuration())
        self.client.initiate_connection()

    def _make_channel(self, begun: Begun) -> Channel:
        self.channels.append(Channel(begun))
        return self.channels[-1]

    def request(self, *more: tuple[str, str]) -> bytes:
        """
        What the client says until its first request is out.
        """
        self.client.send_headers(1, [*FIELDS, *more], end_stream=False)
        data: bytes = self.client.data_to_send()
        return data

    def exchange(self, data: bytes = b"") -> list[Any]:
        """
        Carry this, and what the client has to say, there, and what is said back.

        :return: all that the client has heard.
        """
        self.arrival.dataReceived(data + self.client.data_to_send())
        self.heard += self.client.receive_data(self.transport.value())
        self.transport.clear()
        return self.heard

    def close(self) -> None:
        """
        Close what was given away.
        """
        self.transport.other.close()
        for sock, _ in self.taken:
            sock.close()
        self.context.deadlines.stop()


def test_fault_12_client_is_answered_before_its_first_request() -> None:
    """
    Fault 12: our settings come at once, and the client's and its PINGs are acknowledged,
    though it has no request yet.
    """
    rig = Rig(away=False)
    rig.exchange()
    rig.client.ping(b"12345678")
    heard = [type(event) for event in rig.exchange()]
    assert heard == [RemoteSettingsChanged, SettingsAcknowledged, PingAckReceived]
    assert not rig.heads
    rig.context.deadlines.stop()


def test_fault_12_nothing_is_answered_twice() -> None:
    """
    Fault 12: the owner of a connection that goes has its state without having said anything;
    then it answers as the first one would have.
    """
    rig = Rig(away=True)
    rig.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
    rig.client.ping(b"12345678")
    rig.exchange(rig.request())
    ((_, said),) = rig.taken
    begun = Begun.elsewhere(rig.context.limits, said)
    assert begun.conn.data_to_send() == b""
    assert begun.conn.remote_settings.initial_window_size == 100_000
    assert begun.conn.local_settings.max_header_list_size == (
        rig.arrival._conn.local_settings.max_header_list_size
    )
    assert [type(event) for event in begun.events].count(RequestReceived) == 1
    begun.conn.send_headers(1, [(":status", "204")], end_stream=True)
    rig.client.receive_data(begun.conn.data_to_send())
    rig.close()


@pytest.mark.parametrize("size", [1, 10_000])
def test_connection_stays(size: int) -> None:
    """
    The channel gets all that has come, and the transport; the host hears that there is one.
    """
    rig = Rig(away=False)
    data = rig.request()
    for start in range(0, len(data), size):
        assert not rig.channels
        rig.arrival.dataReceived(data[start : start + size])
    (channel,) = rig.channels
    assert [type(event) for event in channel.begun.events].count(RequestReceived) == 1
    assert channel.begun.conn is rig.arrival._conn
    assert rig.transport.wrappedProtocol is channel
    assert rig.ended == [rig.arrival]
    assert rig.heads[0].target == b"/"
    assert not channel.drained
    rig.context.deadlines.stop()


def test_connection_goes() -> None:
    """
    Its owner gets the plain text with all that has come, and is told what it is.
    """
    rig = Rig(away=True)
    data = rig.request()
    rig.arrival.dataReceived(data[:-3])
    assert not rig.taken
    rig.arrival.dataReceived(data[-3:])
    assert rig.taken[0][1] == data
    assert rig.handoff.flags == Flag.SECURE | Flag.HTTP2
    assert rig.ended == [rig.arrival]
    assert not rig.channels
    rig.close()


def test_too_much_to_be_handed_over_stays() -> None:
    """
    It is served here, and the log says so; the channel does not refuse what it must serve.
    """
    rig = Rig(away=True)
    data = rig.request()
    while len(data) <= MAX_UNREAD_BYTES:
        rig.client.ping(b"insisted")
        data += rig.client.data_to_send()
    with capturedLogs() as events:
        rig.arrival.dataReceived(data)
    assert "belongs elsewhere" in str(formatEvent(events[-1]))
    assert [type(e) for e in rig.channels[0].begun.events].count(RequestReceived) == 1
    assert rig.handoff.flags == Flag.PLACED
    rig.context.deadlines.stop()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ErrorCodes.PROTOCOL_ERROR),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30), ErrorCodes.PROTOCOL_ERROR),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\1\4\0\0\0\0\0x", ErrorCodes.FRAME_SIZE_ERROR),
    ],
)
def test_fault_12_nonsense_is_told(data: bytes, code: ErrorCodes) -> None:
    """
    Fault 12: what breaks the rules before the first request gets its GOAWAY too, and no more.
    """
    rig = Rig(away=True)
    rig.arrival.dataReceived(data)
    said = rig.transport.value()
    assert said.endswith(GoAwayFrame(0, error_code=code).serialize())
    assert not rig.transport.connected
    rig.arrival.dataReceived(data)
    assert rig.transport.value() == said
    assert not rig.heads
    assert not rig.channels
    rig.context.deadlines.stop()


def test_request_that_is_none_is_answered_here() -> None:
    """
    One that will be refused needs no tunnel to be so.
    """
    rig = Rig(away=True)
    rig.client.send_headers(1, [*FIELDS[:3], (":path", "/a b")])
    rig.exchange()
    assert not rig.heads
    assert rig.channels
    rig.context.deadlines.stop()


def test_client_that_leaves_before_its_first_request() -> None:
    """
    A GOAWAY of the client is answered with ours, and the end.
    """
    rig = Rig(away=False)
    rig.exchange()
    rig.client.close_connection()
    rig.exchange()
    assert not rig.transport.connected
    assert not rig.channels
    rig.context.deadlines.stop()


def test_silent_client_is_thrown_out() -> None:
    """
    After the time for idle connections, in good order; or else not.
    """
    rig = Rig(away=False, idle=10.0, stall=5.0)
    rig.transport.loseConnection = lambda: None  # type: ignore[method-assign]  # it takes its time
    rig.clock.pump([1.0] * 9)
    assert not rig.transport.value().endswith(GoAwayFrame(0).serialize())
    rig.clock.pump([1.0] * 4)
    assert rig.transport.value().endswith(GoAwayFrame(0).serialize())
    assert rig.transport.aborts == 0
    rig.clock.pump([1.0] * 7)
    assert rig.transport.aborts == 1
    rig.context.deadlines.stop()


def test_drain_grants_one_request() -> None:
    """
    Whoever has just come is answered once, if that is soon; and the channel finishes then.
    """
    rig = Rig(away=False)
    rig.arrival.give_away(None, None)
    rig.exchange(rig.request())
    assert rig.channels[0].drained
    late = Rig(away=False)
    late.arrival.drain()
    late.clock.pump([1.0] * 5)
    assert not late.transport.connected
    rig.context.deadlines.stop()
    late.context.deadlines.stop()


def test_client_who_leaves_is_forgotten() -> None:
    """
    The host hears of it, once.
    """
    rig = Rig(away=False)
    rig.transport.loseConnection()
    assert rig.ended == [rig.arrival]
    assert not rig.channels
    rig.context.deadlines.stop()

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
from h2.events import RemoteSettingsChanged, SettingsAcknowledged
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import capturedLogs, formatEvent

from stickyd.handoff.frame import MAX_UNREAD_BYTES, Flag, Handoff
from stickyd.serve.http.context import Shared
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http2.arrival import HTTP2Arrival

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

    came: Handoff | None = None

    def __init__(self) -> None:
        self.data = b""
        self.transport: Any = None
        self.drained = False

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Begin.
        """
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """
        Hear.
        """
        self.data += data

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

        def route(head: Any, came: Handoff) -> Any:
            self.heads.append(head)
            return (lambda sock, unread: self.taken.append((sock, unread))) if away else None

        self.shared = Shared(self.clock, HTTPLimits(**limits), route)
        self.arrival = HTTP2Arrival(self.shared, cast("Any", self._make_channel))
        self.came = self.arrival.came = Handoff(-1, "192.0.2.1", 7, b"key")
        self.arrival.ended = self.ended.append
        self.transport = Diverting()
        self.transport.protocol = self.arrival
        self.arrival.makeConnection(self.transport)
        self.client = H2Connection(H2Configuration())
        self.client.initiate_connection()

    def _make_channel(self) -> Channel:
        self.channels.append(Channel())
        return self.channels[-1]

    def request(self, *more: tuple[str, str]) -> bytes:
        """
        What the client says until its first request is out.
        """
        self.client.send_headers(1, [*FIELDS, *more], end_stream=False)
        data: bytes = self.client.data_to_send()
        return data

    def close(self) -> None:
        """
        Close what was given away.
        """
        self.transport.other.close()
        for sock, _ in self.taken:
            sock.close()
        self.shared.sweep.stop()


def test_client_is_not_kept_waiting_for_settings() -> None:
    """
    They come at once; nothing is acknowledged, as that is for the channel.
    """
    rig = Rig(away=False)
    rig.arrival.dataReceived(rig.client.data_to_send())
    heard = [type(event) for event in rig.client.receive_data(rig.transport.value())]
    assert RemoteSettingsChanged in heard
    assert SettingsAcknowledged not in heard
    assert not rig.heads
    rig.shared.sweep.stop()


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
    assert channel.data == data
    assert channel.came is rig.came
    assert rig.transport.wrappedProtocol is channel
    assert rig.ended == [rig.arrival]
    assert rig.heads[0].target == b"/"
    assert not channel.drained
    rig.shared.sweep.stop()


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
    assert rig.came.flags == Flag.SECURE | Flag.HTTP2
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
    assert rig.channels[0].data == data
    assert rig.came.flags == Flag.PLACED
    rig.shared.sweep.stop()


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30)]
)
def test_nonsense_is_answered_by_the_channel(data: bytes) -> None:
    """
    What is no HTTP/2 stays, to be told what is wrong.
    """
    rig = Rig(away=True)
    rig.arrival.dataReceived(data)
    assert rig.channels[0].data == data
    assert not rig.heads
    rig.shared.sweep.stop()


def test_silent_client_is_thrown_out() -> None:
    """
    After the time for idle connections.
    """
    rig = Rig(away=False, idle=10.0)
    rig.clock.pump([1.0] * 9)
    assert rig.transport.aborts == 0
    rig.clock.pump([1.0] * 4)
    assert rig.transport.aborts == 1
    rig.shared.sweep.stop()


def test_drain_grants_one_request() -> None:
    """
    Whoever has just come is answered once, if that is soon; and the channel finishes then.
    """
    rig = Rig(away=False)
    rig.arrival.release(None)
    rig.arrival.dataReceived(rig.request())
    assert rig.channels[0].drained
    late = Rig(away=False)
    late.arrival.drain()
    late.clock.pump([1.0] * 5)
    assert late.transport.aborts == 1
    rig.shared.sweep.stop()
    late.shared.sweep.stop()


def test_client_who_leaves_is_forgotten() -> None:
    """
    The host hears of it, once.
    """
    rig = Rig(away=False)
    rig.transport.loseConnection()
    assert rig.ended == [rig.arrival]
    assert not rig.channels
    rig.shared.sweep.stop()

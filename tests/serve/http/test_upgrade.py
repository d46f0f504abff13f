"""
Connections that a request upgrades to another protocol.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.web.server import NOT_DONE_YET

from tests.http_wire import GET, Wire, bodies, echo


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


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: rev\r\n\r\n"


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
    wire.feed(UPGRADE + b"abc")
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
    wire.feed(UPGRADE + UPGRADE)
    assert bodies(wire.output()) == [(200, b"GET / ")] * 2
    assert wire.channel.idle


def test_taken_transport() -> None:
    """
    What was written before somebody takes the transport leaves before what it writes.
    """

    def answer(request: Any) -> int:
        request.write(b"a")
        request.channel.transport.write(b"b")
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    assert wire.output().endswith(b"1\r\na\r\nb")

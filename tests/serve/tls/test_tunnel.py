"""
Tunnels between a client's TLS and the worker that owns its requests.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.protocol import Protocol

from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.tls.server import ServerTls
from stickyd.serve.tls.tunnel import Tunnel
from tests.channels import open_sockets
from tests.tls_harness import TlsClient, client_context, write_certificate
from tests.transport_harness import (
    LoopDrive,
    ReactorDrive,
    make_drive,
    socket_pair,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport_harness import Drive


class Diverting(Protocol):
    """
    Answers, and gives the connection away at the word ``away``.
    """

    transport: Any

    def __init__(self) -> None:
        self.owner: socket.socket | None = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        self.transport.write(b"<" + data + b">")
        if data.endswith(b"away"):
            self.transport.pauseProducing()
            self.owner = self.transport.divert()


class Rig:
    """
    A client whose TLS connection is given away at its word.
    """

    def __init__(self, drive: Drive, clock: Any, certificate: str) -> None:
        self.drive = drive
        self.ended: list[Tunnel] = []
        self.tunnels: list[Tunnel] = []
        ours, client, peer = socket_pair()
        self.protocol = Diverting()
        tls = ServerTls(clock, [certificate])
        transport = SocketTransport(drive.readiness, ours, peer)
        transport.start(tls.accept(lambda _: self.protocol, self._open_tunnel))
        self.client = TlsClient(drive, client, client_context())
        self.client.shake_hands()

    def _open_tunnel(self, tls: Any) -> socket.socket:
        tunnel = Tunnel(self.drive.readiness, tls, self.ended.append)
        self.tunnels.append(tunnel)
        return tunnel.open()

    def divert(self) -> socket.socket:
        """
        Have the connection given away.

        :return: what the owner gets.
        """
        self.client.send(b"away")
        assert self.client.read(6) == b"<away>"
        return self.owner

    @property
    def owner(self) -> socket.socket:
        """
        What the owner gets.
        """
        assert self.protocol.owner is not None
        return self.protocol.owner

    def heard(self, count: int) -> bytes:
        """
        Read what comes to the owner.
        """
        received = bytearray()

        def arrived() -> bool:
            # What the client could not send yet.
            self.client._pump()
            try:
                data = self.owner.recv(min(count - len(received), 65536))
            except BlockingIOError:
                return False
            received.extend(data)
            return not data or len(received) == count

        self.drive.until(arrived)
        return bytes(received)

    def close(self) -> None:
        """
        Close both sides, and see that the tunnel ends.
        """
        self.client.close()
        if self.protocol.owner is not None:
            self.protocol.owner.close()
        self.drive.until(lambda: len(self.ended) == len(self.tunnels))


@pytest.fixture(params=["uvloop", "epoll"])
def rig(request: Any, tmp_path: Path) -> Iterator[Rig]:
    """
    A client on each kind of loop; nothing is left open.
    """
    drive = make_drive(request.param)
    if isinstance(drive, ReactorDrive):
        clock: Any = drive.reactor
    else:
        assert isinstance(drive, LoopDrive)
        clock = AsyncioSelectorReactor(drive.loop)
    before = open_sockets()
    rig = Rig(drive, clock, write_certificate(tmp_path, "server", "localhost"))
    yield rig
    rig.close()
    drive.turns()
    assert open_sockets() == before
    if not isinstance(drive, ReactorDrive):
        clock.removeAll()
        clock.waker.connectionLost(None)
    drive.close()


def test_both_hear_each_other(rig: Rig) -> None:
    """
    After what the former protocol has said, the owner speaks with the client, who notices
    nothing.
    """
    rig.client.send(b"before")
    assert rig.client.read(8) == b"<before>"
    owner = rig.divert()
    assert not owner.getblocking()
    rig.client.send(b"question")
    assert rig.heard(8) == b"question"
    owner.send(b"answer")
    assert rig.client.read(6) == b"answer"


def test_what_came_behind_is_the_owners(rig: Rig) -> None:
    """
    What the client has sent in the same breath is not lost between the two.
    """
    rig.client.tls.write(b"away")
    rig.client.send(b"and more")
    assert rig.client.read(6) == b"<away>"
    assert rig.heard(8) == b"and more"


def test_slow_owner_slows_the_client_down(rig: Rig) -> None:
    """
    What the owner does not read waits with the client, and not in our memory.
    """
    rig.divert()
    piece = b"x" * 65536
    for _ in range(200):
        rig.client.send(piece)
        rig.drive.turn()
    assert rig.tunnels[0].plain.get_write_buffer_size() < 1_000_000
    assert len(rig.heard(len(piece) * 200)) == len(piece) * 200


def test_slow_client_slows_the_owner_down(rig: Rig) -> None:
    """
    The same the other way round.
    """
    owner = rig.divert()
    sent = 0
    for _ in range(400):
        try:
            sent += owner.send(b"x" * 65536)
        except BlockingIOError:
            pass
        rig.drive.turn()
    assert rig.tunnels[0].tls.transport.get_write_buffer_size() < 1_000_000
    with pytest.raises(BlockingIOError):
        owner.send(b"x" * 65536)
    assert len(rig.client.read(sent)) == sent


@pytest.mark.parametrize("how", ["close", "half"])
def test_owner_ends(how: str, rig: Rig) -> None:
    """
    What the owner has said arrives, and then the end of TLS, in good order; half an end is
    a whole one.
    """
    owner = rig.divert()
    owner.send(b"last")
    if how == "close":
        owner.close()
    else:
        owner.shutdown(socket.SHUT_WR)
    assert rig.client.read(100) == b"last"
    rig.drive.until(lambda: rig.ended == rig.tunnels)


def test_client_ends(rig: Rig) -> None:
    """
    What the client has said arrives at the owner, and then the end.
    """
    rig.divert()
    rig.client.send(b"last")
    rig.drive.turns()
    rig.client.close()
    assert rig.heard(100) == b"last"
    assert rig.ended == rig.tunnels


def test_client_that_asks_no_more_is_answered(rig: Rig) -> None:
    """
    A close_notify of the client reaches the owner as half an end: the owner still answers.
    """
    owner = rig.divert()
    rig.client.send(b"question")
    rig.client.end_output()
    assert rig.heard(100) == b"question"
    owner.send(b"answer")
    assert rig.client.read(6) == b"answer"
    owner.close()
    assert rig.client.read(1) == b""
    rig.drive.until(lambda: rig.ended == rig.tunnels)


def test_abort(rig: Rig) -> None:
    """
    A host that aborts cuts off both sides.
    """
    rig.divert()
    rig.tunnels[0].abortConnection()
    assert rig.heard(1) == b""
    assert rig.ended == rig.tunnels


def test_tunnel_is_a_connection_to_its_host(rig: Rig) -> None:
    """
    It has nothing to give away, and nothing to finish by itself.
    """
    rig.divert()
    tunnel = rig.tunnels[0]
    tunnel.give_away(lambda _: True, lambda *_: None)
    tunnel.drain()
    assert (tunnel.busy, tunnel.handoff, tunnel.say_goodbye(1012)) == (False, None, False)
    rig.client.send(b"still there")
    assert rig.heard(11) == b"still there"


def test_connection_that_nobody_tunnels(rig: Rig, tmp_path: Path) -> None:
    """
    Where there is no routing, a TLS connection cannot be given away.
    """
    tls = ServerTls(None, [write_certificate(tmp_path, "other")])  # type: ignore[arg-type]  # not asked
    assert not tls.accept(lambda _: rig.protocol).can_divert

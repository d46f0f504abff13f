"""
Fault 40: clients that take nothing of what is written to them.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from twisted.internet.error import ConnectionAborted

from stickyd.net.twisted_transport import SocketTransport
from tests.net.test_lingering_close import ClockedReadiness
from tests.transport_harness import EVERYTHING, Drive, Recorder, receive, socket_pair

pytest_plugins = ("tests.transport_fixtures",)

STALL_SECONDS = 10.0


@pytest.mark.parametrize("closing", [False, True])
def test_client_that_takes_nothing_is_cut_off(drive: Drive, closing: bool) -> None:
    """
    Whether or not the connection is being closed; one that takes something has its time anew.
    """
    readiness = ClockedReadiness(drive.readiness)
    server, client, peer = socket_pair()
    protocol = Recorder()
    transport = SocketTransport(readiness, server, peer, stall_seconds=STALL_SECONDS)
    transport.start(protocol)
    transport.write(bytes(30_000_000))
    if closing:
        transport.loseConnection()

    def left_bytes_after_a_read() -> int:
        with suppress(BlockingIOError):
            client.recv(65536)
        return transport.get_write_buffer_size()

    left_bytes = transport.get_write_buffer_size()
    for _ in range(3):
        while left_bytes_after_a_read() >= left_bytes:
            drive.turn()
        left_bytes = transport.get_write_buffer_size()
        readiness.clock.advance(STALL_SECONDS)
        assert not protocol.lost
    # What the kernel still takes for the client counts as taken.
    drive.turns()
    readiness.clock.advance(STALL_SECONDS)
    drive.turns()
    readiness.clock.advance(STALL_SECONDS)
    drive.until(lambda: protocol.lost)
    assert protocol.reason is ConnectionAborted
    assert not readiness.clock.getDelayedCalls()
    client.close()


def test_client_that_takes_all_leaves_no_timer(drive: Drive) -> None:
    """
    Nothing is watched when nothing waits.
    """
    readiness = ClockedReadiness(drive.readiness)
    server, client, peer = socket_pair()
    transport = SocketTransport(readiness, server, peer, stall_seconds=STALL_SECONDS)
    transport.start(Recorder())
    transport.write(bytes(5_000_000))
    assert readiness.clock.getDelayedCalls()
    transport.loseConnection()
    assert len(receive(drive, client, EVERYTHING)) == 5_000_000
    assert not readiness.clock.getDelayedCalls()
    client.close()

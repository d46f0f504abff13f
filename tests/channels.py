"""
Two ends of a handoff channel in one process, stepped by hand.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twisted.internet.task import Clock

from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.fd_passing import channel_pair
from stickyd.handoff.frame import Handoff
from stickyd.testing import FakeReadiness, FakeReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_sockets() -> set[int]:
    """
    The descriptors of this process that are sockets; the reactor's pipes come and go.
    """
    return {int(name) for name in os.listdir("/dev/fd") if _is_socket(int(name))}


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:  # the descriptor of the listing itself
        return False


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    """
    Let this process receive no descriptor more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class End:
    """
    One end: a channel and what it told its owner.
    """

    def __init__(self, sock: socket.socket, window: int) -> None:
        self.clock = Clock()
        self.readiness = FakeReadiness(self.clock)
        self.receiver = FakeReceiver()
        self.window = window
        self.socket = sock
        self.channel = HandoffChannel(
            self.readiness, self.clock, sock, self.receiver, lambda: self.window
        )

    def turn(self) -> bool:
        """
        One turn of a reactor.

        :return: whether there was something to do.
        """
        readers, writers = dict(self.readiness.readers), dict(self.readiness.writers)
        readable, writable, _ = select.select(list(readers), list(writers), [], 0)
        for descriptor in readable:
            readers[descriptor]()
        for descriptor in writable:
            writers[descriptor]()
        return bool(readable or writable)

    def die(self) -> None:
        """
        Close the socket as the end of a process would.
        """
        self.readiness.readers.clear()
        self.readiness.writers.clear()
        self.socket.close()

    def received(self) -> list[Handoff]:
        """
        What was received so far.
        """
        return self.receiver.handoffs("received")


class Pair:
    """
    A primary's end and a worker's end.
    """

    def __init__(self, window: int = 8) -> None:
        ours, theirs = channel_pair()
        self.primary = End(ours, window)
        self.worker = End(theirs, window)
        self.primary.channel.open()
        self.worker.channel.open()
        self.settle()

    def close(self) -> None:
        """
        Close every descriptor that either end holds.
        """
        for end in (self.primary, self.worker):
            if end.socket.fileno() >= 0:
                for handoff in end.channel.reclaim():
                    os.close(handoff.descriptor)
            for handoff in (*end.receiver.handoffs("returned"), *end.received()):
                os.close(handoff.descriptor)

    def settle(self) -> None:
        """
        Turn both reactors until nothing happens any more.
        """
        while self.primary.turn() | self.worker.turn():
            pass


def connection(name: str, host: str | None = None) -> tuple[Handoff, socket.socket]:
    """
    A handoff of one end of a new connection, and its other end, which is the client.

    :param host: the client's, where it is to be one: empty for a UNIX socket, as this is.
    """
    client, server = socket.socketpair()
    client.sendall(name.encode())
    return Handoff(server.detach(), name if host is None else host, 1, name.encode()), client

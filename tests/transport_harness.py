# ruff: noqa: N802 - the camelCase names are Twisted's
"""
What the transport tests share.

Real loops that are driven turn by turn, real sockets, and protocols that write down
what happens to them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import uvloop
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyd.interfaces import IReadiness
from stickyd.net.brief_watches import BriefWatches
from stickyd.net.readiness import ReactorReadiness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IAddress

PATIENCE = 10.0


@implementer(IReadiness)
class CountedReadiness:
    """
    Counts how often the loop is told about descriptors.
    """

    def __init__(self, real: IReadiness) -> None:
        self._real = real
        self.changes = 0

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        self.changes += 1
        self._real.add_reader(descriptor, callback)

    def remove_reader(self, descriptor: int) -> object:
        self.changes += 1
        return self._real.remove_reader(descriptor)

    def add_writer(self, descriptor: int, callback: Callable[[], object]) -> None:
        self.changes += 1
        self._real.add_writer(descriptor, callback)

    def remove_writer(self, descriptor: int) -> object:
        self.changes += 1
        return self._real.remove_writer(descriptor)

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> object:
        return self._real.call_soon(callback, *arguments)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        return self._real.call_later(delay, callback, *arguments)


class Drive:
    """
    A loop of the test's own, run only as far as the test says.
    """

    def __init__(self, readiness: IReadiness) -> None:
        self.readiness = CountedReadiness(readiness)

    def turn(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def until(self, condition: Callable[[], object]) -> None:
        """
        Run until something is true, or fail after PATIENCE seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            self.turn()

    def turns(self, count: int = 20) -> None:
        for _ in range(count):
            self.turn()


class LoopDrive(Drive):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(cast("IReadiness", loop))
        self.loop = loop

    def turn(self) -> None:
        self.loop.call_later(0.0005, self.loop.stop)
        self.loop.run_forever()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


class BriefDrive(LoopDrive):
    """
    A loop behind the watches that connections begin with.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.watches = BriefWatches(cast("IReadiness", loop))
        self.readiness = CountedReadiness(self.watches)

    def close(self) -> None:
        self.watches.close()
        super().close()


class ReactorDrive(Drive):
    def __init__(self) -> None:
        self.reactor = cast("Any", EPollReactor())  # Twisted's
        super().__init__(ReactorReadiness(self.reactor))

    def turn(self) -> None:
        self.reactor.runUntilCurrent()
        self.reactor.doIteration(0.0005)

    def close(self) -> None:
        self.reactor.waker.connectionLost(None)
        self.reactor._poller.close()


def make_drive(kind: str) -> Drive:
    """
    Make a loop of one of the DRIVES.
    """
    if kind == "epoll":
        return ReactorDrive()
    if kind == "uvloop":
        return LoopDrive(uvloop.new_event_loop())
    if kind == "brief":
        return BriefDrive(uvloop.new_event_loop())
    return LoopDrive(asyncio.new_event_loop())


DRIVES = ("asyncio", "uvloop", "brief", "epoll")


class CountingSocket(socket.socket):
    """
    Writes down the system calls that move data or end the connection.

    :ivar more: of each send, whether the kernel was told that more follows.
    """

    calls: list[str]
    more: list[bool]

    def recv(self, *arguments: Any) -> bytes:
        self.calls.append("recv")
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self.calls.append("send")
        self.more.append(socket.MSG_MORE in arguments[1:])
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self.calls.append("sendmsg")
        self.more.append(socket.MSG_MORE in arguments[1:])
        return super().sendmsg(*arguments)

    def shutdown(self, how: int) -> None:
        self.calls.append("shutdown")
        super().shutdown(how)

    def setsockopt(self, *arguments: Any) -> None:
        self.calls.append("setsockopt")
        super().setsockopt(*arguments)

    def close(self) -> None:
        self.calls.append("close")
        super().close()

    def detach(self) -> int:
        self.calls.append("close")  # what follows, by its number
        return super().detach()


def socket_pair(family: str = "tcp") -> tuple[CountingSocket, socket.socket, IAddress]:
    """
    Connect two sockets: the server's, non-blocking, the client's, and its address.
    """
    peer: IAddress
    if family == "unix":
        client, accepted = socket.socketpair()
        peer = UNIXAddress(None)
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, name = listener.accept()
        peer = IPv4Address("TCP", *name)
    client.settimeout(PATIENCE)
    server = CountingSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
    server.calls, server.more = [], []
    server.setblocking(False)
    return server, client, peer


def receive(drive: Drive, client: socket.socket, count: int) -> bytes:
    """
    Read bytes on the client's side while the loop runs; fewer if the server ends.
    """
    client.setblocking(False)
    received = bytearray()

    def arrived() -> bool:
        try:
            data = client.recv(min(count - len(received), 65536))
        except BlockingIOError:
            return False
        received.extend(data)
        return not data or len(received) == count

    drive.until(arrived)
    return bytes(received)


EVERYTHING = 1 << 40


class Recorder(Protocol):
    """
    Writes down what its transport tells it.

    :ivar inside: a call of ours is on the stack.
    """

    def __init__(self, on_data: Callable[[Recorder, bytes], object] | None = None) -> None:
        self.events: list[str] = []
        self.data = b""
        self.chunks: list[int] = []
        self.reasons: list[Failure] = []
        self.inside = False
        self._on_data = on_data

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        assert not self.inside
        self.data += data
        self.chunks.append(len(data))
        self.inside = True
        try:
            if self._on_data is not None:
                self._on_data(self, data)
        finally:
            self.inside = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert not self.inside
        self.events.append("lost")
        self.reasons.append(reason)

    @property
    def reason(self) -> type[BaseException] | None:
        """
        Tell the kind of error that connectionLost() was given, the one time.
        """
        (reason,) = self.reasons
        return reason.type

    @property
    def lost(self) -> bool:
        return bool(self.reasons)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        assert not self.inside
        self.events.append("write lost")


class Pausing(Recorder):
    """
    Pauses its transport as soon as it is connected.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        transport: Any = self.transport
        transport.pauseProducing()


class Push:
    """
    A push producer that counts its orders.
    """

    def __init__(self) -> None:
        self.orders: list[str] = []

    def pauseProducing(self) -> None:
        self.orders.append("pause")

    def resumeProducing(self) -> None:
        self.orders.append("resume")

    def stopProducing(self) -> None:
        self.orders.append("stop")


def answer_and_close(protocol: Recorder, data: bytes) -> None:
    """
    Answer in two writes, and close.
    """
    transport: Any = protocol.transport
    transport.write(b"head ")
    transport.write(b"body")
    transport.loseConnection()


def echo(protocol: Recorder, data: bytes) -> None:
    """
    Send everything back.
    """
    transport: Any = protocol.transport
    transport.write(data)


def reset(client: socket.socket) -> None:
    """
    Close the client's side with a reset.
    """
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def fill(client: socket.socket) -> int:
    """
    Send zeros until the kernel takes no more; tell how many it took.
    """
    client.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += client.send(bytes(65536))
    return sent


def open_descriptors() -> int:
    """
    Count this process's descriptors.
    """
    return len(os.listdir("/proc/self/fd"))


def settled_descriptors() -> int:
    """
    The same, once nothing is left that other tests have dropped.
    """
    gc.collect()
    return open_descriptors()


@contextmanager
def logged_failures() -> Iterator[list[Failure]]:
    """
    Collect the failures that are logged meanwhile.
    """
    failures: list[Failure] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    try:
        yield failures
    finally:
        globalLogPublisher.removeObserver(observe)

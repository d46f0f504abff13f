"""
What the tests of hosts share: real loops, real sockets, a client that speaks by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop
from twisted.internet.address import IPv4Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from stickyd.handoff.frame import Handoff
from tests.channels import open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from twisted.internet.defer import Deferred

    from stickyd.interfaces import IHost

PATIENCE = 60.0

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


@contextlib.contextmanager
def a_loop(kind: str = "uvloop") -> Iterator[asyncio.AbstractEventLoop]:
    """
    A loop of the test's own.
    """
    loop = LOOPS[kind]()
    asyncio.set_event_loop(loop)
    try:
        before = open_sockets()
        yield loop
        # Calls that are due, and what needs turns of the loop to end, as a close that lingers.
        loop.run_until_complete(asyncio.sleep(0.01))
        for _ in range(50):
            if open_sockets() <= before:
                break
            loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextlib.contextmanager
def a_reactor(kind: str = "uvloop") -> Iterator[Any]:
    """
    A Twisted reactor on a loop of the test's own; run the loop, not the reactor.
    """
    with a_loop(kind) as loop:
        reactor = AsyncioSelectorReactor(loop)
        yield reactor
        reactor.removeAll()
        reactor.waker.connectionLost(None)


def run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """
    Run a coroutine to its end, or fail after PATIENCE seconds.
    """
    return loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE))


async def fired(deferred: Deferred[Any]) -> Any:
    """
    Wait for a Deferred.
    """
    return await deferred.asFuture(asyncio.get_running_loop())


async def until(condition: Callable[[], object]) -> None:
    """
    Let the loop go on until something is true; the caller's patience bounds it.
    """
    while not condition():  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.001)


async def end_abruptly(host: IHost) -> None:
    """
    Abort what a host still has, and stop it.
    """
    drained = host.drain()
    host.abort()
    await fired(drained)
    await fired(host.stop())


async def some_turns() -> None:
    """
    Let the loop run what is due, without waiting for anything.
    """
    for _ in range(30):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Response:
    """
    A whole response.
    """

    status: int
    fields: dict[str, str]
    body: bytes


class Client:
    """
    The client's side of a connection.
    """

    def __init__(self, sock: socket.socket, handoff: Handoff) -> None:
        self.socket = sock
        self.handoff = handoff
        self._read = bytearray()  # bytes would be copied with each piece that comes

    @property
    def name(self) -> tuple[str, int]:
        """
        Our address.
        """
        host, port = self.socket.getsockname()
        return host, port

    async def send(self, data: bytes | str) -> None:
        """
        Send some bytes.
        """
        data = data.encode() if isinstance(data, str) else data
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def request(self, path: str = "/", *fields: str) -> None:
        """
        Send a request without a body.
        """
        head = [f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", ""]
        await self.send("\r\n".join(head))

    async def ask(self, path: str = "/", *fields: str) -> Response:
        """
        Send a request and read its response.
        """
        await self.request(path, *fields)
        return await self.response()

    async def more(self) -> bytes:
        """
        Read what comes next; nothing if the connection has ended.
        """
        data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        self._read += data
        return data

    async def taken(self, count: int) -> bytes:
        """
        Read exactly ``count`` bytes.
        """
        while len(self._read) < count:
            assert await self.more(), f"ended after {bytes(self._read[:200])!r}"
        taken = bytes(self._read[:count])
        del self._read[:count]
        return taken

    async def head(self) -> bytes:
        """
        Read to the end of a head, which is included.
        """
        while b"\r\n\r\n" not in self._read:
            assert await self.more(), f"ended after {bytes(self._read[:200])!r}"
        return await self.taken(self._read.index(b"\r\n\r\n") + 4)

    async def response(self) -> Response:
        """
        Read a whole response that tells its length.
        """
        status, *lines = (await self.head()).decode().split("\r\n")
        fields = {}
        for line in lines[:-2]:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        body = await self.taken(int(fields.get("content-length", "0")))
        return Response(int(status.split()[1]), fields, body)

    async def rest(self) -> bytes:
        """
        Read to the end of the connection.
        """
        try:
            while await self.more():
                pass
        except ConnectionResetError:
            self._read += b"<reset>"
        rest = bytes(self._read)
        self._read.clear()
        return rest

    def close(self) -> None:
        """
        Close our side.
        """
        self.socket.close()


class Visitors:
    """
    Makes clients, and closes them in the end.
    """

    def __init__(self) -> None:
        self._clients: list[Client] = []

    def visit(self, host: IHost, unread: bytes = b"", key: bytes = b"k") -> Client:
        """
        Have a host adopt a new connection.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, (name, port) = listener.accept()
        ours.setblocking(False)
        theirs.setblocking(False)
        handoff = Handoff(theirs.fileno(), name, port, key, unread)
        client = Client(ours, handoff)
        self._clients.append(client)
        host.adopt(theirs, IPv4Address("TCP", name, port), handoff)
        return client

    def close(self) -> None:
        """
        Close what is open.
        """
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """
    Collect what twisted.logger is given inside the ``with``.
    """
    events: list[dict[str, Any]] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observe)

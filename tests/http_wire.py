"""
A wire for the HTTP tests: a channel on a transport in memory.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from stickyd.handoff.frame import Handoff
from stickyd.serve.http import HTTPChannel, HTTPContext, HTTPLimits, HTTPSite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DATE = 784111777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class WireTransport(StringTransport):
    """
    A transport in memory that can also be half-closed, detached and filled.

    :ivar writes: each write on its own.
    :ivar unsent: how many bytes it claims not to have sent yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.unsent = 0
        self.half_closed = False
        self.no_delay = False
        self.detached: socket.socket | None = None
        self.unread = b""

    @override
    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)

    @override
    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    @override
    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        if not streaming:
            producer.resumeProducing()  # as real transports do

    def loseWriteConnection(self) -> None:  # noqa: N802 - IHalfCloseableDescriptor's name
        """
        Half-close.
        """
        self.half_closed = True

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802 - ITCPTransport's name
        """
        Note whether Nagle's algorithm is off.
        """
        self.no_delay = enabled

    def get_write_buffer_size(self) -> int:
        """
        Tell how many bytes are not sent.
        """
        return self.unsent

    def detach(self) -> tuple[socket.socket, bytes]:
        """
        Leave the connection: give its socket, which the test closes, and the unread bytes.
        """
        if self.unsent or self.producer is not None:
            raise RuntimeError("not now")
        self.detached = socket.socket()
        return self.detached, self.unread


class Answer(Resource):
    """
    Answers every method at every path with what a function returns.
    """

    isLeaf = True

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self._function = function

    @override
    def render(self, request: Any) -> Any:
        return self._function(request)


def echo(request: Any) -> bytes:
    """
    Answer with method, target and body.
    """
    body: bytes = request.content.read()
    return b"%b %b %b" % (request.method, request.uri, body)


def hold(requests: list[Any]) -> Callable[[Any], int]:
    """
    Make an answer that puts the request into a list; the test finishes it.
    """

    def answer(request: Any) -> int:
        requests.append(request)
        return NOT_DONE_YET

    return answer


def note(requests: list[Any]) -> Callable[[Any], bytes]:
    """
    Make an empty answer that also puts the request into a list.
    """

    def answer(request: Any) -> bytes:
        requests.append(request)
        return b""

    return answer


class Wire:
    """
    One connection to a resource.
    """

    def __init__(
        self,
        answer: Any = echo,
        clock: Clock | None = None,
        route: Any = None,
        transport: Any = None,
        stickiness: Any = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        root = answer if IResource.providedBy(answer) else Answer(answer)
        context = HTTPContext(
            self.clock, HTTPLimits(**limits), route, lambda: DATE, b"test", stickiness
        )
        self.site = HTTPSite(root, context)
        self.ended: list[HTTPChannel] = []
        self.channel: HTTPChannel = self.site.make_channel(
            Handoff(-1, "192.0.2.1", 1, b"key"), self.ended.append
        )
        self.transport: Any = WireTransport() if transport is None else transport
        self.channel.makeConnection(self.transport)

    def feed(self, data: bytes) -> None:
        """
        Let the client send something.
        """
        self.channel.dataReceived(data)

    def feed_bytes(self, data: bytes) -> None:
        """
        Let the client send something byte by byte, as long as the connection is read.
        """
        for index in range(len(data)):
            if not self.closing:
                self.channel.dataReceived(data[index : index + 1])

    def lose(self) -> None:
        """
        End the connection.
        """
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def closing(self) -> bool:
        """
        Whether our side has been closed.
        """
        return bool(self.transport.half_closed or self.transport.disconnecting)

    def output(self) -> bytes:
        """
        Take what was written so far.
        """
        value: bytes = self.transport.value()
        self.transport.clear()
        self.transport.writes.clear()
        return value


def bodies(output: bytes) -> list[tuple[int, bytes]]:
    """
    Take responses with a ``Content-Length`` apart.

    :return: status and body of each.
    """
    found = []
    while output:
        head, _, output = output.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        length = int(fields[b"content-length"])
        assert len(output) >= length, output
        found.append((int(lines[0].split(b" ")[1]), output[:length]))
        output = output[length:]
    return found

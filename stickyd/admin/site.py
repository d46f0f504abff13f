"""
The HTTP server of the admin endpoint: twisted.web, with bounds that a stranger cannot stretch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.web.http import HTTPChannel
from twisted.web.server import Request, Site
from typing_extensions import override

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.resource import IResource

#: How many connections there may be; past it the oldest that is no event stream makes room.
MOST_CONNECTIONS = 512

#: How many event streams there may be; past it 503.
MOST_STREAMS = 256

#: Seconds that a connection may last which is no event stream.
CONNECTION_SECONDS = 60.0

#: Of a request.
MOST_BODY_BYTES = 16_384


class AdminRequest(Request):
    """
    A request with a small body.
    """

    @override
    def gotLength(self, length: int | None) -> None:
        if length is None or length > MOST_BODY_BYTES:
            self.channel._respondToBadRequestAndDisconnect()
            length = 0
            self._refused = True
        super().gotLength(length)

    _refused = False

    @override
    def handleContentChunk(self, data: bytes) -> None:
        if not self._refused:
            super().handleContentChunk(data)

    @override
    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)


class AdminChannel(HTTPChannel):
    """
    A connection that is cut off when its time is over.
    """

    requestFactory = AdminRequest  # noqa: N815 - Twisted's name

    @override
    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.opened(self)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.closed(self)
        super().connectionLost(reason)

    def cut(self) -> None:
        """
        End the connection, whatever it is doing.
        """
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


class AdminSite(Site):
    """
    Serves a tree of resources on few connections.

    :ivar streams: how many of them are event streams.
    """

    noisy = False
    displayTracebacks = False  # noqa: N815 - Twisted's name

    def __init__(self, root: IResource, clock: IReactorTime) -> None:
        super().__init__(root, AdminRequest, timeout=30, reactor=clock)
        self._clock = clock
        self._open: OrderedDict[Any, Any] = OrderedDict()
        self.streams = 0

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:
        channel: Any = AdminChannel()
        channel.site = self
        channel.factory = self
        channel.timeOut = self.timeOut
        channel.callLater = self._clock.callLater
        return channel

    def opened(self, channel: AdminChannel) -> None:
        """
        Count a connection.
        """
        if len(self._open) >= MOST_CONNECTIONS:
            next(iter(self._open)).cut()
        self._open[channel] = self._clock.callLater(CONNECTION_SECONDS, channel.cut)

    def closed(self, channel: AdminChannel) -> None:
        """
        Count it no longer.
        """
        overdue = self._open.pop(channel, None)
        if overdue is not None and overdue.active():
            overdue.cancel()

    def stream(self, channel: Any) -> bool:
        """
        Let a connection last, as it is an event stream.

        :return: whether there is room for one more.
        """
        if self.streams >= MOST_STREAMS:
            return False
        self.streams += 1
        self.closed(channel)
        return True

    def stream_ended(self) -> None:
        """
        One event stream has ended.
        """
        self.streams -= 1

    @override
    def log(self, request: Any) -> None:
        """
        Nobody reads of each scrape.
        """

    @override
    def startFactory(self) -> None:
        """
        No log is opened.
        """

    @override
    def stopFactory(self) -> None:
        """
        None is closed.
        """

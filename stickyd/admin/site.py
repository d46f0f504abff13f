"""
The HTTP server of the admin endpoint: few connections, none of which lasts for long.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twisted.web.server import Site
from typing_extensions import override

from stickyd.admin.channel import AdminChannel
from stickyd.net.descriptors import share_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.web.resource import IResource

#: How many connections there may be; past it that one makes room which has asked for nothing
#: for longest.
MOST_CONNECTIONS = 500

#: How many event streams there may be beside them; past it 503.
MOST_STREAMS = 1_000

#: The parts of the primary's descriptors that there may be of each, if that is less.
CONNECTIONS_SHARE = 1 / 40
STREAMS_SHARE = 1 / 20

#: Seconds without a byte from the client after which it is closed.
IDLE_SECONDS = 30

#: Seconds that a request may take, from the end of the one before it to that of its answer;
#: however slowly the client sends or reads.
REQUEST_SECONDS = 60.0

#: Seconds that a client has to read why it was refused.
LINGER_SECONDS = 2.0


class AdminSite(Site):
    """
    Serves a tree of resources.

    :ivar streams: how many event streams there are.
    :ivar most_streams: how many there may be.
    """

    noisy = False
    displayTracebacks = False  # noqa: N815 - Twisted's name

    def __init__(self, root: IResource, clock: IReactorTime) -> None:
        super().__init__(root, timeout=IDLE_SECONDS, reactor=clock)
        self._clock = clock
        # With what ends each; the one that has asked for nothing for longest is the first.
        self._open: OrderedDict[AdminChannel, IDelayedCall] = OrderedDict()
        self._most_connections = min(MOST_CONNECTIONS, share_of(CONNECTIONS_SHARE))
        self.most_streams = min(MOST_STREAMS, share_of(STREAMS_SHARE))
        self.streams = 0

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:
        channel: Any = AdminChannel(self._opened, self._answered, self._refused, self._closed)
        channel.site = self
        channel.factory = self
        channel.timeOut = self.timeOut
        channel.callLater = self._clock.callLater
        return channel

    def _opened(self, channel: AdminChannel) -> None:
        if len(self._open) >= self._most_connections:
            idle, overdue = self._open.popitem(last=False)
            overdue.cancel()
            idle.cut()
        self._open[channel] = self._clock.callLater(REQUEST_SECONDS, self._overdue, channel)

    def _answered(self, channel: AdminChannel) -> None:
        if channel in self._open:
            self._open.move_to_end(channel)
            self._open[channel].reset(REQUEST_SECONDS)

    def _refused(self, channel: AdminChannel) -> None:
        if channel in self._open:
            self._open[channel].reset(LINGER_SECONDS)

    def _closed(self, channel: AdminChannel) -> None:
        overdue = self._open.pop(channel, None)
        if overdue is not None:
            overdue.cancel()

    def _overdue(self, channel: AdminChannel) -> None:
        del self._open[channel]
        channel.cut()

    def stream(self, channel: AdminChannel) -> bool:
        """
        Let a connection last, as it is an event stream.

        :return: whether there is room for one more.
        """
        if self.streams >= self.most_streams:
            return False
        self.streams += 1
        self._closed(channel)
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

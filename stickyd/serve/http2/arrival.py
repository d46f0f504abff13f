"""
An HTTP/2 connection whose first request has not come, and with it whose it is.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from typing_extensions import override

from stickyd.affinity.peek.http2 import FirstRequest
from stickyd.affinity.peek.need import PeekError
from stickyd.handoff.frame import MAX_UNREAD_BYTES, Flag, say_secure
from stickyd.serve.http2.strict import StrictConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.affinity.peek.http1 import Head
    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import Shared, Take
    from stickyd.serve.http.head import RequestHead
    from stickyd.serve.http2.channel import HTTP2Channel


class HTTP2Arrival(Protocol):
    """
    Holds the place of the channel until the head of the first request is here; then the
    connection stays, or goes to its owner through a tunnel, with the bytes that have come.

    The client gets our SETTINGS at once, as it may wait for them; nothing of its own is
    acknowledged, since that is for the channel to do, here or there.  The channel sends
    its SETTINGS too, which are the same, and may come at any time (RFC 9113, section 6.5).

    It is for its host what the channels are.

    :ivar came: the handoff that brought the connection.
    :ivar ended: called with this when there is a channel, or the connection is over or gone.
    """

    _log = Logger()

    busy = False  # no request is under way
    came: Handoff | None = None
    ended: Callable[[Any], object] | None = None
    transport: Any  # TlsTransport, whose methods are not annotated
    deadline = inf
    bucket = 0

    _draining = False

    def __init__(self, shared: Shared, make_channel: Callable[[], HTTP2Channel]) -> None:
        """
        :param shared: with a route.
        """
        self._shared = shared
        self._make_channel = make_channel
        self._first: FirstRequest | None = FirstRequest()
        self._seen = b""

    @override
    def connectionMade(self) -> None:
        opening = StrictConnection(self._shared.limits)
        opening.initiate_connection()
        self.transport.write(opening.data_to_send())
        idle = self._shared.limits.idle
        self.deadline = inf if idle is None else self._shared.sweep.now + idle
        self._shared.sweep.add(self)

    @override
    def dataReceived(self, data: bytes) -> None:
        first = self._first
        if first is None:
            return  # it is being closed
        self._seen += data
        try:
            head = first.feed(data)
        except PeekError:
            # The channel says what is wrong.
            self._stay()
            return
        if head is not None:
            self._place(head)
        elif len(self._seen) > MAX_UNREAD_BYTES:
            self._stay()

    def _place(self, head: Head) -> None:
        route, came = self._shared.route, self.came
        take = None
        if route is not None and came is not None and self.transport.can_divert:
            # A route reads no more of a head than there is in this one.
            take = route(cast("RequestHead", head), came)
        if take is None or came is None:
            self._stay()
        elif len(self._seen) > MAX_UNREAD_BYTES:
            self._log.warn(
                "An HTTP/2 connection of {host} stays though it belongs elsewhere: {size} bytes"
                " came with its first request, more than can be handed over",
                host=came.host,
                size=len(self._seen),
            )
            came.flags |= Flag.PLACED  # or the channel would refuse the request
            self._stay()
        else:
            self._leave(take, came)

    def _stay(self) -> None:
        seen = self._seen
        self._forget()
        channel = self._make_channel()
        channel.came = self.came
        # From now on it gets all that the transport has to tell.
        self.transport.wrappedProtocol = channel
        self._end()
        channel.makeConnection(self.transport)
        channel.dataReceived(seen)
        if self._draining:
            channel.drain()

    def _leave(self, take: Take, came: Handoff) -> None:
        seen = self._seen
        host: Any = self.transport.getHost()
        self._forget()
        sock = self.transport.divert()
        say_secure(came, (host.host, host.port) if hasattr(host, "port") else None)
        came.flags |= Flag.HTTP2
        take(sock, seen)
        self._end()

    def _forget(self) -> None:
        self._first = None
        self._seen = b""
        self._shared.sweep.discard(self)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()
        self._end()

    def _end(self) -> None:
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)

    def expire(self) -> None:
        """
        Called by the sweep: the client has nothing to ask.
        """
        self.deadline = inf
        self._first = None
        self.transport.abortConnection()

    def say_goodbye(self, code: int) -> bool:
        """
        Nobody has said anything yet.
        """
        return False

    def release(self, take: object) -> None:
        """
        The TLS lives here, so the connection cannot be given away.
        """
        self.drain()

    def drain(self) -> None:
        """
        Let the client have one request answered: whoever shakes hands has one to make.
        """
        self._draining = True
        first = self._shared.limits.first
        self.deadline = min(self.deadline, self._shared.sweep.now + first)
        self._shared.sweep.hasten(self)

    def abortConnection(self) -> None:  # noqa: N802 - as the channels'
        """
        Close the connection now.
        """
        self.transport.abortConnection()

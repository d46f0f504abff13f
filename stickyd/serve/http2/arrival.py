# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
An HTTP/2 connection before its first request, which says whose it is.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from h2.events import ConnectionTerminated, RequestReceived
from h2.exceptions import ProtocolError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.affinity.peek.http2 import head_of
from stickyd.handoff.frame import MAX_UNREAD_BYTES, Flag, say_secure
from stickyd.serve.http2.begun import Begun
from stickyd.serve.http2.objection import objection_to
from stickyd.serve.http2.strict import StrictConnection
from stickyd.serve.open_connections import uncounted
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import nothing_under_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.events import Event
    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import HTTPContext, Take
    from stickyd.serve.http2.connection import HTTP2Connection


@implementer(IServedConnection)
class HTTP2Arrival(Protocol):
    """
    Holds the place of an HTTP/2 connection until the head of the first request is here; then the
    connection stays, or goes to its owner through a tunnel, with the bytes that have come.

    Until then it is served as any other: settings and PINGs are acknowledged, and the client's
    mistakes told.  The connection that takes its place goes on from there: here with the same
    state, in another worker with a copy of it that is made of the same bytes
    (:meth:`Begun.elsewhere`).
    """

    _log = Logger()

    descriptors = 1
    busy = False  # no request is under way
    unanswered: tuple[Any, ...] = ()
    under_way = nothing_under_way
    transport: Any  # TlsTransport, whose methods are not annotated
    deadline = inf
    bucket = 0

    _draining = False
    _closing = False

    def __init__(
        self,
        context: HTTPContext,
        handoff: Handoff,
        make_connection: Callable[[Begun], HTTP2Connection],
        ended: Callable[[Any], object] = uncounted,
    ) -> None:
        """
        :param context: with a route.
        :param handoff: the handoff that brought the connection.
        :param make_connection: makes the one that takes its place, and counts it.
        :param ended: called when it is served here no longer.
        """
        self.handoff = handoff
        self._ended = ended
        self._context = context
        self._make_connection = make_connection
        self._conn = StrictConnection(context.limits)
        self._events: list[Event] = []
        self._seen = b""

    @override
    def connectionMade(self) -> None:
        self._conn.initiate_connection()
        self._say()
        self._context.deadlines.add(self, self._context.limits.idle)

    def _say(self) -> None:
        self.transport.write(self._conn.data_to_send())

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._seen += data
        try:
            events = self._conn.receive_data(data)
        except ProtocolError:
            self._close()
            return
        self._say()
        self._events += events
        for event in events:
            if isinstance(event, RequestReceived):
                self._place(event.headers)
                return
            if isinstance(event, ConnectionTerminated):
                self._finish()
                return
        if len(self._seen) > MAX_UNREAD_BYTES:
            self._stay()

    def _place(self, headers: list[tuple[bytes, bytes]]) -> None:
        route, handoff = self._context.route, self.handoff
        take = None
        if (
            route is not None
            and self.transport.can_divert
            and not objection_to(headers, self._context.limits)
        ):
            # All that a route reads of a head is in this one.
            take = route(head_of(headers), handoff)
        if take is None:
            self._stay()
        elif len(self._seen) > MAX_UNREAD_BYTES:
            self._log.warn(
                "An HTTP/2 connection of {host} stays though it belongs elsewhere: {size} bytes"
                " came with its first request, more than can be handed over",
                event="http2.stays",
                host=handoff.host,
                size=len(self._seen),
            )
            handoff.flags |= Flag.PLACED  # or the channel would refuse the request
            self._stay()
        else:
            self._leave(take, handoff)

    def _stay(self) -> None:
        self._forget()
        connection = self._make_connection(Begun(self._conn, self._events))
        # From now on it gets all that the transport has to tell.
        self.transport.wrappedProtocol = connection
        self._ended(self)
        connection.makeConnection(self.transport)
        if self._draining:
            connection.drain()

    def _leave(self, take: Take, handoff: Handoff) -> None:
        host: Any = self.transport.getHost()
        self._forget()
        sock = self.transport.divert()
        say_secure(handoff, (host.host, host.port) if hasattr(host, "port") else None)
        handoff.flags |= Flag.HTTP2
        take(sock, self._seen)
        self._ended(self)

    def _finish(self) -> None:
        """
        Close in good order: there is nothing to answer.
        """
        self._conn.close_connection()
        self._close()

    def _close(self) -> None:
        """
        Close when the client has been told what the state has to say.
        """
        self._closing = True
        self._say()
        self.transport.loseConnection()
        stall = self._context.limits.stall
        self.deadline = inf if stall is None else self._context.deadlines.now + stall
        self._context.deadlines.hasten(self)

    def _forget(self) -> None:
        self._closing = True
        self._context.deadlines.discard(self)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()
        self._ended(self)

    def expire(self) -> None:
        """
        Called by the timer: the client has asked nothing in time, or does not let us close.
        """
        if self._closing:
            self.transport.abortConnection()
        else:
            self._finish()

    def say_goodbye(self, code: int) -> bool:
        """
        Nobody has said anything yet.
        """
        return False

    def end_streams(self) -> None:
        """
        There is none.
        """

    def give_away(self, goes: object, take: object) -> None:
        """
        The TLS lives here, so the connection cannot be given away.
        """
        self.drain()

    def drain(self) -> None:
        """
        Let the client have one request answered: whoever shakes hands has one to make.
        """
        self._draining = True
        first = self._context.limits.first
        self.deadline = min(self.deadline, self._context.deadlines.now + first)
        self._context.deadlines.hasten(self)

    def abortConnection(self) -> None:  # noqa: N802 - as the channels'
        """
        Close the connection now.
        """
        self.transport.abortConnection()

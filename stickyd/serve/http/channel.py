"""
An HTTP/1.1 connection, server side.

Theory of operation.  A head is found by its end, taken apart in one go and served at
once; while a request is being answered, further bytes are only kept.  So there is never
more than one request, what was not consumed is always known to the byte, and a
connection between two requests can be given away with it.  The states stand in
:mod:`stickyd.serve.http.outgoing`.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyd.handoff.frame import Flag
from stickyd.interfaces import IDetachable
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.holding import Holding
from stickyd.serve.http.outgoing import BODY, BUSY, CLOSING, HEAD, LEAVING, PASSING


@implementer(
    IProtocol,
    IHalfCloseableProtocol,
    ITransport,
    IConsumer,
    IPushProducer,
    IDetachable,
    ILoggingContext,
)
class HTTPChannel(Holding):
    """
    Serves one connection.

    :ivar site: finds the resource of a request.
    :ivar factory: logs finished requests unless it is :obj:`None` or ``silent``.
    :ivar came: the handoff that brought the connection, if one did; without one, requests
        are not routed.
    """

    site: Any = None
    factory: Any = None

    @property
    def requests(self) -> list[Any]:
        """
        The requests that are being received or answered: one, or none.
        """
        return [] if self._request is None else [self._request]

    # IProtocol

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Called when the transport is ready.
        """
        self._transport = transport
        self.connected = 1
        self.connectionMade()

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """
        Begin to watch the time, and be told when the transport is full.
        """
        shared = self.shared
        idle = shared.limits.idle
        self.deadline = inf if idle is None else shared.sweep.now + idle
        shared.sweep.add(self)
        if self.came is not None and self.came.flags & Flag.LAST:
            self._draining = True
        if shared.route is not None and self._can_leave():
            self._route = shared.route
        self._register_self(True)

    def _can_leave(self) -> bool:
        transport = self._transport
        return hasattr(transport, "detach") or getattr(transport, "can_divert", False)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """
        Called with what the client sent.
        """
        state = self._state
        if state == HEAD:
            if self._kept:
                self._keep(data)
            elif self._partial is None:
                self._advance(data)
            else:
                self._complete(data)
        elif state == BODY:
            self._advance(data)
        elif state in (BUSY, LEAVING):
            self._keep(data)
        elif state == PASSING:
            self._successor.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """
        Called when the connection is over.
        """
        self.connected = 0
        request, successor = self._request, self._successor
        self._forget()
        try:
            if successor is not None:
                successor.connectionLost(reason)
        finally:
            if request is not None:
                request.connectionLost(reason)
            self._tell_ended()

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        """
        Name the channel in log messages.
        """
        return type(self).__name__

    # For requests.

    def requestDone(self, request: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the request when its response is complete.

        :raise TypeError: if it is not the one that is being answered.
        """
        if request != self._request:
            raise TypeError(f"{request} is not being answered")
        self._request = None
        if self._state == BODY:
            # Answered before its body was here, and that is dropped.
            self.persistent = False
            self._linger()
        if self._state != BUSY:
            return
        if self._held:
            self._answered = True
            return
        self._next()

    def _next(self) -> None:
        self._state = HEAD
        self._resting = False
        if self._serving:
            return
        if not self.persistent:
            self._end(self._kept)
        elif self._waiting:
            self._read_no_more()
        else:
            self._go_on()
            if self._leave is not None:
                self._leave_if_idle()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the transport when it has room again.
        """
        if self._state == LEAVING:
            self._try_leave()
            return
        super().resumeProducing()
        if self._waiting or self._serving:
            return
        if self._state == HEAD and self._partial is None:
            self._go_on()
        elif self._state in (HEAD, BODY, PASSING) and not self._body_held:
            limits = self.shared.limits
            self._read_on()
            self._expect(limits.head if self._state == HEAD else limits.body)

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Give the connection's bytes to another protocol from now on.  This channel stays
        between it and the transport, which may have looked up our methods already.
        """
        self._flush()
        self._corked = False
        self._unregister_self()
        self._state = PASSING
        self._successor = protocol
        protocol.makeConnection(self._transport)
        if not self._serving:
            # Not at once: the caller has yet to write its answer.
            self.shared.clock.callLater(0, self._pass_on_later)

    def say_goodbye(self, code: int) -> bool:
        """
        Close a WebSocket with a reason.

        :param code: as of RFC 6455, section 7.4.
        :return: :obj:`False` if this is none, or it is closing already.
        """
        # What twisted.web.websocket calls a WebSocketTransport; any other upgrade has
        # words that we do not know.
        if self._state != PASSING or not hasattr(self._successor, "sendTextMessage"):
            return False
        try:
            self._successor.loseConnection(code)
        except Exception:  # noqa: BLE001 - wsproto refuses to say it twice
            return False
        return True

    def end_streams(self) -> None:
        """
        End the response under way if it is an event stream: its application is told that the
        client is gone, the client that the stream is over.
        """
        request = self._request
        if self._state not in (BODY, BUSY) or not getattr(request, "streams_events", False):
            return
        producer = self._producer
        self.unregisterProducer()
        if request.chunked:
            self.write(b"0\r\n\r\n")
        self._request = None
        if self._state == BODY:
            self._linger()
        else:
            self.loseConnection()
        if producer is not None:
            producer.stopProducing()
        request.connectionLost(Failure(ConnectionDone("The server stops.")))

    def _pass_on_later(self) -> None:
        if self._state == PASSING:
            self._pass_on()

    def refuse(self, error: RequestError) -> None:
        """
        Called by the request that is being answered, and not yet, if it cannot be after all.
        """
        self._refuse(error)

    def expire(self) -> None:
        """
        Called by the sweep when the client has been too slow.  While the application is
        at work, or the protocol of an upgrade, that is no matter.
        """
        state = self._state
        if self._held:
            return
        if state in (CLOSING, LEAVING) or self._waiting:
            if self._takes_something():
                self._expect(self.shared.limits.stall)
            else:
                self.abortConnection()
        elif state == HEAD and self._partial is None:
            self.loseConnection()
        elif state in (HEAD, BODY):
            self._refuse(RequestError(408, "too slow"))

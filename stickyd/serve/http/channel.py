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
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IProtocol,
    IPushProducer,
    ITransport,
)
from zope.interface import implementer

from stickyd.interfaces import IDetachable
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.incoming import Incoming
from stickyd.serve.http.outgoing import BODY, BUSY, CLOSING, GONE, HEAD, LEAVING, PASSING

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.shared import Take


@implementer(IProtocol, ITransport, IConsumer, IPushProducer, IDetachable, ILoggingContext)
class HTTPChannel(Incoming):
    """
    Serves one connection.

    :ivar site: finds the resource of a request.
    :ivar factory: logs finished requests unless it is :obj:`None` or ``silent``.
    :ivar came: the handoff that brought the connection, if one did.
    :ivar ended: called with the channel when its connection is over or was given away.
    """

    site: Any = None
    factory: Any = None
    ended: Callable[[HTTPChannel], object] | None = None
    connected = 0
    came: Handoff | None = None

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
        if shared.route is not None and hasattr(self._transport, "detach"):
            self._route = shared.route
        register = getattr(self._transport, "registerProducer", None)
        if register is not None:
            register(self, True)

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

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        """
        Name the channel in log messages.
        """
        return type(self).__name__

    def _forget(self) -> None:
        """
        Be over, for the timer and for the host.
        """
        self._state = GONE
        self._request = self._successor = self._partial = None
        self._kept = b""
        self._pending = []
        self.shared.sweep.discard(self)
        if self._next_pull is not None:
            self._next_pull.cancel()
            self._next_pull = None
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)

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
        self._state = HEAD
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
        elif self._state in (HEAD, BODY, PASSING):
            self._read_on()
            self._expect(self._time_left())
        else:
            self.deadline = inf if self._state != CLOSING else self.deadline

    def _time_left(self) -> float | None:
        limits = self.shared.limits
        if self._state == HEAD:
            return limits.head
        return limits.body if self._state == BODY else None

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

    def _pass_on_later(self) -> None:
        if self._state == PASSING:
            self._pass_on()

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - Twisted's name
        """
        Refuse a request whose form cannot be read.
        """
        self._refuse(RequestError(400, "malformed form"))

    # For the worker.

    @property
    def idle(self) -> bool:
        """
        Whether the connection is between two requests and nothing is left to write.
        """
        return self._state == HEAD and not self._serving and not self._kept and not self._unsent()

    @property
    def busy(self) -> bool:
        """
        Whether a request is being received or answered that can be given away after it.
        """
        return self._leave is not None and self._state not in (PASSING, CLOSING, GONE)

    def detach(self) -> tuple[socket, bytes]:
        """
        Give the connection away; see :class:`stickyd.interfaces.IDetachable`.

        :raise RuntimeError: if it is not idle.
        """
        if not self.idle:
            raise RuntimeError("Only an idle connection can be detached.")
        unread = b"" if self._partial is None else bytes(self._partial)
        sock, rest = self._detach()
        self._forget()
        return sock, unread + rest

    def _detach(self) -> tuple[socket, bytes]:
        self._unregister_self()
        self.connected = 0
        detached: tuple[socket, bytes] = self._transport.detach()
        return detached

    def _try_leave(self) -> None:
        """
        Give the connection to whom the route named, once all answers are on their way.
        """
        self._unregister_self()
        if self._unsent():
            self._expect(self.shared.limits.stall)
            # As a pull producer we are asked for more when all is sent.
            self._transport.registerProducer(self, False)
            return
        take = self._take
        assert take is not None
        sock, rest = self._detach()
        unread = self._kept + rest
        self._forget()
        take(sock, unread)

    def release(self, take: Take) -> None:
        """
        Give the connection away: now if it is idle, else when the response under way is
        written or, at the latest, when the next head has come.  One that cannot be given
        away, as its TLS lives here, is drained.
        """
        if not hasattr(self._transport, "detach"):
            self.drain()
            return
        self._route = lambda _: take
        self._leave = take
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._leave is not None and self.idle:
            take = self._leave
            sock, unread = self.detach()
            take(sock, unread)

    def drain(self) -> None:
        """
        Close the connection now if it is idle, else after the response under way, which
        says so if its head is not written yet.
        """
        if self._leave is not None:
            # It is given away as soon as it can be, which is better than closed.
            return
        self._draining = True
        self.persistent = False
        if self._state == HEAD and self._partial is None and not self._serving and not self._kept:
            self.loseConnection()

    def expire(self) -> None:
        """
        Called by the sweep when the client has been too slow.
        """
        state = self._state
        if state in (CLOSING, LEAVING) or self._waiting:
            if self._takes_something():
                self._expect(self.shared.limits.stall)
            else:
                self.abortConnection()
        elif state == HEAD and self._partial is None:
            self.loseConnection()
        elif state in (HEAD, BODY):
            self._refuse(RequestError(408, "too slow"))

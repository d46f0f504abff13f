"""
The host for any Twisted protocol: services that do not speak HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import ITLSTransport
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.interfaces import IDetachable, IHost
from stickyd.net.lingering_close import hang_up
from stickyd.net.twisted_transport import SocketTransport
from stickyd.net.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.tls.server import ServerTls


@implementer(ITLSTransport)
class CountedTransport(SocketTransport):
    """
    A transport that tells when its connection is over, whichever protocol it has by then, and
    on which a protocol may start TLS.

    :ivar TLS: whether one has, as Twisted's transports call it.
    """

    TLS = False
    clock: IReactorTime
    ended: Callable[[CountedTransport], object]
    came: Handoff
    served: Any  # the factory's protocol, which on TLS is not this transport's own

    def startTLS(self, contextFactory: object, normal: bool = True) -> None:  # noqa: N802, N803 - Twisted's names
        """
        Encrypt the connection from now on; see
        :class:`twisted.internet.interfaces.ITLSTransport`.
        """
        from stickyd.serve.tls.start_tls import start_tls  # which needs packages of its own

        start_tls(self, contextFactory, normal, self.clock)
        self.TLS = True

    @override
    def _lost(self, reason: Failure) -> None:
        try:
            super()._lost(reason)
        finally:
            if self.TLS:
                from stickyd.serve.tls.start_tls import forget_tls

                forget_tls(self)
            self.ended(self)


@implementer(IHost)
class ProtocolHost:
    """
    Serves connections with the protocols of a factory.

    Nothing is known about them, so a drain closes only those whose protocol provides
    :class:`IDetachable` and is idle just then, and only those can be given away; the
    others end when their protocol or their client ends them, or at :meth:`abort`.

    :ivar requests: how many connections were served.
    """

    _log = Logger()

    def __init__(
        self,
        factory: IProtocolFactory,
        readiness: IReadiness,
        clock: IReactorTime,
        tls: ServerTls | None = None,
    ) -> None:
        """
        :param clock: times the handshakes of protocols that start TLS.
        :param tls: what connections are encrypted with, or :obj:`None` for plain ones.
        """
        self._factory = factory
        self._tls = tls
        self._readiness = readiness
        self._clock = clock
        self._transports: set[CountedTransport] = set()
        self._drained = Waiters()
        self.requests = 0

    @property
    def connections(self) -> int:
        """
        How many connections are open.
        """
        return len(self._transports)

    @property
    def descriptors(self) -> int:
        """
        How many descriptors they take.
        """
        return len(self._transports)

    def start(self) -> Deferred[None]:
        """
        Start the factory, as a port does when it begins to listen.
        """
        self._factory.doStart()
        return succeed(None)

    def adopt(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Serve a connection; see :class:`IHost`.  One that the factory makes no protocol
        for is closed, as a port does.
        """
        try:
            protocol = self._factory.buildProtocol(peer)
        except Exception:  # noqa: BLE001 - one client's connection is not the worker
            self._log.failure("The factory failed to build a protocol; the connection is closed.")
            protocol = None
        if protocol is None:
            hang_up(sock, False, False)
            sock.close()
            return
        self.requests += 1
        transport = CountedTransport(self._readiness, sock, peer, handoff.unread)
        transport.clock = self._clock
        transport.came = handoff
        transport.served = protocol
        transport.ended = self._end
        self._transports.add(transport)
        transport.start(protocol if self._tls is None else self._tls.accept(lambda _: protocol))

    def release(
        self, goes: Callable[[Handoff], bool], give: Callable[[socket, bytes, Handoff], None]
    ) -> Deferred[None]:
        """
        Give away the connections that are known to be idle; the others cannot be.  One on TLS
        cannot be either, and is closed if it is idle.
        """
        for transport in self._idle():
            if not goes(transport.came):
                continue
            if self._tls is not None or transport.TLS:
                self._close(transport)
            else:
                # Before: it tells nobody that its connection has gone.
                self._transports.discard(transport)
                sock, unread = transport.served.detach()
                give(sock, unread, transport.came)
        self._look()
        return succeed(None)

    def _idle(self) -> list[CountedTransport]:
        return [
            transport
            for transport in self._transports
            if IDetachable.providedBy(transport.served) and transport.served.idle
        ]

    def _close(self, transport: CountedTransport) -> None:
        # On TLS in good order too, which is an exchange above the transport.
        (transport if self._tls is None else transport.protocol).loseConnection()

    def drain(self) -> Deferred[None]:
        """
        Close the connections that are known to be idle, and wait for the others.
        """
        for transport in self._idle():
            self._close(transport)
        drained = self._drained.wait()
        self._look()
        return drained

    def end_streams(self) -> None:
        """
        Which connections end by themselves, only their protocols know.
        """

    def abort(self) -> None:
        """
        Reset every connection.
        """
        for transport in list(self._transports):
            transport.abortConnection()

    def stop(self) -> Deferred[None]:
        """
        Stop the factory.
        """
        self._factory.doStop()
        return succeed(None)

    def _end(self, transport: CountedTransport) -> None:
        self._transports.discard(transport)
        self._look()

    def _look(self) -> None:
        if not self._transports:
            self._drained.fire()

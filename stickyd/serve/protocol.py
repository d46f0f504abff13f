"""
The host for any Twisted protocol: services that do not speak HTTP.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import ITLSTransport
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.interfaces import IDetachable, IHost
from stickyd.net.brief_watches import end_brief_watches
from stickyd.net.lingering_close import hang_up
from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.open_connections import OpenConnections, uncounted
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import CONNECTION, UnderWay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket

    from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.http.context import Take
    from stickyd.serve.tls.server import ServerTls


@implementer(ITLSTransport, IServedConnection)
class ServedTransport(SocketTransport):
    """
    The transport of any protocol, which may start TLS on it.  Of the connection nothing is known
    unless its protocol provides :class:`IDetachable`.

    :ivar TLS: whether one has, as Twisted's transports call it.
    """

    TLS = False
    descriptors = 1
    busy = False  # as far as is known
    unanswered: tuple[Any, ...] = ()

    def __init__(
        self,
        readiness: IReadiness,
        sock: socket,
        peer: IAddress,
        handoff: Handoff,
        served: Any,
        clock: IReactorTime,
        encrypted: bool = False,
        ended: Callable[[Any], object] = uncounted,
    ) -> None:
        """
        Take over a socket, as :class:`SocketTransport` does.

        :param handoff: the handoff that brought the connection.
        :param served: the factory's protocol, which on TLS is not this transport's own.
        :param clock: times the handshakes of protocols that start TLS.
        :param encrypted: it is on TLS from the beginning.
        :param ended: called when it is served here no longer.
        """
        super().__init__(readiness, sock, peer, handoff.unread)
        self.handoff = handoff
        self._served = served
        self._clock = clock
        self._encrypted = encrypted
        self._report_ended = ended
        self._begun_ns = perf_counter_ns()

    def under_way(self) -> list[UnderWay]:
        """
        Itself.
        """
        return [UnderWay(CONNECTION, self._begun_ns)]

    def startTLS(self, contextFactory: object, normal: bool = True) -> None:  # noqa: N802, N803 - Twisted's names
        """
        Encrypt the connection from now on; see
        :class:`twisted.internet.interfaces.ITLSTransport`.
        """
        from stickyd.serve.tls.start_tls import start_tls  # which needs packages of its own

        start_tls(self, contextFactory, normal, self._clock)
        self.TLS = True

    @override
    def _lost(self, reason: Failure) -> None:
        try:
            super()._lost(reason)
        finally:
            if self.TLS:
                from stickyd.serve.tls.start_tls import forget_tls

                forget_tls(self)
            self._report_ended(self)

    # For the host.

    @property
    def _idle(self) -> bool:
        return IDetachable.providedBy(self._served) and bool(self._served.idle)

    def give_away(self, goes: object, take: Take) -> None:
        """
        Give the connection away if it is known to be idle; it is closed instead if it is on
        TLS.
        """
        if not self._idle:
            return
        if self._encrypted or self.TLS:
            self._finish()
        else:
            sock, unread = self._served.detach()
            self._report_ended(self)
            take(sock, unread)

    def drain(self) -> None:
        """
        Close the connection if it is known to be idle.
        """
        if self._idle:
            self._finish()

    def _finish(self) -> None:
        # On TLS in good order too, which is an exchange above the transport.
        (self.protocol if self._encrypted else self).loseConnection()

    def say_goodbye(self, code: int) -> bool:
        """
        Say nothing, as only its protocol knows how.
        """
        return False

    def end_streams(self) -> None:
        """
        Do nothing: only its protocol knows whether it ends by itself.
        """


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
        page: memoryview | None = None,
    ) -> None:
        """
        :param clock: times the handshakes of protocols that start TLS.
        :param tls: what connections are encrypted with, or :obj:`None` for plain ones.
        :param page: where connections are counted for the primary; nowhere by default.
        """
        self._factory = factory
        self._tls = tls
        self._readiness = readiness
        self._clock = clock
        self._open = OpenConnections(readiness.call_later, page)
        self.requests = 0

    @property
    def connections(self) -> int:
        """
        How many connections are open.
        """
        return len(self._open)

    @property
    def descriptors(self) -> int:
        """
        How many descriptors they take.
        """
        return self._open.descriptors

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
            self._log.failure(
                "The factory failed to build a protocol; the connection is closed.",
                event="protocol.not-built",
            )
            protocol = None
        if protocol is None:
            hang_up(sock, False, False)
            sock.close()
            return
        self.requests += 1
        transport = self._open.add(
            ServedTransport(
                self._readiness,
                sock,
                peer,
                handoff,
                protocol,
                self._clock,
                self._tls is not None,
                self._open.remove,
            )
        )
        transport.start(protocol if self._tls is None else self._tls.accept(lambda _: protocol))

    def clients(self) -> list[bytes]:
        """
        The clients whose connections are open; see :class:`IHost`.
        """
        return self._open.clients()

    def served(self) -> Iterator[Any]:
        """
        The connections that are open now.
        """
        return iter(self._open)

    def give_away(
        self, goes: Callable[[Handoff], bool], give: Callable[[socket, bytes, Handoff], None]
    ) -> Deferred[None]:
        """
        Give away the connections that are known to be idle; the others cannot be.  One on TLS
        cannot be either, and is closed if it is idle.
        """
        return self._open.give_away(goes, give)

    def drain(self) -> Deferred[None]:
        """
        Close the connections that are known to be idle, and wait for the others.
        """
        return self._open.drain()

    def end_streams(self) -> None:
        """
        Do nothing: only their protocols know which connections end by themselves.
        """

    def abort(self) -> None:
        """
        Reset every connection.
        """
        self._open.abort()

    def stop(self) -> Deferred[None]:
        """
        Stop the factory.
        """
        self._factory.doStop()
        end_brief_watches(self._readiness)
        return succeed(None)

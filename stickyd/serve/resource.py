"""
The host for a tree of twisted.web resources.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.handoff.frame import Flag
from stickyd.interfaces import IHost
from stickyd.net.addresses import local_address
from stickyd.net.brief_watches import end_brief_watches
from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.site import HTTPSite
from stickyd.serve.http.sticky import StickySite
from stickyd.serve.open_connections import OpenConnections
from stickyd.serve.tls.handshake import Handshake
from stickyd.sessions.web.cookie import SessionCookie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket
    from typing import Any, TypeVar

    from twisted.internet.interfaces import IAddress
    from twisted.web.resource import IResource

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.http.connection import HTTPChannel
    from stickyd.serve.http2.arrival import HTTP2Arrival
    from stickyd.serve.http2.begun import Begun
    from stickyd.serve.http2.connection import HTTP2Connection
    from stickyd.serve.tls.server import ServerTls
    from stickyd.serve.tls.transport import TlsTransport
    from stickyd.sessions.registry import SessionRegistry

    C = TypeVar("C", bound=Any)

# Found faster than in the class.
_HTTP2 = Flag.HTTP2
_SECURE = Flag.SECURE


@implementer(IHost)
class ResourceHost:
    """
    Serves a tree of resources over HTTP/1.1, and over HTTP/2 if TLS offers it.

    :ivar site: what requests know as ``request.site``; its sessions and
        ``displayTracebacks`` are twisted.web's.
    """

    _log = Logger()

    def __init__(
        self,
        root: IResource,
        readiness: IReadiness,
        context: HTTPContext,
        sessions: SessionRegistry | None = None,
        access_log: AccessLog | None = None,
        tls: ServerTls | None = None,
        session_cookie: SessionCookie = SessionCookie(),  # noqa: B008 -- frozen
    ) -> None:
        """
        :param root: the tree.
        :param readiness: for the transports of the connections.
        :param context: what all connections share; its clock is for timeouts, sessions and
            the access log.
        :param sessions: what ``request.getSession()`` looks into; :obj:`None` for
            twisted.web's own sessions.
        :param access_log: gets a line for each finished request; closed by :meth:`stop`.
        :param tls: what connections are encrypted with, or :obj:`None` for plain ones.
        :param session_cookie: carries the ids of those sessions.
        """
        self.site = (
            HTTPSite(root, context, access_log)
            if sessions is None
            else StickySite(root, context, access_log, sessions, session_cookie)
        )
        if sessions is not None:
            sessions.call_before_export(self._hold_sessions)
        self._readiness = readiness
        self._tls = tls
        self._open = OpenConnections(readiness.call_later, context.counts.page)

    @property
    def connections(self) -> int:
        """
        How many connections are open.
        """
        return len(self._open)

    @property
    def descriptors(self) -> int:
        """
        How many descriptors they take, with the bodies of requests that lie in files.
        """
        return self._open.descriptors + self.site.context.spool.files

    def start(self) -> Deferred[None]:
        """
        Resources are ready as they are.
        """
        return succeed(None)

    @property
    def requests(self) -> int:
        """
        How many requests were begun.
        """
        return self.site.context.counts.begun

    def adopt(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Serve a connection; see :class:`IHost`.
        """
        flags = handoff.flags
        if flags & _HTTP2:
            self._go_on(sock, peer, handoff)
            return
        transport = SocketTransport(
            self._readiness,
            sock,
            peer,
            handoff.unread,
            None if handoff.local is None else local_address(handoff.local),
            self.site.context.limits.stall,
        )
        if self._tls is None or flags & _SECURE:
            transport.start(self.make_channel(handoff))
        else:
            handshake = self._open.add(
                Handshake(handoff, partial(self._receive, handoff), self._open.remove)
            )
            transport.start(self._tls.accept(lambda _: handshake, self._open_tunnel))

    def _go_on(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Go on with an HTTP/2 connection that a worker has begun and tunnels to us.
        """
        from h2.exceptions import ProtocolError

        from stickyd.serve.http2.begun import Begun

        try:
            begun = Begun.elsewhere(self.site.context.limits, handoff.unread)
        except ProtocolError as error:
            self._log.warn(
                "An HTTP/2 connection of {host} is closed: the worker that has its TLS passed on"
                " what is no HTTP/2 ({error})",
                event="http2.tunnel-broken",
                host=handoff.host,
                error=error,
            )
            sock.close()
            return
        transport = SocketTransport(self._readiness, sock, peer, host=local_address(handoff.local))
        transport.start(self._make_http2_connection(handoff, begun))

    def _open_tunnel(self, tls: TlsTransport) -> socket:
        from stickyd.serve.tls.tunnel import Tunnel

        return self._open.add(Tunnel(self._readiness, tls, self._open.remove)).open()

    def _receive(
        self, handoff: Handoff, protocol: bytes | None
    ) -> HTTPChannel | HTTP2Connection | HTTP2Arrival:
        """
        Make what a connection begins with after a handshake.
        """
        if protocol != b"h2":
            return self.make_channel(handoff)
        if self.site.context.route is None:
            return self._make_http2_connection(handoff, None)
        from stickyd.serve.http2.arrival import HTTP2Arrival

        make = partial(self._make_http2_connection, handoff)
        return self._open.add(HTTP2Arrival(self.site.context, handoff, make, self._open.remove))

    def _make_http2_connection(self, handoff: Handoff, begun: Begun | None) -> HTTP2Connection:
        from stickyd.serve.http2.connection import HTTP2Connection  # it needs a package of its own

        return self._open.add(HTTP2Connection(self.site, handoff, self._open.remove, begun))

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
        self,
        goes: Callable[[Handoff], bool],
        give: Callable[[socket, bytes, Handoff], None],
    ) -> Deferred[None]:
        """
        Give connections away; see :class:`IHost`.
        """
        return self._open.give_away(goes, give)

    def _hold_sessions(self) -> None:
        """
        Keep the sessions here that requests under way may still ask for.
        """
        for connection in self._open:
            for request in connection.unanswered:
                request.hold_sessions()

    def make_channel(self, handoff: Handoff | None) -> HTTPChannel:
        """
        Make a channel, and count it until its connection is over or given away.

        :param handoff: what has brought the connection.
        """
        return self._open.add(self.site.make_channel(handoff, self._open.remove))

    def drain(self) -> Deferred[None]:
        """
        Close idle connections, and the others after the response under way.  Upgraded
        connections end when their protocol or the client ends them.
        """
        return self._open.drain()

    def end_streams(self) -> None:
        """
        End event streams, and WebSockets with the code of :meth:`abort`; see :class:`IHost`.
        """
        self._open.end_streams()

    def abort(self) -> None:
        """
        Reset every connection, but tell WebSockets before: 1012, *service restart* (RFC
        6455, 7.4, and its registry).
        """
        self._open.abort()

    def stop(self) -> Deferred[None]:
        """
        Flush the access log, and stop the timers.
        """
        self.site.stopFactory()
        end_brief_watches(self._readiness)
        return succeed(None)

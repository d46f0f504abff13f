"""
The host for a tree of twisted.web resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.handoff.frame import Flag
from stickyd.interfaces import IHost
from stickyd.net.addresses import local_address
from stickyd.net.twisted_transport import SocketTransport
from stickyd.net.waiters import Waiters
from stickyd.serve.access_log import AccessLog
from stickyd.serve.http.context import Shared
from stickyd.serve.http.site import HTTPSite
from stickyd.serve.http.sticky import StickySite
from stickyd.serve.tls.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket
    from typing import TextIO

    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.web.resource import IResource

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.http.connection import HTTPChannel
    from stickyd.serve.http.context import Route
    from stickyd.serve.http.limits import HTTPLimits
    from stickyd.serve.http2.arrival import HTTP2Arrival
    from stickyd.serve.http2.begun import Begun
    from stickyd.serve.http2.connection import HTTP2Connection
    from stickyd.serve.stickiness import Stickiness
    from stickyd.serve.tls.server import ServerTls, TlsTransport
    from stickyd.serve.tls.tunnel import Tunnel
    from stickyd.serve.wsgi.websockets import LentConnection
    from stickyd.sessions.registry import SessionRegistry

    Connection = HTTPChannel | HTTP2Connection | HTTP2Arrival | Handshake | Tunnel | LentConnection
    C = TypeVar("C", HTTPChannel, HTTP2Connection, HTTP2Arrival, Handshake, Tunnel)


#: The code with which WebSockets end that a stop cuts off.
SERVICE_RESTART = 1012

#: Seconds that their clients get to take it.
FAREWELL_SECONDS = 0.25


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
        clock: IReactorTime,
        readiness: IReadiness,
        sessions: SessionRegistry | None = None,
        limits: HTTPLimits | None = None,
        access_log: TextIO | None = None,
        route: Route | None = None,
        reception: Stickiness | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        """
        :param root: the tree.
        :param clock: for timeouts, sessions and the access log.
        :param readiness: for the transports of the connections.
        :param sessions: what ``request.getSession()`` looks into; :obj:`None` for
            twisted.web's own sessions.
        :param limits: the bounds, or :obj:`None` for the defaults.
        :param access_log: gets a line for each finished request, in the combined
            format; flushed by :meth:`stop`, closed by the caller.
        :param route: see :class:`stickyd.serve.http.context.Shared`.
        :param reception: the same.
        :param tls: what connections are encrypted with, or :obj:`None` for plain ones.
        """
        log = None if access_log is None else AccessLog(access_log, clock)
        shared = Shared(clock, limits, route, reception=reception)
        self.site = (
            HTTPSite(root, shared, log)
            if sessions is None
            else StickySite(root, shared, log, sessions)
        )
        if sessions is not None:
            sessions.call_before_export(self._hold_sessions)
        self._readiness = readiness
        self._tls = tls
        self._channels: set[Connection] = set()
        self._tunnels = 0  # which take two descriptors each
        self._drained = Waiters()
        self._quiet: list[tuple[set[Connection], Deferred[None]]] = []

    @property
    def connections(self) -> int:
        """
        How many connections are open.
        """
        return len(self._channels)

    @property
    def descriptors(self) -> int:
        """
        How many descriptors they take, with the bodies of requests that lie in files.
        """
        return len(self._channels) + self._tunnels + self.site.shared.spool.files

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
        return self.site.shared.requests

    def adopt(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Serve a connection; see :class:`IHost`.
        """
        if handoff.flags & Flag.HTTP2:
            self._go_on(sock, peer, handoff)
            return
        transport = SocketTransport(
            self._readiness, sock, peer, handoff.unread, local_address(handoff.local)
        )
        transport.stall_seconds = self.site.shared.limits.stall
        if self._tls is None or handoff.flags & Flag.SECURE:
            channel = self.make_channel()
            channel.came = handoff
            transport.start(channel)
        else:
            handshake = self._counted(Handshake(self._receive))
            handshake.came = handoff
            transport.start(self._tls.accept(lambda _: handshake, self._open_tunnel))

    def _go_on(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Go on with an HTTP/2 connection that a worker has begun and tunnels to us.
        """
        from h2.exceptions import ProtocolError

        from stickyd.serve.http2.begun import Begun

        try:
            begun = Begun.elsewhere(self.site.shared.limits, handoff.unread)
        except ProtocolError as error:
            self._log.warn(
                "An HTTP/2 connection of {host} is closed: the worker that has its TLS passed on"
                " what is no HTTP/2 ({error})",
                host=handoff.host,
                error=error,
            )
            sock.close()
            return
        channel = self._make_http2_channel(begun)
        channel.came = handoff
        transport = SocketTransport(self._readiness, sock, peer, host=local_address(handoff.local))
        transport.start(channel)

    def _open_tunnel(self, tls: TlsTransport) -> socket:
        from stickyd.serve.tls.tunnel import Tunnel

        tunnel = self._counted(Tunnel(self._readiness, tls))
        tunnel.ended = self._end_tunnel
        self._tunnels += 1
        return tunnel.open()

    def _end_tunnel(self, tunnel: Tunnel) -> None:
        self._tunnels -= 1
        self._end(tunnel)

    def _receive(self, protocol: bytes | None) -> Connection:
        """
        Make what a connection begins with after a handshake.
        """
        if protocol != b"h2":
            return self.make_channel()
        if self.site.shared.route is None:
            return self._make_http2_channel()
        from stickyd.serve.http2.arrival import HTTP2Arrival

        return self._counted(HTTP2Arrival(self.site.shared, self._make_http2_channel))

    def _make_http2_channel(self, begun: Begun | None = None) -> HTTP2Connection:
        from stickyd.serve.http2.connection import (
            HTTP2Connection,
        )  # which needs packages of its own

        return self._counted(HTTP2Connection(self.site, begun))

    def release(
        self,
        goes: Callable[[Handoff], bool],
        give: Callable[[socket, bytes, Handoff], None],
    ) -> Deferred[None]:
        """
        Give connections away; see :class:`IHost`.
        """
        going = [c for c in self._channels if c.came is not None and goes(c.came)]
        for channel in going:
            came = channel.came
            assert came is not None
            channel.release(lambda sock, unread, came=came: give(sock, unread, came))  # type: ignore[misc]
        busy = {c for c in going if c in self._channels and c.busy}
        quiet: Deferred[None] = Deferred()
        self._quiet.append((busy, quiet))
        self._look_for_quiet()
        return quiet

    def _hold_sessions(self) -> None:
        """
        Keep the sessions here that requests under way may still ask for.
        """
        for channel in self._channels:
            if channel.busy:
                for request in channel.unanswered:
                    request.hold_sessions()

    def _look_for_quiet(self) -> None:
        for entry in [entry for entry in self._quiet if not entry[0]]:
            self._quiet.remove(entry)
            entry[1].callback(None)

    def make_channel(self) -> HTTPChannel:
        """
        Make a channel, and count it until its connection is over or given away.
        """
        return self._counted(self.site.make_channel())

    def count(self, connection: Connection) -> None:
        """
        Count a connection of another kind, until it is over.
        """
        connection.ended = self._end
        self._channels.add(connection)

    def _counted(self, channel: C) -> C:
        channel.ended = self._end
        self._channels.add(channel)
        return channel

    def drain(self) -> Deferred[None]:
        """
        Close idle connections, and the others after the response under way.  Upgraded
        connections end when their protocol or the client ends them.
        """
        for channel in list(self._channels):
            channel.drain()
        drained = self._drained.wait()
        self._look()
        return drained

    def end_streams(self) -> None:
        """
        End event streams, and WebSockets with the code of :meth:`abort`; see :class:`IHost`.
        """
        for channel in list(self._channels):
            if not channel.say_goodbye(SERVICE_RESTART) and hasattr(channel, "end_streams"):
                channel.end_streams()

    def abort(self) -> None:
        """
        Reset every connection, but tell WebSockets before: 1012, *service restart* (RFC
        6455, 7.4, and its registry).
        """
        polite = [channel for channel in self._channels if channel.say_goodbye(SERVICE_RESTART)]
        for channel in self._channels.difference(polite):
            channel.abortConnection()
        if polite:
            self._readiness.call_later(FAREWELL_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        for channel in list(self._channels):
            channel.abortConnection()

    def stop(self) -> Deferred[None]:
        """
        Flush the access log, and release the timers.
        """
        self.site.stopFactory()
        return succeed(None)

    def _end(self, channel: Connection) -> None:
        self._channels.discard(channel)
        if self._quiet:
            for busy, _ in self._quiet:
                busy.discard(channel)
            self._look_for_quiet()
        if self._drained:
            self._look()

    def _look(self) -> None:
        if not self._channels:
            self._drained.fire()

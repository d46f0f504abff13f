"""
The host for a tree of twisted.web resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from stickyd.interfaces import IHost
from stickyd.serve.http.access_log import AccessLog
from stickyd.serve.http.shared import Shared
from stickyd.serve.http.site import HTTPSite
from stickyd.serve.http.sticky import StickySite
from stickyd.worker.transport import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket
    from typing import TextIO

    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.web.resource import IResource

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.http.channel import HTTPChannel
    from stickyd.serve.http.limits import HTTPLimits
    from stickyd.serve.http.shared import Route
    from stickyd.serve.reception import Reception
    from stickyd.sessions.registry import SessionRegistry


@implementer(IHost)
class ResourceHost:
    """
    Serves a tree of resources over HTTP/1.1.

    :ivar site: what requests know as ``request.site``; its sessions and
        ``displayTracebacks`` are twisted.web's.
    """

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        readiness: IReadiness,
        sessions: SessionRegistry | None = None,
        limits: HTTPLimits | None = None,
        access_log: TextIO | None = None,
        route: Route | None = None,
        reception: Reception | None = None,
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
        :param route: see :class:`stickyd.serve.http.shared.Shared`.
        :param reception: the same.
        """
        log = None if access_log is None else AccessLog(access_log, clock)
        shared = Shared(clock, limits, route, reception=reception)
        self.site = (
            HTTPSite(root, shared, log)
            if sessions is None
            else StickySite(root, shared, log, sessions)
        )
        self._readiness = readiness
        self._channels: set[HTTPChannel] = set()
        self._drained: list[Deferred[None]] = []
        self._quiet: list[tuple[set[HTTPChannel], Deferred[None]]] = []

    @property
    def connections(self) -> int:
        """
        How many connections are open.
        """
        return len(self._channels)

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
        channel = self.make_channel()
        channel.came = handoff
        SocketTransport(self._readiness, sock, peer, handoff.unread).start(channel)

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
        busy = {channel for channel in going if channel in self._channels and channel.busy}
        quiet: Deferred[None] = Deferred()
        self._quiet.append((busy, quiet))
        self._look_for_quiet()
        return quiet

    def _look_for_quiet(self) -> None:
        for entry in [entry for entry in self._quiet if not entry[0]]:
            self._quiet.remove(entry)
            entry[1].callback(None)

    def make_channel(self) -> HTTPChannel:
        """
        Make a channel, and count it until its connection is over or given away.
        """
        channel = self.site.make_channel()
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
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        self._look()
        return drained

    def abort(self) -> None:
        """
        Reset every connection.
        """
        for channel in list(self._channels):
            channel.abortConnection()

    def stop(self) -> Deferred[None]:
        """
        Flush the access log, and release the timers.
        """
        self.site.stopFactory()
        return succeed(None)

    def _end(self, channel: HTTPChannel) -> None:
        self._channels.discard(channel)
        if self._quiet:
            for busy, _ in self._quiet:
                busy.discard(channel)
            self._look_for_quiet()
        if self._drained:
            self._look()

    def _look(self) -> None:
        if not self._channels:
            drained, self._drained = self._drained, []
            for waiting in drained:
                waiting.callback(None)

"""
The host for ASGI 3 applications: uvicorn's protocols on adopted connections.

uvicorn's own server is not used: it listens, forks and takes signals, which are the
primary's business here.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from uvicorn.server import ServerState
from zope.interface import implementer

from stickyd.handoff.frame import Flag
from stickyd.interfaces import IHost
from stickyd.net.addresses import local_address
from stickyd.net.asyncio_transport import LoopTransport
from stickyd.net.brief_watches import end_brief_watches, watching_briefly
from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.asgi.access import LoggedApplication
from stickyd.serve.asgi.config import AsgiOptions, configure
from stickyd.serve.asgi.connections import UvicornConnections
from stickyd.serve.asgi.context import AsgiContext
from stickyd.serve.asgi.http import HttpProtocol
from stickyd.serve.asgi.lifespan import Lifespan
from stickyd.serve.asgi.stickiness import sticky
from stickyd.serve.open_connections import FAREWELL_SECONDS, OpenConnections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket

    from twisted.internet.interfaces import IAddress

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.asgi.lifespan import AsgiApplication
    from stickyd.serve.http.context import Route
    from stickyd.serve.stickiness import Stickiness
    from stickyd.serve.tls.server import ServerTls
    from stickyd.serve.tls.transport import TlsTransport

#: What uvicorn asks a transport for, to see whether the client speaks TLS.
_SECURE = {"sslcontext": True}


@implementer(IHost)
class AsgiHost:
    """
    Serves an ASGI application over HTTP/1.1 and WebSocket.
    """

    _log = Logger()

    def __init__(
        self,
        application: AsgiApplication,
        loop: asyncio.AbstractEventLoop,
        name: str = "the ASGI application",
        options: AsgiOptions | None = None,
        tls: ServerTls | None = None,
        access_log: AccessLog | None = None,
        route: Route | None = None,
        stickiness: Stickiness | None = None,
    ) -> None:
        """
        :param loop: the worker's; it runs when connections come.
        :param name: the application, for errors.
        :param tls: what connections are encrypted with, or :obj:`None` for plain ones.
        :param access_log: where to write about requests; closed by :meth:`stop`.
        :param route: see :class:`stickyd.serve.http.context.HTTPContext`.
        :param stickiness: the same.
        """
        options = AsgiOptions() if options is None else options
        self._loop = loop
        # An asyncio loop has all the methods of a readiness.
        self._readiness = watching_briefly(cast("IReadiness", loop))
        self._lifespan = Lifespan(application, loop, name, options.lifespan)
        self._access_log = access_log
        if access_log is not None:
            application = LoggedApplication(application, access_log)
        if stickiness is not None:
            # Before the log, which so knows the client as the application does.
            application = sticky(application, stickiness)
        self._config = configure(application, options)
        self._tls = tls
        self._open = OpenConnections(loop.call_later, options.counts.page)
        self._state = ServerState()
        self._state.connections = UvicornConnections(self._open)
        self._context = AsgiContext(
            self._config,
            self._state,
            self._lifespan.state,
            loop,
            options.limits,
            route,
            options.counts,
            is_logged=access_log is not None,
        )
        if options.forwarded is not None:
            self._context.blocks.call_for_forwarded(options.forwarded)
        self._draining = False
        self._given_up = False
        self._clock: asyncio.TimerHandle | None = None

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

    @property
    def requests(self) -> int:
        """
        How many requests were answered.
        """
        return self._state.total_requests

    def start(self) -> Deferred[None]:
        """
        Have the application start; see :class:`IHost`.
        """
        self._renew_date()
        return self._deferred(self._lifespan.startup())

    def adopt(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Serve a connection; see :class:`IHost`.
        """
        if self._tls is not None and not handoff.flags & Flag.SECURE:
            # Not asked for what it imports unless there is TLS.
            from stickyd.serve.tls.loop_transport import TlsLoopProtocol

            handshake = self._open.add(
                TlsLoopProtocol(lambda: self._make_protocol(handoff), handoff, self._open.remove)
            )
            tls = self._tls.accept(
                lambda _: handshake, None if self._context.route is None else self._open_tunnel
            )
            SocketTransport(
                self._readiness,
                sock,
                peer,
                handoff.unread,
                stall_seconds=self._context.limits.stall,
            ).start(tls)
            return
        protocol = self._make_protocol(handoff)
        transport = LoopTransport(
            self._readiness,
            sock,
            peer,
            handoff.unread,
            local_address(handoff.local),
            self._context.limits.stall,
            _SECURE if handoff.flags & Flag.HTTPS else None,
        )
        transport.start(protocol)
        protocol.await_first_request()

    def _make_protocol(self, handoff: Handoff) -> HttpProtocol:
        protocol = HttpProtocol(self._context, handoff)
        if self._draining:
            protocol.finish_soon()
        return protocol

    def _open_tunnel(self, tls: TlsTransport) -> socket:
        from stickyd.serve.tls.tunnel import Tunnel

        return self._open.add(Tunnel(self._readiness, tls, self._open.remove)).open()

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
        Give connections away between two requests; see :class:`IHost`.
        """
        return self._open.give_away(goes, give)

    def drain(self) -> Deferred[None]:
        """
        Close idle connections, and the others after the response under way.  WebSockets
        go on until one side ends them, or until :meth:`abort`.

        :return: fires when no connection is left, and no task that the application has
            still to finish for one that is gone.
        """
        self._draining = True
        drained: Deferred[None] = Deferred()
        self._open.drain().addCallback(lambda _: self._finish_tasks(drained))
        return drained

    def end_streams(self) -> None:
        """
        End event streams, and WebSockets as :meth:`abort` does; see :class:`IHost`.  The
        application gets ``http.disconnect`` or ``websocket.disconnect``.
        """
        self._open.end_streams()

    def abort(self) -> None:
        """
        Close every connection; WebSockets with the code 1012, *service restart* (RFC 6455,
        7.4, and its registry).  What is not over a moment later is cut off, and what the
        application still does is cancelled.
        """
        self._open.abort()
        self._loop.call_later(FAREWELL_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._given_up = True
        for task in list(self._state.tasks):
            task.cancel()

    def _finish_tasks(self, finished: Deferred[None]) -> None:
        """
        Wait for what the application does for connections that are over; no more can come.
        """
        running = [task for task in self._state.tasks if not task.done()]
        if not running or self._given_up:
            finished.callback(None)
        else:
            running[0].add_done_callback(lambda _: self._finish_tasks(finished))

    def stop(self) -> Deferred[None]:
        """
        Have the application shut down; see :class:`IHost`.
        """
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self._access_log is not None:
            self._access_log.close()
        end_brief_watches(self._readiness)
        return self._deferred(self._lifespan.shutdown())

    def _deferred(self, coroutine: Any) -> Deferred[None]:
        return Deferred.fromFuture(self._loop.create_task(coroutine))

    def _renew_date(self) -> None:
        now = time.time()
        date = (b"date", formatdate(now, usegmt=True).encode())
        fields = self._state.default_headers = [date, *self._config.encoded_headers]
        self._context.stock_fields = b"".join(b"%b: %b\r\n" % pair for pair in fields)
        self._clock = self._loop.call_later(1.0 - now % 1.0, self._renew_date)

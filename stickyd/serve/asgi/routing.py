"""
Rehoming connections of ASGI applications: heads are looked at before uvicorn sees them.

uvicorn's parser takes whatever it is fed and tells of it when it is too late to give the
bytes back.  So the stream is taken apart before it, and only what belongs here is fed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stickyd.handoff.frame import say_secure
from stickyd.serve.asgi.http import HttpProtocol
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.splitting import RequestSplitter

if TYPE_CHECKING:
    import asyncio
    from socket import socket

    from stickyd.serve.http.context import Route, Take

#: What is read of a connection that waits to leave.
_READ_AHEAD = 16384


class RoutedProtocol(HttpProtocol):
    """
    One HTTP connection whose requests may belong to others.
    """

    _take: Take | None = None
    _unread = b""  # from the start of the head that is not ours

    def __init__(self, route: Route, *arguments: Any) -> None:
        """
        :param route: see :class:`stickyd.serve.http.context.Shared`.
        :param arguments: :class:`HttpProtocol`'s.
        """
        super().__init__(*arguments)
        self._route = route

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        self._splitter = RequestSplitter(self.limits)
        super().connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._take is not None:
            self._unread += data
            if len(self._unread) > _READ_AHEAD:
                self.transport.pause_reading()
            return
        ours = self._ours_of(data)
        if ours:
            super().data_received(ours)
        if self._splitter.partial:
            self._watch_partial()
        if self._unread and self._departure is None:
            self._set_out()

    def _set_out(self) -> None:
        """
        Leave as soon as all requests before are answered.
        """
        if self.when_idle(RoutedProtocol._leave):
            return
        if not getattr(self.transport, "can_divert", False):
            # It is being closed.
            return
        if self._answering() or self.pipeline:
            self.cycle.on_response = self._answered_on_tls
        else:
            self._divert()

    def _answered_on_tls(self) -> None:
        self.on_response_complete()
        self.loop.call_soon(self._divert)

    def _divert(self) -> None:
        """
        Leave, but for the TLS.  What is written and not sent yet stays with that.
        """
        if self.parser is None or not self.transport.can_divert or self._take is None:
            return
        name = self.transport.get_extra_info("sockname")
        say_secure(self.came, name[:2] if isinstance(name, tuple) else None)
        sock = self.transport.divert()
        self._unset_keepalive_if_required()
        self._stop_timers()
        self.connections.discard(self)
        self.parser = None
        self._take(sock, self._unread)

    def _watch_partial(self) -> None:
        self._unset_keepalive_if_required()
        if self._head_timer is None and self.limits.head is not None:
            self._head_timer = self.loop.call_later(
                self.limits.head, self._refuse, RequestError(408, "too slow")
            )

    def _ours_of(self, data: bytes) -> bytes:
        """
        Give what of the input is to be served here.
        """
        splitter = self._splitter
        if splitter.opaque:
            return data
        ours = []
        while data and not splitter.opaque:
            if splitter.in_body:
                piece, data = splitter.body(data)
                ours.append(piece)
                continue
            head, piece, data = splitter.head(data)
            if head is not None:
                self._take = self._route(head, self.came)
                if self._take is not None:
                    self._unread = piece + data
                    return b"".join(ours)
            ours.append(piece)
        ours.append(data)
        return b"".join(ours)

    @override
    def detach(self) -> tuple[socket, bytes]:
        sock, unread = super().detach()
        self._stop_timers()
        return sock, self._splitter.partial + self._unread + unread

    @override
    def _depart(self) -> None:
        # Whoever else waited for us to be idle may have let us stay.
        super()._depart()
        self._leave(self)

    @staticmethod
    def _leave(connection: HttpProtocol) -> None:
        """
        Give the connection to whom the route named, unless it is over.
        """
        assert isinstance(connection, RoutedProtocol)
        if connection._take is not None and connection.parser is not None and connection.idle:
            sock, unread = connection.detach()
            connection._take(sock, unread)

    @override
    def shutdown(self) -> None:
        if self._splitter.partial:
            self._finishing = True
            return
        super().shutdown()

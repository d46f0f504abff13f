"""
Rehoming connections of ASGI applications: heads are looked at before uvicorn sees them.

uvicorn's parser takes whatever it is fed and tells of it when it is too late to give the
bytes back.  So the stream is taken apart before it, and only what belongs here is fed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stickyd.serve.asgi_http import HttpProtocol
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.splitting import RequestSplitter

if TYPE_CHECKING:
    from socket import socket

    from stickyd.serve.http.shared import Route, Take

#: What is read of a connection that waits to leave.
_READ_AHEAD = 16384

# uvicorn serves requests without Host.
_LIMITS = HTTPLimits(host_required=False)


class RoutedProtocol(HttpProtocol):
    """
    One HTTP connection whose requests may belong to others.
    """

    _take: Take | None = None
    _unread = b""  # from the start of the head that is not ours

    def __init__(self, route: Route, *arguments: Any) -> None:
        """
        :param route: see :class:`stickyd.serve.http.shared.Shared`.
        :param arguments: :class:`HttpProtocol`'s.
        """
        super().__init__(*arguments)
        self._route = route
        self._splitter = RequestSplitter(_LIMITS)

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
        self._leave_if_idle()

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

    @property
    def idle(self) -> bool:
        """
        Whether the connection is between two requests and nothing is left to write.
        """
        cycle = self.cycle
        return (
            not self._splitter.opaque
            and not self._splitter.in_body
            and not self._head_begun()
            and (cycle is None or cycle.response_complete)
            and not self.pipeline
            and self.can_move
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        )

    @override
    def detach(self) -> tuple[socket, bytes]:
        partial = self._splitter.partial
        sock, unread = super().detach()
        return sock, partial + unread

    @override
    def _leave_if_idle(self) -> None:
        if self._take is None:
            super()._leave_if_idle()
            return
        if self.parser is None or self.transport.is_closing():
            return
        if self.idle:
            sock, rest = self.detach()
            self._tell_gone()
            self._take(sock, self._unread + rest)
        elif self._answered():
            self.transport.call_when_sent(self._leave_if_idle)

    def _answered(self) -> bool:
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._take is not None and self._give is None:
            # A turn later: uvicorn is in the middle of writing.
            self.loop.call_soon(self._leave_if_idle)

    @override
    def shutdown(self) -> None:
        if self._take is not None:
            return
        if self._splitter.partial:
            self._finishing = True
            return
        super().shutdown()

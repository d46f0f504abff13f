"""
HTTP/1.1 for ASGI applications: uvicorn's protocol, able to finish well and to move.

What of uvicorn's internals this module and :mod:`stickyd.serve.asgi` stand on:
``HttpToolsProtocol``'s attributes ``transport``, ``scope`` (a new one when a request
begins), ``cycle`` (made of that scope when its head is complete; ``response_complete``,
``keep_alive``, ``more_body``), ``pipeline``, ``parser``, ``timeout_keep_alive_task`` and
``connections``; that every protocol adds itself to ``ServerState.connections`` and takes
itself out by ``discard`` or ``remove``; ``ServerState.tasks`` and ``default_headers``;
and ``shutdown()`` of the WebSocket protocols.  A test holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from zope.interface import implementer

from stickyd.interfaces import IDetachable
from stickyd.worker.transport_loop import LoopTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from socket import socket

    from stickyd.handoff.frame import Handoff

    Give = Callable[[socket, bytes, Handoff], None]


class OpenConnections(set[Any]):
    """
    The connections that uvicorn's protocols count, which tells when it may have become
    empty.  A WebSocket leaves it as HTTP and enters it anew: look again a turn later.
    """

    def __init__(self, emptied: Callable[[], object]) -> None:
        super().__init__()
        self._emptied = emptied

    @override
    def discard(self, connection: Any) -> None:
        super().discard(connection)
        if not self:
            self._emptied()

    @override
    def remove(self, connection: Any) -> None:
        super().remove(connection)
        if not self:
            self._emptied()


@implementer(IDetachable)
class HttpProtocol(HttpToolsProtocol):
    """
    One HTTP connection.
    """

    # None at first, and the parser at the end; uvicorn does not say so.
    transport: Any
    scope: Any
    cycle: Any
    parser: Any

    came: Handoff
    _finishing = False  # the next response is the last
    _give: Give | None = None
    _gone: Deferred[None] | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        # uvicorn's own timer runs only after a response: a client that never sends
        # anything would keep its descriptor for good.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn leaves the timer of a connection that was reset, and all that hangs on it.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._tell_gone()

    @override
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._finishing and self.cycle is not None:
            self.cycle.keep_alive = False

    def _head_begun(self) -> bool:
        """
        Whether a part of a request's head has come, which the parser has swallowed.
        """
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def idle(self) -> bool:
        """
        Whether the connection is between two requests and nothing is left to write.

        :obj:`False` too if the application has answered before the request's body was
        whole, as nobody counts the rest of it; and on TLS.
        """
        cycle = self.cycle
        return (
            not self._head_begun()
            and (cycle is None or (cycle.response_complete and not cycle.more_body))
            and not self.pipeline
            and isinstance(self.transport, LoopTransport)
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        )

    def detach(self) -> tuple[socket, bytes]:
        """
        Give the connection away; see :class:`stickyd.interfaces.IDetachable`.

        :raise RuntimeError: if it is not idle.
        """
        if not self.idle:
            raise RuntimeError("Only an idle connection can be detached.")
        assert isinstance(self.transport, LoopTransport)
        detached = self.transport.detach()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        # It refers to us and we to it.
        self.parser = None
        return detached

    @property
    def gone(self) -> Deferred[None]:
        """
        Fires when the connection is over, or given away.
        """
        if self._gone is None:
            self._gone = Deferred()
        return self._gone

    def _tell_gone(self) -> None:
        if self._gone is not None and not self._gone.called:
            self._gone.callback(None)

    @property
    def can_move(self) -> bool:
        """
        Whether the connection could be given away between two requests.
        """
        return isinstance(self.transport, LoopTransport)

    def release(self, give: Give) -> None:
        """
        Give the connection away: now if it is idle, else after the response under way.
        """
        if not self.can_move:
            self.shutdown()
            return
        self._give = give
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._give is not None and self.parser is not None and self.idle:
            sock, unread = self.detach()
            self._tell_gone()
            self._give(sock, unread, self.came)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._give is not None:
            # A turn later: uvicorn may have bytes of the next request in hand.
            self.loop.call_soon(self._leave_if_idle)

    @override
    def shutdown(self) -> None:
        """
        Close the connection now if nothing is under way, else after the response, which
        says ``Connection: close`` if its head is not written yet.
        """
        if self._give is not None and self.can_move:
            # It is given away as soon as it can be, which is better than closed.
            return
        self._finishing = True
        if self._head_begun():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def finish_soon(self) -> None:
        """
        Answer one request at most.
        """
        self._finishing = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

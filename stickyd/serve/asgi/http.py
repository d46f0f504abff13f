"""
HTTP/1.1 for ASGI applications: uvicorn's protocol, able to finish well and to move.

What of uvicorn's internals this module and :mod:`stickyd.serve.asgi.host` stand on:
``HttpToolsProtocol``'s attributes ``transport``, ``flow``, ``parser``, ``pipeline``,
``connections``, ``timeout_keep_alive_task``, ``scope`` (a new one when a request begins)
and ``cycle`` (made of that scope when its head is complete; ``response_complete``,
``keep_alive``, ``body``, ``more_body``, ``on_response``); that every protocol adds itself to
``ServerState.connections`` and takes itself out by ``discard`` or ``remove``;
``ServerState.tasks``, ``total_requests`` and ``default_headers``; and ``shutdown()`` of
the WebSocket protocols.  A test holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from zope.interface import implementer

from stickyd.interfaces import IDetachable
from stickyd.net.asyncio_transport import LoopTransport
from stickyd.serve.asgi.strict import StrictProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from socket import socket

    from stickyd.handoff.frame import Handoff


#: Seconds until a connection that shall be given away is looked at again, while the client
#: has not taken all of its answer.
UNSENT_SECONDS = 0.1


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
class HttpProtocol(StrictProtocol):
    """
    One HTTP connection.
    """

    #: How it came to us.
    came: Handoff

    _finishing = False  # the next response is the last
    _departure: Callable[[HttpProtocol], object] | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if not isinstance(transport, LoopTransport):
            self.await_first_request()

    def await_first_request(self) -> None:
        """
        Close the connection if nothing comes on it.  Called once what had come before it
        was adopted is read, since most requests have: a timer less for each.

        uvicorn's own timer runs only after a response: a client that never sends anything
        would keep its descriptor for good.
        """
        if self.scope is None and not self.transport.is_closing():
            self._await_request(self.limits.first if self._finishing else self.timeout_keep_alive)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._depart()

    @override
    def on_headers_complete(self) -> None:
        first = self.cycle is None
        super().on_headers_complete()
        if self.cycle is None:
            return  # It asks for a WebSocket.
        if first:
            # An application that answers at once and a client that asks once never touch
            # epoll so.
            self.flow.pause_reading()
            self.loop.call_soon(self._watch_client)
        if self._departure is not None:
            self.cycle.on_response = self._answered
        elif self._finishing:
            self.cycle.keep_alive = False

    def _watch_client(self) -> None:
        # Else uvicorn has reasons of its own to pause, and resumes by itself.
        if not self.pipeline and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    @override
    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._depart()

    def _head_begun(self) -> bool:
        """
        Whether a part of a request's head has come, which the parser has swallowed.
        """
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def idle(self) -> bool:
        """
        Whether the connection is between two requests and nothing is left to write.
        Never on TLS.
        """
        cycle = self.cycle
        return (
            not self._head_begun()
            and (cycle is None or (cycle.response_complete and not cycle.more_body))
            and isinstance(self.transport, LoopTransport)
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        )

    @property
    def undecided(self) -> bool:
        """
        Whether a request is under way that the application has not begun to answer.
        """
        return self._head_begun() or (self._answering() and not self.cycle.response_started)

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

    def when_idle(self, departure: Callable[[HttpProtocol], object]) -> bool:
        """
        Have a function called with us, once: as soon as we are idle, or over, or a
        WebSocket.

        :return: whether we can ever be idle; if not, nothing is called.
        """
        if not isinstance(self.transport, LoopTransport) or self.transport.is_closing():
            return False
        self._departure = departure
        if self._answering():
            self.cycle.on_response = self._answered
        elif not self._head_begun():
            self._look()
        return True

    def _answered(self) -> None:
        self.on_response_complete()
        # What was written leaves in the next turn, before this call.
        self.loop.call_soon(self._look)

    def _look(self) -> None:
        if self._departure is None or self._head_begun() or self._answering():
            return
        if self.idle:
            self._depart()
        elif not self.transport.is_closing():
            # The client has not taken its answer yet, or has not sent all of its request.
            self.loop.call_later(UNSENT_SECONDS, self._look)

    def _depart(self) -> None:
        departure, self._departure = self._departure, None
        if departure is not None:
            departure(self)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @override
    def shutdown(self) -> None:
        """
        Close the connection now if nothing is under way, or after a moment if it is TLS;
        else after the response, which says ``Connection: close`` if its head is not written
        yet.  One that departs is left alone.
        """
        self._finishing = True
        if self._departure is not None or self._head_begun():
            return
        if self._answering():
            self.cycle.keep_alive = False
        elif self.scheme == "https":
            # Unlike a plain one it is drained at a reload too, and the next request may be on
            # its way: it is answered, and the answer says that it is the last.
            self._await_request(self.limits.first)
        else:
            self.transport.close()

    def finish_soon(self) -> None:
        """
        Answer one request at most.
        """
        self._finishing = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

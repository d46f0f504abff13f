"""
HTTP/1.1 for ASGI applications: our reader, and uvicorn's request and response.

Theory of operation.  As for resources (:mod:`stickyd.serve.http.connection`) there is one
request at a time: the next head is read when the answer before it is complete and its body
has come.  So what was not consumed is known to the byte, and a connection between two
requests can be given away with it.

===========  ==================  ======================================================
``in_body``  ``cycle``           what is going on
===========  ==================  ======================================================
no           none, or complete   a head is awaited; or the connection leaves
yes          under way           the body comes, and the application may answer
no           under way           the application answers; what comes waits in the reader
yes          complete            answered early: the rest of the body is dropped
===========  ==================  ======================================================

What of uvicorn's internals this package stands on: ``RequestResponseCycle``'s attributes
``response_started``, ``response_complete``, ``keep_alive``, ``body``, ``more_body``,
``disconnected``, ``expected_content_length`` and ``on_response``; ``FlowControl``;
``STATUS_LINE``; that every protocol adds itself to ``ServerState.connections`` and takes itself
out by ``discard`` or ``remove``; ``ServerState.tasks``, ``total_requests`` and
``default_headers``; and of its WebSocket protocols the parameters, ``shutdown()``, and what
:mod:`stickyd.serve.asgi.websocket` uses.  A test holds them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from zope.interface import implementer

from stickyd.affinity.client_identity import BY_KEY, HANDOFF, IDENTITY, note_client
from stickyd.interfaces import IDetachable
from stickyd.net.asyncio_transport import LoopTransport
from stickyd.serve.asgi.context import party_of
from stickyd.serve.asgi.cycle import PATHSEND, Cycle
from stickyd.serve.asgi.deadline import Deadline
from stickyd.serve.asgi.departure import Departure, is_quiet
from stickyd.serve.asgi.flow import Flow
from stickyd.serve.asgi.websocket_start import start_websocket
from stickyd.serve.http.half_close import HalfClosed
from stickyd.serve.http.head import HTTP_1_1, RequestError, resolve
from stickyd.serve.http.reader import Reader
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import REQUEST, UnderWay

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.asgi.context import AsgiContext
    from stickyd.serve.http.context import Take

#: Seconds that an application gets to end a response that we have ended for the client.
HEARING_SECONDS = 1.0


@implementer(IDetachable, IServedConnection)
class HttpProtocol(asyncio.Protocol):
    """
    One HTTP connection.

    It is one class, though a long one, because uvicorn's cycle, the transport, the deadline and
    the host each ask it by name about the one state of the table above.

    :ivar handoff: what brought it.
    :ivar transport: a :class:`LoopTransport`, or what stands for it on TLS.
    :ivar flow: whether it is read and written.
    :ivar cycle: uvicorn's, of the last request; :obj:`None` before the first.
    """

    descriptors = 1
    unanswered: tuple[Any, ...] = ()  # ASGI applications have none of our sessions
    transport: Any
    flow: Flow
    cycle: Cycle | None = None

    _unsent_bytes = 0  # when the deadline for taking some of it was set
    _head_awaited = False  # the deadline is that of a head that has begun
    _finishing = False  # the next response is the last
    _refused = False  # nothing is read any more
    _over = False  # the connection has ended, was given away or is a WebSocket
    _half_closed: HalfClosed | None = None  # the client has shut its side while it waits
    _departure: Departure | None = None  # somebody waits for the connection
    _takes_files = False  # the transport has the kernel copy them

    def __init__(self, context: AsgiContext, handoff: Handoff) -> None:
        """
        Serve a connection.
        """
        self.handoff = handoff
        self._context = context
        self._reader = Reader(context.blocks)
        self._deadline = Deadline(context.loop, self._expire)

    def under_way(self) -> list[UnderWay]:
        """
        The request of the cycle, if it is not answered.
        """
        cycle = self.cycle
        if cycle is None or not cycle.begun_ns:
            return []
        scope: Any = cycle.scope
        method, path = scope["method"].encode("latin-1"), scope["raw_path"]
        return [UnderWay(REQUEST, cycle.begun_ns, method, path, cycle.status)]

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Called when the transport is ready.
        """
        self._context.state.connections.add(self)  # type: ignore[arg-type]  # of uvicorn's own
        self.transport = transport
        ours: asyncio.Transport = self.transport
        self.flow = Flow(ours)
        self._party = party_of(ours)
        if isinstance(transport, LoopTransport):
            self._takes_files = True
        else:
            self.await_first_request()

    def await_first_request(self) -> None:
        """
        Close the connection if nothing comes on it.  Called when what came with the connection
        is read: most bring their first request, and so need no timer.
        """
        if self.cycle is None and not self._over and not self._reader.waiting_bytes:
            limits = self._context.limits
            self._deadline.expect(limits.first if self._finishing else limits.idle)

    def data_received(self, data: bytes) -> None:
        """
        Called with what the client sent.
        """
        if not self._refused:
            self._reader.feed(data)
            self._advance()

    def eof_received(self) -> bool:
        """
        Called when the client will send no more: a request that is whole is answered (RFC
        9112, 9.6), then the connection is closed.

        :return: whether it stays open.
        """
        if self._reader.in_body:
            return False  # It will never be whole.
        cycle = self.cycle
        if cycle is None or not self._answering:
            return self._leaving
        cycle.probe()
        self._half_closed = HalfClosed(
            self._context.loop.call_later, self.transport, self.transport.abort
        )
        return True

    def pause_writing(self) -> None:
        """
        Called by the transport when it holds too much.
        """
        self.flow.pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """
        Called by the transport when it has room again.
        """
        self.flow.resume_writing()
        if not self.transport.is_closing():
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Called when the connection is over.
        """
        self._leave_context()
        cycle = self.cycle
        if cycle is not None:
            if not cycle.response_complete:
                cycle.disconnected = True
            if cycle.begun_ns:
                cycle.begun_ns = 0
                self._context.counts.drop(cycle.status)
            cycle.wake()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()

    def _leave_context(self) -> None:
        self._stop()
        self._context.state.connections.discard(self)

    def _stop(self) -> None:
        self._over = True
        self._departure = None  # which refers to us
        self._deadline.stop()
        if self._half_closed is not None:
            self._half_closed.stop()

    # Requests, one after the other.

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _leaving(self) -> bool:
        return self._departure is not None

    def _advance(self) -> None:
        """
        Take from the reader what can be served now.
        """
        reader = self._reader
        try:
            while True:
                if reader.in_body:
                    self._read_body()
                    if reader.in_body:
                        break
                elif self.cycle is not None and not self.cycle.response_complete:
                    if not reader.dry and (
                        reader.waiting_bytes > self._context.limits.read_ahead_bytes
                    ):
                        self.flow.hold()
                    break
                elif self._departure is not None:
                    self.flow.hold()
                    self._departure.settle_soon()
                    break
                elif self.transport.is_closing() or not reader.read_head():
                    break
                elif not self._begin():
                    return
        except RequestError as error:
            self._refuse(error)
            return
        self._watch()

    def _begin(self) -> bool:
        """
        Do what the head that was read asks for.

        :return: whether the connection goes on here.
        """
        reader, context = self._reader, self._context
        self._head_awaited = False
        if context.route is not None:
            take = context.route(reader.head, self.handoff)
            if take is not None:
                reader.put_back()
                # What is read must fit into a handoff; nobody here wants it anyway.
                self.flow.hold()
                self._deadline.expect(None)
                self._depart(take, None)
                return False
        fields = reader.fields
        assert fields is not None
        method, target, _ = reader.line
        if target[0] != 47:  # a slash
            target, fields = resolve(method, target, fields)
        if (
            fields.offers == (b"websocket",)
            and method == b"GET"
            and not reader.in_body
            and context.config.ws_protocol_class is not None
        ):
            self._become_websocket(target, fields.pairs)
            return False
        self._start(target, fields.pairs, fields.expects, not fields.close)
        return True

    def _start(
        self, target: bytes, pairs: list[tuple[bytes, bytes]], expects: bool, persistent: bool
    ) -> None:
        """
        Have the application called.
        """
        reader, context = self._reader, self._context
        modern = reader.line[2] is HTTP_1_1
        first = self.cycle is None
        scope = context.scope_of(self._party, reader.line, target, pairs)
        handoff = self.handoff
        scope[IDENTITY] = handoff.key if handoff.slot == BY_KEY else handoff.identity
        note_client(scope, handoff)
        if context.is_logged:
            scope[HANDOFF] = handoff
        if self._takes_files:
            scope["extensions"] = {PATHSEND: {}}
        self.cycle = cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            context.stock_fields,
            expects and modern,
            modern and persistent and not self._finishing,
            self._answered,
        )
        cycle.begun_ns = context.counts.begin()
        if reader.in_body:
            self._client_is_sending(True)
        else:
            cycle.more_body = False
            cycle.heard = True
        context.run(cycle)
        if first:
            # So a request that is answered at once, on a connection of its own, costs no call
            # of epoll.
            self.flow.pause_reading()
            context.loop.call_soon(self._watch_client)

    def _watch_client(self) -> None:
        # Else uvicorn has reasons of its own to pause, and resumes by itself.
        if not self._over and self.cycle is not None and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def _read_body(self) -> None:
        reader, cycle = self._reader, self.cycle
        assert cycle is not None
        piece = reader.read_body()
        if not reader.in_body:
            cycle.more_body = False
            self._client_is_sending(False)
        if cycle.response_complete:
            return  # Nobody waits for it any more.
        if piece:
            cycle.body += piece
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
        if piece or not cycle.more_body:
            cycle.wake()

    def _client_is_sending(self, sending: bool) -> None:
        """
        Have a close linger, so that the client gets the answer and not a reset.
        """
        self.transport.lingering = sending

    def _answered(self) -> None:
        """
        Called by the cycle when its response is complete.
        """
        self._context.state.total_requests += 1
        cycle = self.cycle
        if cycle is not None and cycle.begun_ns:
            self._context.counts.end(cycle.status, cycle.begun_ns)
            cycle.begun_ns = 0
        if self.transport.is_closing():
            # Our own transport sees itself to a client that takes nothing, and most take all.
            if not isinstance(self.transport, LoopTransport):
                self._await_taking()
            return
        self.flow.resume_reading()
        if self._departure is not None:
            self._departure.settle_soon()
            return
        self.flow.unhold()
        if self._reader.dry:
            self._watch()
        else:
            self._advance()
        if self._half_closed is not None and not (self._answering or self._leaving):
            self.transport.close()

    def _become_websocket(self, target: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
        """
        Give the connection's bytes to a WebSocket from now on.
        """
        self._stop()
        context = self._context
        try:
            start_websocket(
                context,
                self.transport,
                target,
                pairs,
                self._reader.take_rest(),
                self.handoff,
            )
        finally:
            # Only now, when the host has counted the other one.
            context.state.connections.discard(self)

    # What is not good enough, or not in time.

    def _watch(self) -> None:
        """
        Set the deadline for what is awaited.
        """
        reader, cycle = self._reader, self.cycle
        if self.flow.write_paused:
            return  # It is the client's turn to take something.
        if reader.in_body:
            self._deadline.expect(self._context.limits.body)
        elif (cycle is not None and not cycle.response_complete) or self._departure is not None:
            self._deadline.expect(None)
        elif reader.dry:
            self._deadline.expect(self._context.limits.idle)
        elif not self._head_awaited:
            self._head_awaited = True
            self._deadline.expect(self._context.limits.head)

    def _await_taking(self) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._deadline.expect(self._context.limits.stall)

    def _expire(self) -> None:
        """
        Called when the client has been too slow.
        """
        if self.flow.write_paused or self.transport.is_closing():
            if self.transport.get_write_buffer_size() < self._unsent_bytes:
                self._await_taking()
            else:
                self.transport.abort()
        elif self._reader.in_body:
            if self._answering and self.flow.read_paused:
                self._watch()  # It is the application that takes its time.
            else:
                self._refuse(RequestError(408, "too slow"))
        elif self._reader.waiting_bytes:
            self._refuse(RequestError(408, "too slow"))
        else:
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """
        Read nothing more, say why if nothing else is being said, and close.
        """
        self._refused = True
        self._client_is_sending(True)
        cycle = self.cycle
        if cycle is not None and (self._answering or self._reader.in_body):
            # Its body is broken off.  The application is told that the client is gone.
            cycle.disconnected = True
            cycle.wake()
        if cycle is None or not cycle.more_body or cycle.is_silent:
            self.transport.write(self._context.refusal(error.status))
            self._count_refusal(error.status)
        self.transport.close()
        self._await_taking()

    def _count_refusal(self, status: int) -> None:
        cycle, counts = self.cycle, self._context.counts
        if cycle is None or not cycle.begun_ns:
            counts.refuse(status)
        elif cycle.is_silent:
            counts.end(status, cycle.begun_ns)
            cycle.begun_ns = 0

    # Leaving.

    @property
    def idle(self) -> bool:
        """
        Whether the connection is between two requests and nothing is left to write.
        Never on TLS.
        """
        return not self._under_way() and is_quiet(self.transport)

    def _under_way(self) -> bool:
        return self._over or self._answering or self._reader.in_body

    @property
    def busy(self) -> bool:
        """
        Whether a request is under way that the application has not begun to answer.
        """
        return self.cycle is not None and self._answering and not self.cycle.response_started

    def detach(self) -> tuple[socket, bytes]:
        """
        Give the connection away; see :class:`stickyd.interfaces.IDetachable`.

        :raise RuntimeError: if it is not idle.
        """
        if not self.idle:
            raise RuntimeError("Only an idle connection can be detached.")
        sock, rest = self.transport.detach()
        return sock, self._let_go() + rest

    def _let_go(self) -> bytes:
        self._leave_context()
        return self._reader.take_rest()

    def give_away(self, goes: Callable[[Handoff], bool], take: Take) -> None:
        """
        Have somebody else serve the connection, as soon as it is idle.  One on TLS, whose
        state cannot go along, is closed instead.
        """
        if not isinstance(self.transport, LoopTransport) or self.transport.is_closing():
            self.drain()
            return
        departure = self._departure
        if departure is not None and departure.routed:
            return  # It goes in any case.
        if departure is not None:
            departure.cancel()
        self._depart(take, goes)

    def _depart(self, take: Take, goes: Callable[[Handoff], bool] | None) -> None:
        self._departure = Departure(
            self._context.loop,
            self.transport,
            self.handoff,
            take,
            goes,
            self._under_way,
            self._let_go,
            self._stay,
        )
        self._departure.settle()

    def _stay(self) -> None:
        """
        Go on here after all.
        """
        self._departure = None
        if self._finishing:
            self.drain()
        else:
            self.flow.unhold()
            self._advance()

    def drain(self) -> None:
        """
        Close the connection now if nothing is under way, or after a moment if it is TLS;
        else after the response, which says ``Connection: close`` if its head is not written
        yet.  One that is leaving already is left alone.
        """
        self._finishing = True
        if self._leaving:
            return
        if self.cycle is not None and self._answering:
            self.cycle.keep_alive = False
        elif self._reader.waiting_bytes:
            return  # A head has begun to come: it is answered, as the last.
        elif self._party[2] == "https":
            # Unlike a plain one it is drained at a reload too, and the next request may be on
            # its way: it is answered, and the answer says that it is the last.
            self._deadline.expect(self._context.limits.first)
        else:
            self.transport.close()

    def say_goodbye(self, code: int) -> bool:
        """
        A WebSocket is another connection.
        """
        return False

    def end_streams(self) -> None:
        """
        End the response under way if it is an event stream, whose client comes again.  A call
        of the application that has not ended a moment later is cancelled.
        """
        cycle = self.cycle
        if cycle is not None and self._answering and cycle.streams_events:
            cycle.end()
            self._context.loop.call_later(HEARING_SECONDS, cycle.cancel)

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """
        Cut the connection off.
        """
        self.transport.abort()

    def finish_soon(self) -> None:
        """
        Answer one request at most.
        """
        self._finishing = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

# ruff: noqa: N802, N815 - the camelCase names are Twisted's
"""
An HTTP/1.1 connection, server side.

Theory of operation.  A head is found by its end, taken apart in one go and served at once;
while a request is being answered, further bytes wait in the reader.  So there is never more
than one request, what was not consumed is always known to the byte, and a connection
between two requests can be given away with it.  The states stand in
:mod:`stickyd.serve.http.states`.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    ILoggingContext,
    IProtocol,
    IPushProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyd.handoff.frame import Flag
from stickyd.interfaces import IDetachable
from stickyd.serve.http.exchanges import NO_EXCHANGES, Exchanges
from stickyd.serve.http.half_close import HalfClosed
from stickyd.serve.http.head import HTTP_1_1, RequestError, resolve
from stickyd.serve.http.link import Link
from stickyd.serve.http.output import Output
from stickyd.serve.http.reader import Reader
from stickyd.serve.http.request import Request, make_request
from stickyd.serve.http.request_channel import IRequestChannel
from stickyd.serve.http.response_head import write_stock_head
from stickyd.serve.http.states import BODY, BUSY, CLOSING, GONE, HEAD, LEAVING, PASSING
from stickyd.serve.http.upgrade import Upgrade
from stickyd.serve.served_connection import IServedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket

    from twisted.internet.interfaces import IAddress
    from twisted.web.http_headers import Headers

    from stickyd.affinity.peek.http1 import Head
    from stickyd.handoff.frame import Handoff
    from stickyd.net.file_chunk import FileChunk
    from stickyd.serve.http.context import HTTPContext, Route, Take
    from stickyd.serve.stickiness import Exchange


@implementer(
    IProtocol,
    IHalfCloseableProtocol,
    IPushProducer,
    ILoggingContext,
    IRequestChannel,
    IServedConnection,
    IDetachable,
)
class HTTPChannel:
    """
    Serves one connection.

    It is long for the sake of Twisted, to which it is a protocol above, and a transport and
    a consumer below; what it does itself is the order of requests, and who has the
    connection.  Bytes are the reader's and the output's.

    :ivar requestFactory: makes a request for a channel.
    :ivar handoff: what brought it; without one, requests are not routed.
    :ivar connected: as of Twisted's protocols.
    :ivar deadline: for the timer, and ``bucket`` too.
    """

    site: Any = None
    factory: Any = None
    requestFactory: Callable[..., Any] = Request
    descriptors = 1
    handoff: Handoff | None = None
    ended: Callable[[Any], object] | None = None
    persistent = True
    connected = 0
    deadline = inf
    bucket = 0

    # The connection.
    _state = HEAD
    _backlog = False  # what waits in the reader was not looked at, for want of room
    _head_begun = False  # the deadline is that of a head
    _input_over = False  # the client has shut its side
    _resting = False  # nobody looks whether the client says something
    _half_closed: HalfClosed | None = None
    _draining = False
    _route: Route | None = None
    _take: Take | None = None  # gets the connection that is LEAVING
    # Whether it still goes, and who gets it, as soon as it is between two requests.
    _leave: tuple[Callable[[Handoff], bool], Take] | None = None
    _drain_else = False  # to be drained if it does not go after all
    _upgrade: Upgrade | None = None

    # The request.
    _request: Any = None
    _exchanges = NO_EXCHANGES
    _message: tuple[bytes, bytes, bytes] = (b"", b"", b"")
    _body_held = False  # it wants no more of its body for now
    _answered = False  # its response is whole, and held
    exchange: Exchange | None = None  # until the response has a head

    def __init__(self, context: HTTPContext) -> None:
        self.context = context
        self._link = Link()
        self._reader = Reader(context.blocks)
        self._output = output = Output(context.clock)
        self.write = output.write

    # IProtocol, and what the transport calls else.

    def makeConnection(self, transport: Any) -> None:
        self._link.transport = self._output.transport = transport
        self.connected = 1
        self.connectionMade()

    def connectionMade(self) -> None:
        context = self.context
        idle = context.limits.idle
        self.deadline = inf if idle is None else context.deadlines.now + idle
        context.deadlines.add(self)
        if self.handoff is not None and self.handoff.flags & Flag.LAST:
            self._draining = True
        if context.route is not None and (self._link.can_detach or self._link.can_divert):
            self._route = context.route
        self._link.watch(self, True)

    def dataReceived(self, data: bytes) -> None:
        state = self._state
        if state <= BODY and not self._backlog:
            self._reader.feed(data)
            self._advance()
        elif state == PASSING and self._upgrade is not None:
            self._upgrade.feed(data)
        elif state < CLOSING:
            self._reader.feed(data)
            self._bound_waiting()

    def connectionLost(self, reason: Failure) -> None:
        request, upgrade = self._request, self._upgrade
        self._forget()
        try:
            if upgrade is not None:
                upgrade.lost(reason)
        finally:
            if request is not None:
                request.connectionLost(reason)
            self._tell_ended()

    def logPrefix(self) -> str:
        return type(self).__name__

    def pauseProducing(self) -> None:
        """
        Called by the transport when it holds too much: stop the application's producer,
        and read no more requests, whose responses would have nowhere to go.
        """
        self._output.pause()
        if self._output.held:
            return
        if self._state != BUSY:
            self._link.pause()
        self._expect(self.context.limits.stall)

    def resumeProducing(self) -> None:
        if self._state == LEAVING:
            self._try_leave()
            return
        output = self._output
        output.resume()
        if output.full or output.serving:
            return
        if self._state == HEAD:
            self._go_on()
        elif self._state in (BODY, PASSING) and not self._body_held:
            self._link.resume()
            self._expect(self.context.limits.body)

    def stopProducing(self) -> None:
        self._output.stop()

    # ITransport and IConsumer, for requests; ``write`` is the output's.

    @property
    def transport(self) -> Any:
        """
        The transport, for those who take it over.  What was collected for it leaves
        first, and nothing more is collected in this turn.
        """
        if self._output.corked:
            self._output.uncork()
        return self._link.transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._link.transport = self._output.transport = transport

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def answer(self, write: Callable[[], object]) -> None:
        """
        Have the whole response to the request under way written.

        :param write: does that; when it has returned, the connection is closed at once if it
            is to be.
        """
        call = getattr(self._link.transport, "call", None)
        if call is None or self.persistent:
            write()
        else:
            call(write)

    @property
    def takes_files(self) -> bool:
        """
        Whether :meth:`write_file` may be called for the request under way.
        """
        stickiness = self.context.stickiness
        # Nothing but the end of TLS is done to what is written, and it is not to be held.
        plain = self._link.can_detach and hasattr(self._link.transport, "send_file")
        return plain and (self.exchange is None or stickiness is None or not stickiness.learns)

    def write_file(self, chunk: FileChunk) -> None:
        """
        Write a part of a file, which the transport closes.
        """
        self._output.uncork()
        self._link.transport.send_file(chunk)

    def getPeer(self) -> IAddress:
        address: IAddress = self._exchanges.address or self._link.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        address: IAddress = self._link.transport.getHost()
        return address

    def isSecure(self) -> bool:
        secure = self._exchanges.secure
        return self._link.is_secure(self.handoff) if secure is None else secure

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._output.register(producer, streaming)

    def unregisterProducer(self) -> None:
        self._output.unregister()

    def loseConnection(self) -> None:
        if self._state >= CLOSING:
            return
        self._state = CLOSING
        self._output.flush()
        # Without a look into its buffer a transport is left to itself: a long response
        # to a slow client must not be cut off.
        self._expect(self.context.limits.stall if self._output.tells_unsent else None)
        self._link.close()

    def abortConnection(self) -> None:
        if self._state == GONE:
            return
        self._state = CLOSING
        self._link.unwatch()
        self._output.abort()

    def _linger(self) -> None:
        """
        Close the connection, but drop for a while what the client is still sending.
        """
        if self._link.let_linger():
            self.loseConnection()
            return
        self._state = CLOSING
        self._output.flush()
        limits = self.context.limits
        self._expect(limits.stall if self._output.full else limits.linger)
        self._link.half_close()

    # Reading, or not.

    def _bound_waiting(self) -> None:
        """
        Read ahead, but not without bound.
        """
        if self._reader.waiting_bytes > self.context.limits.read_ahead_bytes:
            self._link.pause()

    def _read_what_is_wanted(self) -> None:
        state = self._state
        if self._resting:
            return
        if state == PASSING or (state == HEAD and not self._backlog):
            wanted = True
        elif state == BODY:
            wanted = not self._body_held
        else:
            wanted = state < LEAVING
            wanted = wanted and self._reader.waiting_bytes <= self.context.limits.read_ahead_bytes
        if wanted:
            self._link.resume()

    def hold_body(self) -> None:
        self._body_held = True
        self._link.pause()
        self._expect(None)

    def want_body(self) -> None:
        self._body_held = False
        if self._state == BODY and not self._output.full:
            self._link.resume()
            self._expect(self.context.limits.body)

    def rest(self) -> bool:
        if getattr(self._link.transport, "watched", True):
            return False
        self._resting = True
        self._link.pause()
        return True

    def watch(self) -> None:
        if self._resting:
            self._resting = False
            if not self._output.full:
                self._read_what_is_wanted()

    # The order of requests.

    @property
    def requests(self) -> list[Any]:
        """
        The requests that are being received or answered: one, or none.
        """
        return [] if self._request is None else [self._request]

    @property
    def unanswered(self) -> list[Any]:
        request = self._request
        answered = request is None or request.startedWriting or self._upgrade is not None
        return [] if answered else [request]

    @property
    def message(self) -> tuple[bytes, bytes, bytes]:
        return self._message

    def _advance(self) -> None:
        """
        Go on with what was read, until it is used up or a request is not answered at once.
        """
        output = self._output
        output.corked = output.serving = True
        try:
            self._serve()
        except RequestError as error:
            self.refuse(error)
        finally:
            output.serving = False
            if output.corked:
                output.uncork()
        if not self._link.reading and not output.full:
            # The transport took a breath while we were at work.
            self._read_what_is_wanted()
        state = self._state
        if state == HEAD:
            if self._reader.dry and not output.full:
                idle = self.context.limits.idle
                self.deadline = inf if idle is None else self.context.deadlines.now + idle
            else:
                self._await_room_or_head()
        elif state == BODY:
            if not self._body_held:
                self._expect(self.context.limits.body)
        elif state == PASSING:
            self._pass_on()
        elif state == LEAVING:
            self._try_leave()
        if self._leave is not None:
            self._leave_if_idle()

    def _await_room_or_head(self) -> None:
        if self._output.full:
            self._link.pause()
        elif not self._head_begun:
            self._head_begun = True
            self._expect(self.context.limits.head)

    def _serve(self) -> None:
        reader, output = self._reader, self._output
        while True:
            if self._state == HEAD and not (reader.read_head() and self._begin()):
                return
            if self._state == BODY:
                piece = reader.read_body()
                if piece:
                    self._request.handleContentChunk(piece)
                if reader.in_body or self._state != BODY:
                    return
            self._state = BUSY
            self._request.requestReceived(*self._message)
            if output.pulls:
                output.pull()
            if self._state != HEAD:
                if not reader.dry:
                    self._bound_waiting()
                return
            if not self.persistent:
                self._close_after_answer()
                return
            if reader.dry:
                return
            if output.full:
                # Our answers have nowhere to go for now, so no more of them.
                self._backlog = True
                return

    def _begin(self) -> bool:
        """
        Make the request whose head was read.

        :return: whether it is served here.
        """
        reader, context = self._reader, self.context
        self._head_begun = False
        if self._route is not None and self.handoff is not None:
            self._take = self._route(reader.head, self.handoff)
            if self._take is not None:
                reader.put_back()
                self._state = LEAVING
                # What is read must fit into a handoff; nobody here wants it anyway.
                self._link.pause()
                return False
        fields: Any = reader.fields
        self._message = line = reader.line
        method, target, version = line
        if target[0] != 47:  # a slash
            target, fields = resolve(method, target, fields)
            self._message = (method, target, version)
        self.persistent = version is HTTP_1_1 and not fields.close and not self._draining
        context.requests += 1
        if context.stickiness is not None:
            host = getattr(self._link.transport.getPeer(), "host", "")
            secure = self._link.is_secure(self.handoff)
            if self._exchanges is NO_EXCHANGES:
                self._exchanges = Exchanges()
            fields, self.exchange = self._exchanges.begin(context.stickiness, host, secure, fields)
        factory: Any = self.requestFactory
        if getattr(factory, "_plain", False):
            self._request = request = factory(self)
            request.adopt(fields)
        else:
            self._request = request = make_request(factory, self, fields)
        if reader.in_body:
            self._state = BODY
            self._body_held = False
            request.gotLength(fields.length if fields.length > 0 else None)
            if fields.expects and reader.dry and version is HTTP_1_1:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def requestDone(self, request: Any) -> None:
        if request != self._request:
            raise TypeError(f"{request} is not being answered")
        self._request = None
        if self._state == BODY:
            # Answered before its body was here, and that is dropped.
            self.persistent = False
            self._linger()
        if self._state != BUSY:
            return
        if self._output.held:
            self._answered = True
            return
        self._next()

    def _next(self) -> None:
        self._state = HEAD
        self._resting = False
        if self._output.serving:
            return
        if not self.persistent:
            self._close_after_answer()
        elif self._output.full:
            self._backlog = not self._reader.dry
            self._link.pause()
        else:
            self._go_on()
            if self._leave is not None:
                self._leave_if_idle()

    def _go_on(self) -> None:
        """
        Go on with what was read, now that there is room for the answers.
        """
        self._backlog = self._head_begun = False
        self._expect(self.context.limits.idle)
        if not self._reader.dry:
            self._advance()
        if self._input_over:
            self.readConnectionLost()
        elif not self._output.full:
            self._read_what_is_wanted()

    def _close_after_answer(self) -> None:
        if self._reader.dry:
            self.loseConnection()
        else:
            self._linger()

    def refuse(self, error: RequestError) -> None:
        self.persistent = False
        request = self._request
        if getattr(request, "startedWriting", False):
            # Half a response is out: what follows would be taken for more of it.
            self.abortConnection()
            return
        self.write(self.context.refusal(error.status))
        self._linger()
        request, self._request = self._request, None
        if request is not None:
            request.connectionLost(Failure(error))

    # Response heads.

    def writeHeaders(
        self,
        version: bytes,
        code: bytes,
        reason: bytes,
        headers: Headers | Iterable[tuple[bytes, bytes]],
    ) -> None:
        write_stock_head(self, version, code, reason, headers)

    def respond(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return list(fields)
        pairs = exchange.respond(fields)
        if exchange.claiming is not None:
            self._output.hold_until(exchange.claiming, self._unheld)
        return pairs

    def _unheld(self) -> None:
        if self._answered:
            self._answered = False
            self._next()

    # The client's end of input.

    def readConnectionLost(self) -> None:
        """
        Called when the client will send no more: what it has asked for whole is answered
        (RFC 9112, 9.6), then the connection is closed.
        """
        self._input_over = True
        state, request = self._state, self._request
        if state in (LEAVING, GONE) or (state == HEAD and self._backlog):
            return
        if state == BUSY:
            # Else it is answered, and waits for the primary.
            if request is not None and self._half_closed is None:
                self._probe(request)
            return
        if state == CLOSING:
            # Only the client's end was waited for.
            self._link.close()
            return
        if state == BODY and request is not None:
            # It will never be whole.
            self._request = None
            request.connectionLost(Failure(ConnectionLost("The body is not whole.")))
        self.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def _probe(self, request: Any) -> None:
        """
        Find out whether the client is still there: send what comes next in any case.
        """
        if not request.startedWriting:
            began = self._message[2] + b" "
            self.write(began)
            self.write = partial(self._write_rest, len(began))
        elif request.chunked and self._output.unsent_bytes == 0:
            self.write(b"0")  # the size of the next chunk may begin so
        self._half_closed = HalfClosed(
            self.context.clock.callLater, self._link.transport, self.abortConnection
        )

    def _write_rest(self, begun: int, data: bytes) -> None:
        self.write = self._output.write
        self.write(data[begun:])

    # Upgrades.

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:
        """
        Give the connection's bytes to another protocol from now on.
        """
        output = self._output
        output.flush()
        output.corked = False
        self._link.unwatch()
        self._state = PASSING
        self._upgrade = Upgrade(protocol, self._link.transport)
        if isinstance(self._request, Request):
            self._request.upgraded()
        if not self._output.serving:
            # Not at once: the caller has yet to write its answer.
            self.context.clock.callLater(0, self._pass_on)

    def _pass_on(self) -> None:
        """
        Give the protocol of an upgrade what came with the request.
        """
        if self._upgrade is not None and self._state == PASSING:
            self._link.resume()
            if not self._reader.dry:
                self._upgrade.feed(self._reader.take_rest())

    def say_goodbye(self, code: int) -> bool:
        return self._upgrade is not None and self._upgrade.say_goodbye(code)

    def end_streams(self) -> None:
        request, producer = self._request, self._output.producer
        if self._state not in (BODY, BUSY) or not getattr(request, "streams_events", False):
            return
        self._output.unregister()
        if request.chunked:
            self.write(b"0\r\n\r\n")
        self._request = None
        if self._state == BODY:
            self._linger()
        else:
            self.loseConnection()
        if producer is not None:
            producer.stopProducing()
        request.connectionLost(Failure(ConnectionDone("The server stops.")))

    # Leaving.

    @property
    def idle(self) -> bool:
        return (
            self._state == HEAD
            and not self._output.serving
            and not self._backlog
            and not self._output.unsent_bytes
        )

    @property
    def busy(self) -> bool:
        state, request = self._state, self._request
        if state in (PASSING, CLOSING, GONE):
            return False
        if request is None:
            waits = state == LEAVING and not self._reader.dry
            return waits or self._backlog or self._output.serving
        return not request.startedWriting

    def detach(self) -> tuple[socket, bytes]:
        if not self.idle:
            raise RuntimeError("Only an idle connection can be detached.")
        sock, rest = self._link.leave(self.handoff)
        unread = self._reader.take_rest() + rest
        self._forget()
        self._tell_ended()
        return sock, unread

    def lend(self, take: Take) -> None:
        """
        Give the connection to the application of the request under way, for good.

        :param take: called with the socket, which it closes from then on, and what the client
            has said after the request.
        :raise RuntimeError: if not all is sent that was said before.
        """
        sock, rest = self._link.leave(self.handoff)
        unread = self._reader.take_rest() + rest
        self._forget()
        take(sock, unread)
        self._tell_ended()

    def give_away(self, goes: Callable[[Handoff], bool], take: Take) -> None:
        route = self._route

        def leave(head: Head, handoff: Handoff) -> Take | None:
            if goes(handoff):
                return take
            return None if route is None else route(head, handoff)

        if not self._link.can_detach:
            if self.handoff is not None and self._link.can_divert:
                self.handoff.flags |= Flag.LAST
                # Even if its client comes back to us: the primary knows when its session has.
                self._route = lambda head, handoff: take
            self.drain()
            return
        self._route = leave
        self._leave = goes, take
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._state != HEAD or self._output.serving or self._backlog:
            return
        assert self._leave is not None
        goes, take = self._leave
        if self.handoff is None or goes(self.handoff):
            self._state = LEAVING
            self._take = take
            self._try_leave()
            return
        self._leave = None
        if self._drain_else:
            self.drain()

    def _try_leave(self) -> None:
        """
        Give the connection to whom the route named, once all answers are sent.
        """
        left = self._link.leave_or_wait(self.handoff, self)
        if left is None:
            self._expect(self.context.limits.stall)
            return
        sock, rest = left
        unread = self._reader.take_rest() + rest
        self._forget()
        assert self._take is not None
        self._take(sock, unread)
        self._tell_ended()

    def drain(self) -> None:
        if self._leave is not None:
            # It is given away as soon as it can be, which is better than closed.
            self._drain_else = True
            return
        self._draining = True
        self.persistent = False
        if self._state == HEAD and self._reader.dry and not self._output.serving:
            if self.isSecure():
                # Unlike a plain one it is drained at a reload too, and the next request may
                # be on its way: it is answered, and the answer says that it is the last.
                self._expect(self.context.limits.first)
            else:
                self.loseConnection()

    def _forget(self) -> None:
        """
        Be over, for the timers.
        """
        self._state = GONE
        self.connected = 0
        self._request = self._upgrade = None
        if not self._reader.dry:
            self._reader.take_rest()
        self._output.discard()
        self.context.deadlines.discard(self)
        if self._half_closed is not None:
            self._half_closed.stop()

    def _tell_ended(self) -> None:
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)

    # Deadlines.

    def _expect(self, seconds: float | None) -> None:
        """
        Expire in so many seconds, whatever was the deadline before.
        """
        if self._state == GONE:
            return
        deadlines = self.context.deadlines
        self.deadline = inf if seconds is None else deadlines.now + seconds
        deadlines.hasten(self)

    def expire(self) -> None:
        """
        Called by the timer when the client has been too slow.  While the application is
        at work, or the protocol of an upgrade, that is no matter.
        """
        state, output = self._state, self._output
        if output.held:
            return
        if state in (CLOSING, LEAVING) or output.full:
            if output.is_taken():
                self._expect(self.context.limits.stall)
            else:
                self.abortConnection()
        elif state == HEAD and self._reader.dry:
            self.loseConnection()
        elif state in (HEAD, BODY):
            self.refuse(RequestError(408, "too slow"))

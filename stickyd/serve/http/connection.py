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

from operator import attrgetter
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
from stickyd.serve.http.deadline import Deadline
from stickyd.serve.http.departure import Departure
from stickyd.serve.http.half_close import HalfClosed
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.link import Link
from stickyd.serve.http.output import Output
from stickyd.serve.http.pipeline import Pipeline
from stickyd.serve.http.reader import Reader
from stickyd.serve.http.request import Request
from stickyd.serve.http.request_channel import IRequestChannel
from stickyd.serve.http.response_head import write_stock_head
from stickyd.serve.http.states import BODY, BUSY, CLOSING, GONE, HEAD, LEAVING, PASSING
from stickyd.serve.http.upgrade import Upgrade
from stickyd.serve.open_connections import uncounted
from stickyd.serve.served_connection import IServedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket

    from twisted.internet.interfaces import IAddress

    from stickyd.handoff.frame import Handoff
    from stickyd.net.file_chunk import FileChunk
    from stickyd.serve.http.context import HTTPContext, Take


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

    It is long as it is a protocol to the transport, and a transport and a consumer to requests.
    It decides who has the connection: requests, the protocol of an upgrade, another worker, or
    nothing any more.  Its parts do not know it: the reader finds requests, the pipeline has them
    served in order, the output takes what they write, the link is the transport, the departure
    decides whether the connection goes elsewhere, the deadline notices a slow client.

    :ivar requestFactory: makes a request for a channel.
    :ivar handoff: what brought it; without one, requests are not routed.
    :ivar connected: as of Twisted's protocols.
    """

    site: Any = None
    factory: Any = None
    requestFactory: Callable[..., Any] = Request
    connected = 0

    _input_over = False  # the client has shut its side
    _answered = False  # the response under way is whole, and held

    def __init__(
        self,
        context: HTTPContext,
        site: Any = None,
        handoff: Handoff | None = None,
        ended: Callable[[Any], object] = uncounted,
    ) -> None:
        """
        :param site: finds the resources of requests, and logs them; Twisted's factories set
            theirs, and the class of requests, later.
        :param handoff: what brought the connection.
        :param ended: called when it is served here no longer.
        """
        self.context = context
        self.handoff = handoff
        self._ended = ended
        self.descriptors = 1
        self._half_closed: HalfClosed | None = None
        self._upgrade: Upgrade | None = None
        self._departure: Departure | None = None  # None as long as it cannot leave
        if site is not None:
            self.site = self.factory = site
            self.requestFactory = site.requestFactory
        self._link = Link(handoff)
        self._reader = Reader(context.blocks)
        self._output = output = Output(context.clock)
        self._deadline = Deadline(context.deadlines, self._expired)
        self._pipeline = Pipeline(context, self._link, self._reader, output, self._deadline)
        self.write = output.write

    # IProtocol, and whatever else the transport calls.

    def makeConnection(self, transport: Any) -> None:
        self._link.transport = transport
        self._output.connect(transport)
        self.connected = 1
        self.connectionMade()

    def connectionMade(self) -> None:
        context = self.context
        context.deadlines.add(self._deadline, context.limits.idle)
        handoff = self.handoff
        if handoff is not None and handoff.flags & Flag.LAST:
            self._pipeline.draining = True
        if context.route is not None and (self._link.can_detach or self._link.can_divert):
            self._departure = Departure(handoff, context.route)
        self._link.watch(self, True)

    def dataReceived(self, data: bytes) -> None:
        state = self._pipeline.state
        if state <= BODY and not self._pipeline.backlog:
            self._reader.feed(data)
            self._advance()
        elif state == PASSING and self._upgrade is not None:
            self._upgrade.feed(data)
        elif state < CLOSING:
            self._reader.feed(data)
            if self._pipeline.too_far_ahead:
                self._link.pause()

    def connectionLost(self, reason: Failure) -> None:
        request, upgrade = self._pipeline.request, self._upgrade
        self._forget()
        try:
            if upgrade is not None:
                upgrade.lost(reason)
        finally:
            if request is not None:
                request.connectionLost(reason)
            self._ended(self)

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
        if self._pipeline.state != BUSY:
            self._link.pause()
        self._deadline.expect(self.context.limits.stall)

    def resumeProducing(self) -> None:
        if self._pipeline.state == LEAVING:
            self._try_leave()
            return
        output = self._output
        output.resume()
        if output.full or output.serving:
            return
        if self._pipeline.state == HEAD:
            self._go_on()
        elif self._pipeline.state in (BODY, PASSING) and not self._pipeline.body_held:
            self._link.resume()
            self._deadline.expect(self.context.limits.body)

    def stopProducing(self) -> None:
        self._output.stop()

    # ITransport and IConsumer, for requests; ``write`` is the output's.

    @property
    def transport(self) -> Any:
        """
        The transport, for code that takes it over.  What was collected for it leaves
        first, and nothing more is collected in this turn.
        """
        if self._output.corked:
            self._output.uncork()
        return self._link.transport

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def answer(self, write: Callable[[], object]) -> None:
        """
        Have the whole response to the request under way written.

        :param write: does that; when it has returned, the connection is closed at once if it
            is to be.
        """
        if self._pipeline.persistent:
            write()
        else:
            self._link.call(write)

    @property
    def takes_files(self) -> bool:
        """
        Whether :meth:`write_file` may be called for the request under way.
        """
        # What is held, or may have to be, cannot have a file in it.
        held = self._output.held or self._pipeline.may_be_held
        return self._link.takes_files and not held

    def write_file(self, chunk: FileChunk) -> None:
        """
        Write a part of a file, which the transport closes.
        """
        self._output.uncork()
        self._link.transport.send_file(chunk)

    def getPeer(self) -> IAddress:
        address: IAddress = self._pipeline.exchanges.address or self._link.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        address: IAddress = self._link.transport.getHost()
        return address

    def isSecure(self) -> bool:
        secure = self._pipeline.exchanges.secure
        return self._link.secure if secure is None else secure

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._output.register(producer, streaming)

    def unregisterProducer(self) -> None:
        self._output.unregister()

    def loseConnection(self) -> None:
        self._close(False)

    def abortConnection(self) -> None:
        if self._pipeline.state == GONE:
            return
        self._pipeline.state = CLOSING
        self._link.unwatch()
        self._output.abort()

    def _close(self, lingering: bool) -> None:
        """
        Close the connection behind what was written.

        :param lingering: drop for a while what the client is still sending.
        """
        if self._pipeline.state >= CLOSING:
            return
        self._pipeline.state = CLOSING
        output, limits = self._output, self.context.limits
        output.flush()
        if self._link.close(lingering):
            self._deadline.expect(limits.stall if output.full else limits.linger)
        else:
            # Without a look into its buffer a transport is left to itself: a long response
            # to a slow client must not be cut off.
            self._deadline.expect(limits.stall if output.tells_unsent else None)

    # Reading, or not.

    def hold_body(self) -> None:
        self._pipeline.hold_body()

    def want_body(self) -> None:
        self._pipeline.want_body()

    def rest(self) -> bool:
        return self._pipeline.rest()

    def watch(self) -> None:
        self._pipeline.watch()

    # The order of requests.

    message = property(attrgetter("_pipeline.message"))
    exchange = property(attrgetter("_pipeline.exchange"))
    names_our_slot = property(attrgetter("_pipeline.exchanges.names_our_slot"))

    def _set_persistent(self, persistent: bool) -> None:
        self._pipeline.persistent = persistent

    persistent = property(attrgetter("_pipeline.persistent"), _set_persistent)

    def under_way(self) -> list[Any]:
        return self._pipeline.under_way()

    @property
    def unanswered(self) -> list[Any]:
        return self._pipeline.unanswered if self._upgrade is None else []

    def _advance(self) -> None:
        """
        Go on with what was read, until it is used up or a request is not answered at once.
        """
        output, pipeline = self._output, self._pipeline
        output.serve()
        try:
            if not pipeline.serve(self, self._departure):
                self._close(lingering=not self._reader.dry)
        except RequestError as error:
            self.refuse(error)
        finally:
            output.serving = False
            if output.corked:
                output.uncork()
        pipeline.settle()
        state = pipeline.state
        if state == PASSING:
            self._pass_on()
        elif state == LEAVING:
            self._try_leave()
        if self._departure is not None:
            self._leave_if_idle()

    def requestDone(self, request: Any) -> None:
        pipeline, output = self._pipeline, self._output
        if request is not pipeline.request and request != pipeline.request:
            raise TypeError(f"{request} is not being answered")
        pipeline.finish(request.code)
        if pipeline.state == BODY:
            # Answered before its body was here, and that is dropped.
            pipeline.persistent = False
            self._close(lingering=True)
        if pipeline.state != BUSY:
            return
        if output.held:
            self._answered = True
            return
        pipeline.state = HEAD
        pipeline.resting = False
        if not output.serving:
            self._next()

    def _next(self) -> None:
        pipeline = self._pipeline
        if not pipeline.persistent:
            self._close(lingering=not self._reader.dry)
        elif self._output.full:
            pipeline.backlog = not self._reader.dry
            self._link.pause()
        else:
            self._go_on()
            if self._departure is not None:
                self._leave_if_idle()

    def _go_on(self) -> None:
        """
        Go on with what was read, now that there is room for the answers.
        """
        self._pipeline.backlog = self._pipeline.head_begun = False
        self._deadline.expect(self.context.limits.idle)
        if not self._reader.dry:
            self._advance()
        if self._input_over:
            self.readConnectionLost()
        else:
            self._pipeline.read_on()

    def refuse(self, error: RequestError) -> None:
        self._pipeline.persistent = False
        if getattr(self._pipeline.request, "startedWriting", False):
            # Half a response is out: what follows would be taken for more of it.
            self.abortConnection()
            return
        self.write(self.context.refusal(error.status))
        self._close(lingering=True)
        request = self._pipeline.refuse(error.status)
        if request is not None:
            request.connectionLost(Failure(error))

    # Response heads.

    writeHeaders = write_stock_head

    def respond(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        pairs, claiming = self._pipeline.respond(fields)
        if claiming is not None:
            self._output.hold_until(claiming, self._unheld)
        return pairs

    def _unheld(self) -> None:
        if self._answered:
            self._answered = False
            self._pipeline.state = HEAD
            self._pipeline.resting = False
            if not self._output.serving:
                self._next()

    # The client's end of input.

    def ends_with_input(self) -> bool:
        """
        Tell whether nothing is under way, so that the connection ends with its input.
        """
        return self._pipeline.state == HEAD and not self._pipeline.backlog

    def readConnectionLost(self) -> None:
        """
        Called when the client will send no more: requests that have come whole are answered
        (RFC 9112, 9.6), then the connection is closed.
        """
        self._input_over = True
        pipeline = self._pipeline
        state, request = pipeline.state, pipeline.request
        if state in (LEAVING, GONE) or (state == HEAD and pipeline.backlog):
            return
        if state == BUSY:
            # Without a request: its response is whole, and held for the primary.
            if request is not None and self._half_closed is None:
                # What comes next in any case shows whether the client is still there.
                self._output.begin_next(request, self.message[2])
                self._half_closed = HalfClosed(
                    self.context.clock.callLater, self._link.transport, self.abortConnection
                )
            return
        if state == CLOSING:
            # Only the client's end was waited for.
            self._link.close(lingering=False)
            return
        if state == BODY and request is not None:
            # It will never be whole.
            self._pipeline.drop()
            request.connectionLost(Failure(ConnectionLost("The body is not whole.")))
        self.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    # Upgrades.

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:
        """
        Give the connection's bytes to another protocol from now on.
        """
        output = self._output
        output.flush()
        output.corked = False
        self._link.unwatch()
        self._pipeline.switch()
        self._upgrade = Upgrade(protocol, self._link, self._reader)
        if isinstance(self._pipeline.request, Request):
            self._pipeline.request.upgraded()
        if not self._output.serving:
            # Not at once: the caller has yet to write its answer.
            self.context.clock.callLater(0, self._pass_on)

    def _pass_on(self) -> None:
        if self._upgrade is not None and self._pipeline.state == PASSING:
            self._upgrade.go_on()

    def say_goodbye(self, code: int) -> bool:
        return self._upgrade is not None and self._upgrade.say_goodbye(code)

    def end_streams(self) -> None:
        request = self._pipeline.request
        if self._pipeline.state not in (BODY, BUSY) or not getattr(
            request, "streams_events", False
        ):
            return
        producer = self._output.end_stream(request.chunked)
        self._pipeline.drop()
        self._close(lingering=self._pipeline.state == BODY)
        if producer is not None:
            producer.stopProducing()
        request.connectionLost(Failure(ConnectionDone("The server stops.")))

    # Leaving.

    @property
    def idle(self) -> bool:
        return self._pipeline.between and not self._output.unsent_bytes

    @property
    def busy(self) -> bool:
        return self._pipeline.busy

    def detach(self) -> tuple[socket, bytes]:
        if not self.idle:
            raise RuntimeError("Only an idle connection can be detached.")
        left = self._link.leave(self._reader)
        self._forget()
        self._ended(self)
        return left

    def lend(self, take: Take) -> None:
        """
        Give the connection to the application of the request under way, for good.

        :param take: called with the socket, which it closes from then on, and what the client
            has said after the request.
        :raise RuntimeError: if not all is sent that was said before.
        """
        self._pass_to(take, self._link.leave(self._reader))

    def give_away(self, goes: Callable[[Handoff], bool], take: Take) -> None:
        departure = self._departure
        if departure is None:
            departure = self._departure = Departure(self.handoff, None)
        if self._link.can_detach:
            departure.offer(goes, take)
            self._leave_if_idle()
            return
        if self.handoff is not None and self._link.can_divert:
            self.handoff.flags |= Flag.LAST
            # Always, even if its client belongs here again: only the primary knows whether its
            # session is back.
            departure.take_next(take)
        self.drain()

    def _leave_if_idle(self) -> None:
        departure = self._departure
        if departure is None or not departure.awaited or not self._pipeline.between:
            return
        if departure.goes_now():
            self._pipeline.state = LEAVING
            self._try_leave()
        elif departure.drain_else:
            self.drain()

    def _try_leave(self) -> None:
        """
        Give the connection to where it goes, once all answers are sent.
        """
        left = self._link.leave_or_wait(self._reader, self)
        if left is None:
            self._deadline.expect(self.context.limits.stall)
            return
        assert self._departure is not None and self._departure.take is not None  # noqa: PT018
        self._pass_to(self._departure.take, left)

    def _pass_to(self, take: Take, left: tuple[socket, bytes]) -> None:
        self._pipeline.leave()
        self._forget()
        take(*left)
        self._ended(self)

    def drain(self) -> None:
        if self._departure is not None and self._departure.awaited:
            # It is given away as soon as it can be, which is better than closed.
            self._departure.drain_else = True
            return
        pipeline = self._pipeline
        pipeline.draining, pipeline.persistent = True, False
        if pipeline.state == HEAD and self._reader.dry and not self._output.serving:
            if self.isSecure():
                # Unlike a plain one it is drained at a reload too, and the next request may
                # be on its way: it is answered, and the answer says that it is the last.
                self._deadline.expect(self.context.limits.first)
            else:
                self.loseConnection()

    def _forget(self) -> None:
        self._pipeline.state = GONE
        if self._pipeline.begun_ns or self._pipeline.request is not None:
            self._pipeline.drop()
        self.connected = 0
        self._upgrade = None
        if not self._reader.dry:
            self._reader.take_rest()
        self._output.discard()
        self._deadline.stop()
        if self._half_closed is not None:
            self._half_closed.stop()

    def _expired(self) -> None:
        # The client has been too slow, which it may be while the application works.
        state, output = self._pipeline.state, self._output
        if output.held:
            return
        if state in (CLOSING, LEAVING) or output.full:
            if output.is_taken():
                self._deadline.expect(self.context.limits.stall)
            else:
                self.abortConnection()
        elif state == HEAD and self._reader.dry:
            self.loseConnection()
        elif state in (HEAD, BODY):
            self.refuse(RequestError(408, "too slow"))

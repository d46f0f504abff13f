"""
The requests of an HTTP/1.1 connection, one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web.http import SWITCHING

from stickyd.serve.http.exchanges import NO_EXCHANGES, Exchanges
from stickyd.serve.http.head import HTTP_1_1, resolve
from stickyd.serve.http.request import make_request
from stickyd.serve.http.states import BODY, BUSY, CLOSING, GONE, HEAD, LEAVING, PASSING
from stickyd.serve.under_way import WEBSOCKET, UnderWay, request_under_way

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.defer import Deferred

    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.http.deadline import Deadline
    from stickyd.serve.http.departure import Departure
    from stickyd.serve.http.link import Link
    from stickyd.serve.http.output import Output
    from stickyd.serve.http.reader import Reader
    from stickyd.serve.stickiness import Exchange


class Pipeline:
    """
    Makes a request of each head that the reader finds, gives it its body, and has it processed.

    It goes on until the reader has no more, or a request is not answered at once, or the state
    is none of HEAD, BODY and BUSY any more.

    :ivar state: of the connection, see :mod:`stickyd.serve.http.states`.
    :ivar request: what is being received or answered, or :obj:`None`.
    :ivar message: its method, target and version.
    :ivar exchange: what is to be done to its response, until that has a head.
    :ivar exchanges: tells which client has made it.
    :ivar persistent: whether another one may follow it.
    :ivar draining: whether none may, even if the client would go on.
    :ivar body_held: whether the request wants no more of its body for now.
    :ivar head_begun: whether the deadline is that of a head.
    :ivar resting: whether the transport is left unread for a moment.
    :ivar backlog: whether requests may wait in the reader, as there is no room for answers.
    :ivar begun_ns: when the request under way was counted; 0 once its end was.
    """

    # What every request asks for is the instance's own from the start; see
    # :class:`stickyd.net.stream.Stream`.
    request: Any = None
    message: tuple[bytes, bytes, bytes] = (b"", b"", b"")
    persistent = True
    body_held = False
    head_begun = False
    resting = False
    begun_ns = 0
    _switched_ns = 0

    def __init__(
        self,
        context: HTTPContext,
        link: Link,
        reader: Reader,
        output: Output,
        deadline: Deadline,
    ) -> None:
        self._context = context
        self._link = link
        self._reader = reader
        self._output = output
        self._deadline = deadline
        self.state = HEAD
        self.backlog = False
        self.draining = False
        self.exchange: Exchange | None = None
        self.exchanges = NO_EXCHANGES

    @property
    def between(self) -> bool:
        """
        Whether the connection is between two requests; some of the next head may have come.
        """
        return self.state == HEAD and not self._output.serving and not self.backlog

    @property
    def busy(self) -> bool:
        """
        Whether a request is under way, or has come, whose response has not begun.
        """
        state, request = self.state, self.request
        if state in (PASSING, CLOSING, GONE):
            return False
        if request is None:
            waits = state == LEAVING and not self._reader.dry
            return waits or self.backlog or self._output.serving
        return not request.startedWriting

    @property
    def unanswered(self) -> list[Any]:
        """
        The request under way, if its response has not begun.
        """
        request = self.request
        return [] if request is None or request.startedWriting else [request]

    def under_way(self) -> list[UnderWay]:
        """
        The request under way, for operators, or what has the connection after it.
        """
        if self.begun_ns:
            return [request_under_way(self.begun_ns, self.message, self.request)]
        if self.state == PASSING and self._switched_ns:
            return [UnderWay(WEBSOCKET, self._switched_ns, *self.message[:2], SWITCHING)]
        return []

    @property
    def may_be_held(self) -> bool:
        """
        Whether the response under way may have to wait until the primary knows an id in it.
        """
        stickiness = self._context.stickiness
        return self.exchange is not None and stickiness is not None and stickiness.learns

    def finish(self, status: int) -> None:
        """
        Have no request any more: its response is whole.

        :param status: of the response.
        """
        self.request = None
        if self.begun_ns:
            self._context.counts.end(status, self.begun_ns)
            self.begun_ns = 0

    def drop(self) -> None:
        """
        Have no request any more: the client gets no whole response.
        """
        request, self.request = self.request, None
        if self.begun_ns:
            self.begun_ns = 0
            begun = getattr(request, "startedWriting", False)
            self._context.counts.drop(request.code if begun else 0)

    def refuse(self, status: int) -> Any:
        """
        Have no request any more: the client was told why.

        :return: the request that was under way; None if what came was none.
        """
        request = self.request
        if not self.begun_ns:
            self._context.counts.refuse(status)
        self.finish(status)
        return request

    def switch(self) -> None:
        """
        Another protocol has the connection from now on: that was the answer.
        """
        self.state = PASSING
        self._count_switch()

    def leave(self) -> None:
        """
        Somebody else has the connection from now on; the application, if a request is under
        way.
        """
        self._count_switch()

    def _count_switch(self) -> None:
        if self.begun_ns:
            self._context.counts.end(SWITCHING, self.begun_ns)
            self._switched_ns, self.begun_ns = self.begun_ns, 0

    def respond(
        self, fields: Iterable[tuple[bytes, bytes]]
    ) -> tuple[list[tuple[bytes, bytes]], Deferred[None] | None]:
        """
        Give the fields that the response shall have, and what it must wait for, if it must.
        """
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return list(fields), None
        handoff = self._link.handoff
        pairs = exchange.respond(fields, None if handoff is None else handoff.client)
        if exchange.met is not None and handoff is not None:
            handoff.meet(exchange.met)
        return pairs, exchange.claiming

    def settle(self) -> None:
        """
        Read on, and set the deadline, as the state demands after something was served.
        """
        if not self._link.reading:
            # It was paused while requests were served.
            self.read_on()
        state, limits = self.state, self._context.limits
        if state == HEAD:
            if self._output.full:
                self._link.pause()
            elif self._reader.dry:
                self._deadline.postpone(limits.idle)
            elif not self.head_begun:
                self.head_begun = True
                self._deadline.expect(limits.head)
        elif state == BODY and not self.body_held:
            self._deadline.expect(limits.body)

    def hold_body(self) -> None:
        """
        Read no more of the body for now.
        """
        self.body_held = True
        self._link.pause()
        self._deadline.expect(None)

    def want_body(self) -> None:
        """
        Read more of the body, unless there is none, or no room for the answer.
        """
        self.body_held = False
        if self.state == BODY and not self._output.full:
            self._link.resume()
            self._deadline.expect(self._context.limits.body)

    def read_on(self) -> None:
        """
        Have the transport read, if more of the client is wanted now, and there is room for
        answers.
        """
        if self.resting or self._output.full:
            return
        state = self.state
        if state == BODY:
            wanted = not self.body_held
        elif state == PASSING or (state == HEAD and not self.backlog):
            wanted = True
        else:
            wanted = state < LEAVING and not self.too_far_ahead
        if wanted:
            self._link.resume()

    def rest(self) -> bool:
        """
        Do not read for a moment, unless the transport is watched already.
        """
        if self._link.watched:
            return False
        self.resting = True
        self._link.pause()
        return True

    def watch(self) -> None:
        """
        End the rest, if there is one.
        """
        if self.resting:
            self.resting = False
            self.read_on()

    @property
    def too_far_ahead(self) -> bool:
        """
        Whether more has come than is read before it is needed.
        """
        return self._reader.waiting_bytes > self._context.limits.read_ahead_bytes

    def serve(self, channel: Any, departure: Departure | None) -> bool:
        """
        Serve what has come.

        :param channel: what requests are made for.
        :param departure: is asked whether the connection leaves with a request.
        :return: whether the connection may go on; if not, it is to be closed.
        :raise RequestError: if the client is to be refused.
        """
        reader, output = self._reader, self._output
        while True:
            if self.state == HEAD and not (reader.read_head() and self._begin(channel, departure)):
                return True
            if self.state == BODY:
                piece = reader.read_body()
                if piece:
                    self.request.handleContentChunk(piece)
                if reader.in_body or self.state != BODY:
                    return True
            self.state = BUSY
            self.request.requestReceived(*self.message)
            if output.pulls:
                output.pull()
            if self.state != HEAD:
                if not reader.dry and self.too_far_ahead:
                    self._link.pause()
                return True
            if not self.persistent:
                return False
            if reader.dry:
                return True
            if output.full:
                # Our answers have nowhere to go for now, so no more of them.
                self.backlog = True
                return True

    def _begin(self, channel: Any, departure: Departure | None) -> bool:
        """
        Make the request whose head was read.

        :return: whether it is served here.
        """
        reader, context = self._reader, self._context
        self.head_begun = False
        if departure is not None and departure.request_goes(reader.head):
            reader.put_back()
            self.state = LEAVING
            # What is read goes along, and must fit into a handoff.
            self._link.pause()
            return False
        fields: Any = reader.fields
        self.message = line = reader.line
        method, target, version = line
        if target[0] != 47:  # a slash
            target, fields = resolve(method, target, fields)
            self.message = (method, target, version)
        self.persistent = version is HTTP_1_1 and not fields.close and not self.draining
        self.begun_ns = context.counts.begin()
        if context.stickiness is not None:
            if self.exchanges is NO_EXCHANGES:
                self.exchanges = Exchanges()
            fields, self.exchange = self.exchanges.begin(context.stickiness, self._link, fields)
        factory: Any = channel.requestFactory
        if getattr(factory, "_plain", False):
            self.request = request = factory(channel)
            request.adopt(fields)
        else:
            self.request = request = make_request(factory, channel, fields)
        request.begun_ns = self.begun_ns
        if reader.in_body:
            self.state = BODY
            self.body_held = False
            request.gotLength(fields.length if fields.length > 0 else None)
            if fields.expects and reader.dry and version is HTTP_1_1:
                expected = getattr(request, "continue_expected", None)
                if expected is None or not expected():
                    self._output.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
"""
HTTP/2: a stream, which is to its request what a channel is over HTTP/1.1.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from zope.interface import implementer

from stickyd.net.addresses import tcp_address
from stickyd.serve.http.head import RequestError
from stickyd.serve.http2.response_queue import HIGH_WATER_BYTES
from stickyd.serve.http2.schedule import priority_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure
    from twisted.web.http_headers import Headers

    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.http2.context import ConnectionContext
    from stickyd.serve.stickiness import Exchange

    Pairs = list[tuple[bytes, bytes]]


@implementer(ITransport, IConsumer, IPushProducer)
class HTTP2Stream:
    """
    One request and its response.

    As a transport and consumer it is the request's; as a producer it gives the request its
    body, which the client sends no faster than the request takes it.

    :ivar number: its own.
    :ivar request: what the site's factory has made.
    :ivar handoff: the handoff that brought the connection, as it was when the request came: another
        client may be the next one's.
    :ivar whole: whether the client has sent all of the request, or all that it will.
    :ivar over: nothing more can be sent to the client.
    :ivar size: how many bytes of the body have come.
    :ivar heard: when the last of them came.
    :ivar queue: the body of the response.
    :ivar begun_ns: when the request was counted; 0 before it is, and once its end was.
    """

    transport = None  # which requests look for, and do not need here
    begun_ns = 0

    def __init__(
        self,
        number: int,
        headers: Pairs,
        connection: ConnectionContext,
        exchange: Exchange | None,
        refuse: Callable[[HTTP2Stream, int], object],
        abort: Callable[[HTTP2Stream], object],
    ) -> None:
        """
        Make the request.  Nothing is sent or received before :meth:`begin`.

        :param headers: the fields, pseudo-fields among them, as the application shall see them.
        :param exchange: what the client is told beside the application's response.
        :param refuse: answers with a status if nothing was said yet, and resets the stream.
        :param abort: resets the stream.
        """
        self.number = number
        brought = connection.handoff
        self.handoff = None if brought is None else brought.at_this_request()
        self.whole = False
        self.over = False
        self.size = 0
        self.heard = 0.0
        self._connection = connection
        self._output = connection.output
        self._exchange = exchange  # until the response has a head
        self._refuse = refuse
        self._abort = abort
        self._client: IAddress | None = None
        self._secure = connection.secure
        if exchange is not None:
            self._secure = exchange.secure
            if exchange.client is not None:
                self._client = tcp_address(exchange.client, 0)
        self._held: list[Callable[[], object]] | None = None  # what the response waits with
        self._answered = False  # the request has said all
        self._told = False  # the request knows that its client is gone
        self._reading = True
        self._unread: deque[tuple[bytes, int]] = deque()
        self._producer: Any = None
        self._producer_rests = False
        self._length: int | None = None
        self.message = (b"", b"", b"HTTP/2")
        self.request: Any = connection.site.requestFactory(self, queued=False)
        priority = priority_of(self._tell_head(headers))
        self.queue = self._output.open(number, priority, self._drained)

    def _tell_head(self, headers: Pairs) -> bytes | None:
        """
        Give the request its fields.

        :return: its priority.
        """
        method = target = b""
        priority = None
        fields = self.request.requestHeaders
        for name, value in headers:
            if name == b":method":
                method = value
            elif name == b":path":
                target = value
            elif name == b":authority":
                fields.addRawHeader(b"host", value)
            elif name[:1] != b":":
                fields.addRawHeader(name, value)
                if name == b"content-length":
                    self._length = int(value)
                elif name == b"priority":
                    priority = value
        self.message = (method, target, b"HTTP/2")
        self.request.parseCookies()
        return priority

    def begin(self, body: bool, now: float) -> None:
        """
        Tell the request of its body.

        :param body: whether the client has more to send than the head.
        """
        self.heard = now
        self.begun_ns = self.context.counts.begin()
        # Whatever the method: a body of which the request is not told has no bound.
        self.request.gotLength(self._length if body else 0)
        if body:
            expects = self.request.requestHeaders.getRawHeaders(b"expect", [b""])[0]
            if expects.lower() == b"100-continue":
                expected = getattr(self.request, "continue_expected", None)
                if expected is None or not expected():
                    self.inform(b"100", [])

    # What all requests may ask of their channels.

    @property
    def site(self) -> Any:
        """
        The site, which is the factory too.
        """
        return self._connection.site

    factory = site

    @property
    def context(self) -> HTTPContext:
        """
        What all connections of the worker share.
        """
        return self._connection.site.context

    # The body of the request.

    def receive(self, data: bytes, window: int) -> None:
        """
        Get a piece of the body.

        :param window: how many bytes it took of the client's window.
        :raises RequestError: if the body is refused.
        """
        if not self._reading:
            self._unread.append((data, window))
            return
        if not self._answered:
            self.request.handleContentChunk(data)
        self._output.acknowledge(self.number, window)

    def receive_end(self) -> None:
        """
        Learn that the request is whole.
        """
        self.whole = True
        if self._reading and not self._answered:
            self.request.requestReceived(*self.message)

    @property
    def waits_for_client(self) -> bool:
        """
        Whether the request wants more of its body.
        """
        return self._reading and not self.whole

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if self._reading or self.over:
            return
        self._reading = True
        while self._unread and self._reading:
            data, window = self._unread.popleft()
            try:
                self.receive(data, window)
            except RequestError as error:
                self._refuse(self, error.status)
                return
        if self.whole and self._reading:
            self.receive_end()

    def stopProducing(self) -> None:
        self.abortConnection()

    def hold_body(self) -> None:
        """
        Open the client's window no further for now; called by the request.
        """
        self.pauseProducing()

    def want_body(self) -> None:
        """
        Go on.
        """
        self.resumeProducing()

    # The response.

    def inform(self, code: bytes, fields: Pairs) -> None:
        """
        Send a head that is not the response's, before that (RFC 9113, 8.1).
        """
        self._in_turn(lambda: self._output.put_head(self.number, [(b":status", code), *fields]))

    def writeHeaders(
        self, version: bytes, code: bytes, reason: bytes, headers: Headers | Iterable[Any]
    ) -> None:
        """
        Begin the response.

        :param headers: as Twisted's, or pairs.
        """
        raw = getattr(headers, "getAllRawHeaders", None)
        fields = (
            list(headers)  # type: ignore[arg-type]  # pairs, then
            if raw is None
            else [(name, v) for name, values in raw() for v in values]
        )
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            own = self.handoff
            fields = exchange.respond(fields, None if own is None else own.client)
            if exchange.met is not None:
                self._meet(exchange.met)
            if exchange.claiming is not None:
                # The client must not learn an id before the primary knows whose it is.
                self._held = []
                exchange.claiming.addBoth(self._let_go)
        self._in_turn(lambda: self._output.put_head(self.number, [(b":status", code), *fields]))

    def _meet(self, mark: bytes) -> None:
        """
        Know whom the response gives a token; the connection is the client's, unless another one's
        request has come since.
        """
        brought, own = self._connection.handoff, self.handoff
        if brought is not None and own is not None:
            if brought.client == own.client:
                brought.meet(mark)
            own.meet(mark)

    def write(self, data: bytes) -> None:
        self._in_turn(lambda: self._put(data))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def _put(self, data: bytes) -> None:
        if not self.over:
            self._output.put(self.number, data)
            if self.queue.size >= HIGH_WATER_BYTES:
                self._rest()

    def requestDone(self, request: object) -> None:
        """
        Called by the request when its response is complete.
        """
        self.count_end(self.request.code)
        self.loseConnection()

    def count_end(self, status: int) -> None:
        """
        Count the end of the request, if it was not counted yet.

        :param status: of its whole response.
        """
        if self.begun_ns:
            self.context.counts.end(status, self.begun_ns)
            self.begun_ns = 0

    def loseConnection(self) -> None:
        self._answered = True
        self._in_turn(self._end)

    def _end(self) -> None:
        if not self.over:
            self._output.end(self.number)

    def _in_turn(self, act: Callable[[], object]) -> None:
        if self._held is None:
            act()
        else:
            self._held.append(act)

    def _let_go(self, result: object) -> None:
        held, self._held = self._held or [], None
        if not self.over:
            for act in held:
                act()

    def abortConnection(self) -> None:
        if not self.over:
            self._abort(self)

    def refuse(self, error: RequestError) -> None:
        """
        Called by the request if it cannot be answered after all.
        """
        if not self.over:
            self._refuse(self, error.status)

    def _respondToBadRequestAndDisconnect(self) -> None:
        if not self.over:
            self._refuse(self, 400)

    def finish_early(self, reason: Failure) -> None:
        """
        End the response as if the application had, which is told that its client is gone.
        """
        self.loseConnection()
        self._tell_lost(reason)

    def lose(self, reason: Failure) -> None:
        """
        Learn that nothing can be sent any more; the request is told.
        """
        self.close()
        self._tell_lost(reason)

    def close(self) -> None:
        """
        Learn that nothing can be sent any more, but not because of its client.
        """
        self.over = True
        if self.begun_ns:
            self.begun_ns = 0
            request = self.request
            self.context.counts.drop(request.code if request.startedWriting else 0)
        self._held = None
        # What nobody will read must not take from the window of the connection.
        unread = sum(window for _, window in self._unread)
        self._unread.clear()
        self._output.acknowledge(self.number, unread)

    def _tell_lost(self, reason: Failure) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if not self._told:
            self._told = True
            self.request.connectionLost(reason)

    # Producers of the response.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise ValueError(
                f"registering producer {producer} before previous one ({self._producer}) was"
                " unregistered"
            )
        self._producer_rests = False
        if streaming:
            self._producer = producer
        else:
            self._producer = pull = _PullToPush(producer, self)
            pull.startStreaming()

    def unregisterProducer(self) -> None:
        producer, self._producer = self._producer, None
        if isinstance(producer, _PullToPush):
            producer.stopStreaming()

    def _rest(self) -> None:
        if self._producer is not None and not self._producer_rests:
            self._producer_rests = True
            self._producer.pauseProducing()

    def _drained(self) -> None:
        if self._producer is not None and self._producer_rests:
            self._producer_rests = False
            self._producer.resumeProducing()

    # What requests ask.

    def getPeer(self) -> Any:
        return self._client or self._connection.transport.getPeer()

    def getHost(self) -> Any:
        return self._connection.transport.getHost()

    def isSecure(self) -> bool:
        """
        Tell whether the client speaks TLS, as far as is known.
        """
        return self._secure

"""
The side of the channel that reads: heads, bodies and the requests made of them.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.web.iweb import INonQueuedRequestFactory

from stickyd.affinity.peek.http1 import Head
from stickyd.net.addresses import tcp_address
from stickyd.serve.http.chunked import ChunkedDecoder
from stickyd.serve.http.head import (
    CHUNKED,
    HTTP_1_1,
    FieldBlock,
    RequestError,
    parse_request_line,
    resolve_target,
)
from stickyd.serve.http.outgoing import BODY, LEAVING
from stickyd.serve.http.partial import PartialHead
from stickyd.serve.http.producing import Producing
from stickyd.serve.http.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.http.context import Route, Take
    from stickyd.serve.stickiness import Stickiness


class Reading(Producing):
    """
    Takes requests out of the input.

    :ivar requestFactory: makes a request for a channel.
    """

    requestFactory: Callable[..., Any] = Request  # noqa: N815 - Twisted's name

    _request: Any = None
    _message: tuple[bytes, bytes, bytes] = (b"", b"", b"")
    _block: FieldBlock | None = None
    _kept = b""  # input that waits for the answer before it
    _partial: PartialHead | None = None
    _skipped = False  # an empty line before the request line
    _left = 0  # of the body's length
    _body_held = False  # the request wants no more of its body for now
    _allowed: float = inf  # of the body's limit
    _decoder: ChunkedDecoder | None = None
    _draining = False
    _route: Route | None = None
    _take: Take | None = None
    _unremarkable: FieldBlock | None = None  # fields for which reception has nothing to do

    @property
    def message(self) -> tuple[bytes, bytes, bytes]:
        """
        Method, target and version of the request.
        """
        return self._message

    def hold_body(self) -> None:
        """
        Read no more of the request's body for now; called by the request.
        """
        self._body_held = True
        self._read_no_more()
        self._expect(None)

    def want_body(self) -> None:
        """
        Read on.
        """
        self._body_held = False
        if self._state == BODY and not self._waiting:
            self._read_on()
            self._expect(self.shared.limits.body)

    def _read_head(self, data: bytes, start: int) -> int:
        """
        Take the next head, and make its request.

        :return: where the head ends, or -1 if there is nothing to go on with.
        """
        end = data.find(b"\r\n\r\n", start) + 4
        if end < 4:
            self._begin_partial(data[start:])
            return -1
        head = data if start == 0 and end == len(data) else data[start:end]
        limits = self.shared.limits
        line_end = head.find(b"\r\n")
        if line_end == 0:
            # RFC 9112 section 2.2: a leading empty line is ignored; one is enough.
            if self._skipped:
                raise RequestError(400, "empty lines instead of a request")
            self._skipped = True
            return self._read_head(data, start + 2)
        self._skipped = False
        method, target, version = parse_request_line(head[:line_end], limits)
        if len(head) > limits.head_bytes:
            raise RequestError(431, "head too large")
        raw = head[line_end + 2 :]
        block = self._block
        if block is None or raw != block.raw or version is not block.version:
            block = self._block = self.shared.field_block(raw, version)
        if self._route is not None and self.came is not None:
            take = self._route(Head(method, target, block.pairs), self.came)
            if take is not None:
                self._take = take
                self._kept = data[start:]
                self._state = LEAVING
                # What is read must fit into a handoff; nobody here wants it anyway.
                self._read_no_more()
                return -1
        if target[0] != 47:  # a slash
            target, authority = resolve_target(method, target)
            if authority is not None:
                block = block.with_host(authority)
        self.persistent = version is HTTP_1_1 and not block.close and not self._draining
        self._message = (method, target, version)
        self._begin_request(block, end == len(data))
        return end

    def _begin_request(self, block: FieldBlock, dry: bool) -> None:
        """
        Make the request and tell it what is known; ``dry`` if none of its body is here.
        """
        length = block.length
        shared = self.shared
        shared.requests += 1
        most = shared.limits.body_bytes
        if length:
            self._allowed = inf if most is None else most
            if length > self._allowed:
                raise RequestError(413, "body too large")
        if shared.reception is not None:
            block = self._receive(shared.reception, block)
        factory = self.requestFactory
        ours = getattr(factory, "_plain", False)
        if ours:
            self._request = request = factory(self)
            request.adopt(block)
        else:
            self._request = request = self._make_foreign(factory, block)
        if not length:
            if not ours:
                request.gotLength(0)
            return
        self._state = BODY
        self._body_held = False
        if length == CHUNKED:
            self._decoder = ChunkedDecoder()
            request.gotLength(None)
        else:
            self._left = length
            request.gotLength(length)
        if block.expects and dry and block.version is HTTP_1_1:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _receive(self, reception: Stickiness, block: FieldBlock) -> FieldBlock:
        """
        Have a request received, and show the application what it shall see.
        """
        self._client = self._secure = self._visit = None
        if block is self._unremarkable:
            return block
        self._visit = visit = reception.begin(self._peer_host(), self.isSecure(), block.pairs)
        if visit.client is not None:
            self._client = tcp_address(visit.client, 0)
        if visit.unremarkable:
            self._unremarkable = block
            self._visit = None
            return block
        self._secure = visit.secure
        return block if visit.pairs is block.pairs else block.with_pairs(visit.pairs)

    def _peer_host(self) -> str:
        return getattr(self._transport.getPeer(), "host", "")

    def _make_foreign(self, factory: Callable[..., Any], block: FieldBlock) -> Any:
        """
        Make a request of a class that is not ours.
        """
        if INonQueuedRequestFactory.providedBy(factory):
            request = factory(self)
        else:
            request = factory(self, False)
        adopt = getattr(request, "adopt", None)
        if adopt is None:
            for name, value in block.pairs:
                request.requestHeaders.addRawHeader(name, value)
            request.parseCookies()
        else:
            adopt(block)
        return request

    def _read_body(self, data: bytes, start: int) -> int:
        """
        Take the body, or what there is of it.

        :return: where it ends, or -1 if it is not whole.
        """
        decoder = self._decoder
        if decoder is None:
            piece = data[start : start + self._left]
            if piece:
                self._request.handleContentChunk(piece)
            self._left -= len(piece)
            return -1 if self._left or self._state != BODY else start + len(piece)
        for piece in decoder.feed(data[start:]):
            self._allowed -= len(piece)
            if self._allowed < 0:
                raise RequestError(413, "body too large")
            self._request.handleContentChunk(piece)
            if self._state != BODY:
                return -1
        if not decoder.finished:
            return -1
        self._decoder = None
        return len(data) - len(decoder.rest)

    # Heads in pieces.

    def _begin_partial(self, data: bytes) -> None:
        if data:
            self._partial = PartialHead(self.shared.limits, self._skipped)
            self._expect(self.shared.limits.head)
            self._extend(data)

    def _extend(self, data: bytes) -> bytes | None:
        partial = self._partial
        assert partial is not None
        whole = partial.extend(data)
        if whole is not None:
            self._partial = None
            self._skipped = partial.skipped
        return whole

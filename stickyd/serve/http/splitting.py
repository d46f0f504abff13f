"""
Where requests begin in a stream of bytes, for protocols that do not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.serve.http.chunked import ChunkedDecoder
from stickyd.serve.http.head import (
    CHUNKED,
    HTTP_1_1,
    FieldBlock,
    RequestError,
    RequestHead,
    parse_request_line,
)

if TYPE_CHECKING:
    from stickyd.serve.http.limits import HTTPLimits


class RequestSplitter:
    """
    Takes a stream apart into heads and bodies, and changes no byte of it.

    :ivar partial: the part of a head that has come.
    :ivar opaque: nothing more can be told about the stream: it is broken, or is no HTTP
        from here on.
    """

    def __init__(self, limits: HTTPLimits) -> None:
        """
        :param limits: of heads; what exceeds them is opaque.
        """
        self._limits = limits
        self._block: FieldBlock | None = None
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self.partial = b""
        self.opaque = False

    @property
    def in_body(self) -> bool:
        """
        Whether the next byte belongs to a body.
        """
        return self._left > 0 or self._decoder is not None

    def head(self, data: bytes) -> tuple[RequestHead | None, bytes, bytes]:
        """
        Take the next head off, if it is whole.

        :param data: what has come.
        :return: the head, its bytes with those that came earlier, and what follows; the
            head is :obj:`None` if more bytes must come, which are then kept here, or if
            the stream is opaque from here on.
        """
        if self.partial:
            data = self.partial + data
            self.partial = b""
        start = 2 if data.startswith(b"\r\n") else 0  # RFC 9112, section 2.2
        end = data.find(b"\r\n\r\n", start) + 4
        if end < 4 and len(data) <= self._limits.head_bytes:
            self.partial = data
            return None, b"", b""
        try:
            if end < 4 or end > self._limits.head_bytes:
                raise RequestError(431, "head too large")
            head = self._parse(data[start:end])
        except RequestError:
            # Whoever serves the request answers it as it likes.
            self.opaque = True
            return None, data, b""
        if end == len(data):
            return head, data, b""
        return head, data[:end], data[end:]

    def _parse(self, raw: bytes) -> RequestHead:
        line, _, fields = raw.partition(b"\r\n")
        method, target, version = parse_request_line(line, self._limits)
        block = self._block
        if block is None or block.raw != fields or block.version is not version:
            block = self._block = FieldBlock(fields, version, self._limits)
        if method == b"CONNECT" or (version is HTTP_1_1 and _wants_websocket(block)):
            self.opaque = True
        elif block.length == CHUNKED:
            self._decoder = ChunkedDecoder()
        else:
            self._left = block.length
        return RequestHead(method, target, block.pairs)

    def body(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Take off what belongs to the body.

        :return: that, as it came, and what follows.
        """
        if self._decoder is None:
            taken = min(self._left, len(data))
            self._left -= taken
            return data[:taken], data[taken:]
        try:
            self._decoder.feed(data)
        except RequestError:
            self._decoder = None
            self.opaque = True
            return data, b""
        if not self._decoder.finished:
            return data, b""
        rest = self._decoder.rest
        self._decoder = None
        return data[: len(data) - len(rest)], rest


def _wants_websocket(block: FieldBlock) -> bool:
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in block.pairs)

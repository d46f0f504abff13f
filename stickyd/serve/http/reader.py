"""
Where requests begin and end in the stream of a connection.

Theory of operation.  There is no I/O here: bytes go in (:meth:`Reader.feed`), and what
serves the connection takes heads and bodies out, one after the other and at its own pace.
What it has not taken stays, to the byte, so that a connection can be given away with it at
any time between two requests.

======================  =============================================================
the next byte is of     how one gets further
======================  =============================================================
a head                  :meth:`Reader.read_head`, until it says that a head was there
a body (``in_body``)    :meth:`Reader.read_body`, until ``in_body`` is false
======================  =============================================================

Every host takes its requests from here, and nothing else reads the stream, so no two parts
can disagree on where a request ends.  An offer of an upgrade changes nothing (RFC 9110, 7.8):
whatever takes it has the rest with :meth:`Reader.take_rest`, and reads no more here.

How a stream is cut into pieces makes no difference: a head that cannot become a good one
is refused as early as that can be told, but with the same status as if it had come whole.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from stickyd.affinity.peek.http1 import Head
from stickyd.serve.http.chunked import ChunkedDecoder
from stickyd.serve.http.head import (
    CHUNKED,
    HTTP_1_1,
    REMEMBERED_BYTES,
    RequestError,
    parse_request_line,
)
from stickyd.serve.http.objections import first_objection

if TYPE_CHECKING:
    from stickyd.serve.http.head import FieldBlock, FieldBlocks

_NO_LINE: tuple[bytes, bytes, bytes] = (b"", b"", HTTP_1_1)


class Reader:
    """
    Takes the stream of one connection apart.

    It is of no use any more once it has raised a :class:`RequestError`.

    :ivar line: method and target of the last head, as sent; and the version, which is
        :data:`HTTP_1_0` or :data:`HTTP_1_1` itself.
    :ivar fields: its fields, and what they say about the connection.
    :ivar in_body: whether more of a body must come, or be taken.
    :ivar dry: whether everything that was fed has been taken.
    """

    line = _NO_LINE
    fields: FieldBlock | None = None

    _data = b""
    _head = b""  # the last one, unless it was long
    _head_start = 0
    _skipped = False  # an empty line before the request line
    _left = 0  # of the body's length
    _decoder: ChunkedDecoder | None = None

    def __init__(self, blocks: FieldBlocks) -> None:
        """
        :param blocks: parses fields; its limits are those of requests.
        """
        self._blocks = blocks
        self.in_body = False
        self.dry = True
        self._position = 0  # what is before it was taken
        self._scanned = 0  # how far behind the position the end of the head was looked for

    def feed(self, data: bytes) -> None:
        """
        Add what has come.
        """
        if self.dry:
            self._data = data
            self.dry = not data
        else:
            self._data = self._data[self._position :] + data
        self._position = 0

    @property
    def waiting_bytes(self) -> int:
        """
        How many bytes were fed and not taken.
        """
        return len(self._data) - self._position

    @property
    def head(self) -> Head:
        """
        The last head, as routers want it.
        """
        assert self.fields is not None
        method, target, _ = self.line
        return Head(method, target, self.fields.pairs)

    def read_head(self) -> bool:
        """
        Take the next head.

        :return: whether there was a whole one; if not, more bytes must be fed.
        :raise RequestError: if there is none, and no further bytes can make it one.
        """
        data, start = self._data, self._position
        end = data.find(b"\r\n\r\n", start + self._scanned) + 4
        head = data[start:end]
        fields = self.fields
        # The same again, or as on another connection?  Polls, and most clients that ask for one
        # thing, send that.
        if fields is None and (known := self._blocks.first_heads.get(head)) is not None:
            self.line, self.fields = known
            self._head = head
            fields = known[1]
        elif fields is None or not head or head != self._head:
            line_end = data.find(b"\r\n", start)
            if line_end == start:
                # RFC 9112 section 2.2: a leading empty line is ignored; one is enough.
                if self._skipped:
                    raise RequestError(400, "empty lines instead of a request")
                self._skipped = True
                self._position = start + 2
                self.dry = len(data) == start + 2
                self._scanned = 0
                return not self.dry and self.read_head()
            if end < 4:
                if not self.dry:
                    self._check_part(start)
                return False
            fields = self._parse(head, line_end - start)
        self._head_start = start
        self._position = end
        self.dry = end == len(data)
        self._scanned = 0
        self._skipped = False
        if fields.length:
            self._begin_body(fields.length)
        return True

    def _parse(self, head: bytes, line_bytes: int) -> FieldBlock:
        """
        Take a whole head apart.

        :param line_bytes: how long its first line is.
        """
        limits = self._blocks.limits
        try:
            line = parse_request_line(head[:line_bytes], limits)
            if len(head) > limits.head_bytes:
                raise RequestError(431, "head too large")
            raw = head[line_bytes + 2 :]
            fields = self.fields
            if fields is None or raw != fields.raw or line[2] is not fields.version:
                self.fields = fields = self._blocks.parse(raw, line[2])
        except RequestError as error:
            raise first_objection(head, limits) or error from None
        first = self.line is _NO_LINE
        self.line = line
        if len(head) > REMEMBERED_BYTES:
            self._head = b""
        else:
            self._head = head
            if first:
                self._blocks.remember_first(head, line, fields)
        return fields

    def _begin_body(self, length: int) -> None:
        most = self._blocks.limits.body_bytes
        allowed = inf if most is None else most
        if length > allowed:
            raise RequestError(413, "body too large")
        self.in_body = True
        if length == CHUNKED:
            self._decoder = ChunkedDecoder(allowed)
        else:
            self._left = length

    def _check_part(self, start: int) -> None:
        part = self._data[start:] if start else self._data
        objection = first_objection(part, self._blocks.limits)
        if objection is not None:
            raise objection
        self._scanned = max(0, len(part) - 3)

    def read_body(self) -> bytes:
        """
        Take what there is of the body; ``in_body`` says whether that was the rest of it.

        :raise RequestError: if the coding is broken, or it becomes too large.
        """
        data, start = self._data, self._position
        decoder = self._decoder
        if decoder is None:
            end = start + self._left
            piece = data[start:end] if start or end < len(data) else data
            self._left -= len(piece)
            self.in_body = self._left > 0
            self._taken_to(start + len(piece))
            return piece
        content = b"".join(decoder.feed(data[start:] if start else data))
        if decoder.finished:
            self._decoder = None
            self.in_body = False
        self._taken_to(len(data) - len(decoder.rest))
        return content

    def _taken_to(self, position: int) -> None:
        if position == len(self._data):
            # Not to keep a large piece for as long as the connection is idle.
            self._data = b""
            position = 0
            self.dry = True
        self._position = position

    def put_back(self) -> None:
        """
        Undo the last :meth:`read_head`, as long as nothing was done since.
        """
        self._position = self._head_start
        self.dry = False
        self._decoder = None
        self._left = 0
        self.in_body = False

    def take_rest(self) -> bytes:
        """
        Take whatever has come and was not taken.
        """
        rest = self._data[self._position :] if self._position else self._data
        self._data = b""
        self._position = self._scanned = 0
        self.dry = True
        return rest

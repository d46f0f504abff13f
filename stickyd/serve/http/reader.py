"""
Where requests begin and end in the stream of a connection.

Theory of operation.  There is no I/O here: bytes go in (:meth:`Reader.feed`), and whoever
serves the connection takes heads and bodies out, one after the other and at their own
pace.  What they have not taken stays, to the byte, so that a connection can be given away
with it at any time between two requests.

======================  =============================================================
the next byte is of     how one gets further
======================  =============================================================
a head                  :meth:`Reader.read_head`, until it says that a head was there
a body (``in_body``)    :meth:`Reader.read_body`, until ``in_body`` is false
======================  =============================================================

Every host takes its requests from here and nobody else reads the stream, so no two of them
can disagree on where a request ends.  An offer of an upgrade changes nothing (RFC 9110, 7.8):
if it is taken, whoever takes it has the rest with :meth:`Reader.take_rest`, and reads no
more here.

How a stream is cut into pieces makes no difference: a head that cannot become a good one
is refused as early as that can be told, but with the same status as if it had come whole.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from stickyd.affinity.peek.http1 import Head
from stickyd.serve.http.chunked import ChunkedDecoder
from stickyd.serve.http.head import CHUNKED, HTTP_1_1, RequestError, parse_request_line
from stickyd.serve.http.objections import first_objection

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.http.head import FieldBlock
    from stickyd.serve.http.limits import HTTPLimits

    Parse = Callable[[bytes, bytes], FieldBlock]


class Reader:
    """
    Takes the stream of one connection apart.

    It is of no use any more once it has raised a :class:`RequestError`.

    :ivar method: of the last head, as sent.
    :ivar target: the request target, as sent.
    :ivar version: :data:`HTTP_1_0` or :data:`HTTP_1_1` itself.
    :ivar fields: the fields, and what they say about the connection.
    :ivar in_body: whether more of a body must come, or be taken.
    """

    __slots__ = (
        "_data",
        "_decoder",
        "_head_start",
        "_left",
        "_limits",
        "_parse",
        "_position",
        "_scanned",
        "_skipped",
        "fields",
        "in_body",
        "method",
        "target",
        "version",
    )

    def __init__(self, limits: HTTPLimits, parse: Parse) -> None:
        """
        :param parse: makes a field block of its bytes and its version, as
            :meth:`stickyd.serve.http.head.FieldBlocks.parse` does.
        """
        self._limits = limits
        self._parse = parse
        self._data = b""
        self._position = 0  # what is before it was taken
        self._head_start = 0
        self._scanned = 0  # how far behind the position the end of the head was looked for
        self._skipped = False  # an empty line before the request line
        self._left = 0  # of the body's length
        self._decoder: ChunkedDecoder | None = None
        self.method = b""
        self.target = b""
        self.version = HTTP_1_1
        self.fields: FieldBlock | None = None
        self.in_body = False

    def feed(self, data: bytes) -> None:
        """
        Add what has come.
        """
        position = self._position
        if position == len(self._data):
            self._data = data
        else:
            self._data = self._data[position:] + data
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
        return Head(self.method, self.target, self.fields.pairs)

    def read_head(self) -> bool:
        """
        Take the next head.

        :return: whether there was a whole one; if not, more bytes must be fed.
        :raise RequestError: if there is none, and no further bytes can make it one.
        """
        data, start = self._data, self._position
        end = data.find(b"\r\n\r\n", start + self._scanned) + 4
        line_end = data.find(b"\r\n", start)
        if line_end == start:
            # RFC 9112 section 2.2: a leading empty line is ignored; one is enough.
            if self._skipped:
                raise RequestError(400, "empty lines instead of a request")
            self._skipped = True
            self._position = start + 2
            self._scanned = 0
            return self.read_head()
        if end < 4:
            if len(data) > start:
                self._check_part(start)
            return False
        limits = self._limits
        try:
            method, target, version = parse_request_line(data[start:line_end], limits)
            if end - start > limits.head_bytes:
                raise RequestError(431, "head too large")
            raw = data[line_end + 2 : end]
            fields = self.fields
            if fields is None or raw != fields.raw or version is not fields.version:
                self.fields = fields = self._parse(raw, version)
        except RequestError as error:
            raise first_objection(data[start:end], limits) or error from None
        self.method, self.target, self.version = method, target, version
        self._head_start, self._position = start, end
        self._scanned = 0
        self._skipped = False
        if fields.length:
            self._begin_body(fields.length)
        return True

    def _begin_body(self, length: int) -> None:
        most = self._limits.body_bytes
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
        objection = first_objection(part, self._limits)
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
        self._position = position

    def put_back(self) -> None:
        """
        Undo the last :meth:`read_head`, as long as nothing was done since.
        """
        self._position = self._head_start
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
        return rest

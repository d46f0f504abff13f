"""
The chunked transfer coding, decoded as strictly as RFC 9112 section 7.1 allows.

llhttp decodes it too, but does not tell where a body ends, and that is needed to find
the next request, or to give the connection away with the bytes that follow.
"""

from __future__ import annotations

import re
from math import inf

from stickyd.serve.http.head import RequestError

_MAX_LINE_BYTES = 256
"""Bytes of a chunk's line, extensions included; nothing sends longer ones in earnest."""

_MAX_TRAILER_BYTES = 8192
"""Bytes of all trailer fields together; they are checked and dropped."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = (
    rb"(?:" + _TOKEN + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*")'
)
# At most 16 digits: more than 2**64 is an attack on integers, and no size.  No
# white space around extensions, though the RFC has some for old implementations: llhttp
# refuses it too, and two parsers that disagree are what smugglers look for.
_is_chunk_line = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;" + _TOKEN + rb"(?:=" + _VALUE + rb")?)*"
).fullmatch
_is_field = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*").fullmatch


class ChunkedDecoder:
    """
    Decodes one body.

    :ivar finished: whether its end has come.
    :ivar rest: what followed the end.
    """

    def __init__(self, most_bytes: float = inf) -> None:
        """
        :param most_bytes: how much content there may be.
        """
        self._allowed = most_bytes
        self.finished = False
        self.rest = b""
        self._line = b""  # the beginning of a line
        self._left = 0  # of the chunk being read
        self._trailer = 0  # bytes of trailer fields so far
        # A plain function, called with self: a bound method would be a cycle for the
        # garbage collector to find after each request.
        self._read = ChunkedDecoder._read_size

    def feed(self, data: bytes) -> list[bytes]:
        """
        Decode the next piece.

        :return: the content in it, in order; may be empty.
        :raise RequestError: if the coding is broken, or the content longer than it may be;
            the decoder is of no use then.
        """
        content: list[bytes] = []
        position = 0
        while position < len(data) and not self.finished:
            position = self._read(self, data, position, content)
        if self.finished:
            self.rest = data[position:]
        return content

    def _read_size(self, data: bytes, position: int, content: list[bytes]) -> int:
        line, position = self._read_line(data, position, _MAX_LINE_BYTES)
        if line is None:
            return position
        match = _is_chunk_line(line)
        if match is None:
            raise RequestError(400, "malformed chunk size")
        self._left = int(match.group(1), 16)
        # By what is announced: with what has come it would depend on how that was cut.
        self._allowed -= self._left
        if self._allowed < 0:
            raise RequestError(413, "body too large")
        self._read = ChunkedDecoder._read_content if self._left else ChunkedDecoder._read_trailer
        return position

    def _read_content(self, data: bytes, position: int, content: list[bytes]) -> int:
        piece = data[position : position + self._left]
        content.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._read = ChunkedDecoder._read_end
        return position + len(piece)

    def _read_end(self, data: bytes, position: int, content: list[bytes]) -> int:
        line, position = self._read_line(data, position, 0)
        if line is not None:
            self._read = ChunkedDecoder._read_size
        elif self._line != b"\r":
            raise RequestError(400, "chunk longer than its size")
        return position

    def _read_trailer(self, data: bytes, position: int, content: list[bytes]) -> int:
        line, position = self._read_line(data, position, _MAX_TRAILER_BYTES - self._trailer)
        if line:
            if not _is_field(line):
                raise RequestError(400, "malformed trailer field")
            self._trailer += len(line) + 2
        elif line is not None:
            self.finished = True
        return position

    def _read_line(self, data: bytes, position: int, most: int) -> tuple[bytes | None, int]:
        """
        Take a line, without its end, or keep what there is of it.

        :return: the line if it is whole, and where to go on.
        """
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        line = self._line + data[position:stop]
        if len(line) > most + 2:
            raise RequestError(400, "chunk line too long")
        if end < 0:
            if b"\r" in line[:-1]:
                raise RequestError(400, "bare CR in chunked body")
            self._line = line
            return None, stop
        if line[-2:-1] != b"\r":
            raise RequestError(400, "bare LF in chunked body")
        self._line = b""
        return line[:-2], stop

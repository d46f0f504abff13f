"""
Where requests end, against another parser: h11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from stickyd.serve.http.head import FieldBlocks, RequestError
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMITS = HTTPLimits(head_bytes=4096, head_fields=50, target_bytes=1000, body_bytes=20_000)

#: What is mutated.
SEEDS = (
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello%b"
    % b"GET /c HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%b%b"
    % (b"5;x=y\r\nhello\r\n0\r\nTrailer: t\r\n\r\n", b"GET /e HTTP/1.1\r\nHost: h\r\n\r\n"),
    b"POST /f HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n%b%b"
    % (b"Content-Length: 30\r\n\r\n", b"GET /admin HTTP/1.1\r\nHost: h\r\n\r\n"),
    b"GET /g HTTP/1.0\r\n\r\n",
    b"PUT /h HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n%b"
    % b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)

Found = tuple[bytes, bytes, bytes]


def ours(pieces: Iterable[bytes]) -> tuple[list[Found], int]:
    """
    Read a stream with our reader.

    :return: method, target and body of each request that is whole; and the status of the
        refusal that ended it, or 0.
    """
    reader = Reader(FieldBlocks(LIMITS))
    found: list[Found] = []
    body = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if not reader.in_body:
                    if not reader.read_head():
                        break
                    body = b""
                if reader.in_body:
                    body += reader.read_body()
                    if reader.in_body:
                        break
                found.append((*reader.line[:2], body))
    except RequestError as refusal:
        return found, refusal.status
    return found, 0


def theirs(stream: bytes) -> tuple[list[Found], bool]:
    """
    Read a stream with h11.

    :return: as :func:`ours`, and whether it refused the next head.
    """
    found: list[Found] = []
    while stream:
        # h11 has no patience with the empty line that a server ignores (RFC 9112, 2.2).
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
        connection.receive_data(stream.removeprefix(b"\r\n"))
        try:
            request = connection.next_event()
        except h11.RemoteProtocolError:
            return found, True
        if not isinstance(request, h11.Request):
            break
        body = b""
        try:
            while isinstance(event := connection.next_event(), h11.Data):
                body += bytes(event.data)
        except h11.RemoteProtocolError:
            # It refuses trailers too, by what would be wrong in a head; we drop them.
            break
        if not isinstance(event, h11.EndOfMessage):
            break
        found.append((bytes(request.method), bytes(request.target), body))
        stream, _ = connection.trailing_data
    return found, False


def cut(stream: bytes, size: int) -> list[bytes]:
    """
    A stream in pieces of a size.
    """
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def check(data: bytes) -> None:
    """
    Check that both parsers see the same requests, as far as both see any, and ours the same
    wherever the stream is cut.

    h11 may take what we refuse, not the other way round.

    :param data: the stream, behind a byte that says in what pieces it comes.
    """
    if not data:
        return
    stream = data[1:]
    found, status = ours([stream])
    assert ours(cut(stream, 1 + data[0] % 32)) == (found, status), "cuts make a difference"
    expected, refused = theirs(stream)
    common = min(len(found), len(expected))
    assert found[:common] == expected[:common], "two parsers disagree"
    if refused:
        assert len(found) <= len(expected), "we take what another parser refuses"

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
    reader = Reader(LIMITS, FieldBlocks(LIMITS).parse)
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
                found.append((reader.method, reader.target, body))
    except RequestError as refusal:
        return found, refusal.status
    return found, 0


def theirs(stream: bytes) -> tuple[list[Found], bool]:
    """
    Read a stream with h11.

    :return: as :func:`ours`, and whether it refused the next head.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    found: list[Found] = []
    request: h11.Request | None = None
    body = b""
    in_body = False
    try:
        connection.receive_data(stream)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
                in_body = True
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                found.append((bytes(request.method), bytes(request.target), body))
                response = h11.Response(status_code=200, headers=[("Content-Length", "0")])
                connection.send(response)
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return found, False
                connection.start_next_cycle()
                in_body = False
            else:
                return found, False
    except h11.RemoteProtocolError:
        # Of a body it refuses trailers too, by what would be wrong in a head; we drop them.
        return found, not in_body


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

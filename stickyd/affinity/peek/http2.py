"""
The first request of an HTTP/2 connection, from its first bytes.

h2 does the parsing, the same that will parse the connection where it is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stickyd.affinity.peek.http1 import Head
from stickyd.affinity.peek.need import PeekError

if TYPE_CHECKING:
    from collections.abc import Iterable


NOTICE: Final = (
    "HTTP/2: a connection is placed by its first request. A later request on it that belongs to"
    " another worker is refused unbegun, and the client makes it again on a new connection; of a"
    " proxy in --trust it is served where it is, as proxies do not make it again"
)
"""
What an operator should know who wants HTTP/2 and keys that stand in requests.
"""


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""
What a client sends first (RFC 9113, section 3.4).
"""

MAX_FRAMES: Final = 128
"""
How many frames are looked at for the first request.  Clients send three or four before it,
and its head may be cut into some dozens.
"""

_FRAME_HEADER_BYTES: Final = 9


def head_of(fields: Iterable[tuple[bytes, bytes]]) -> Head:
    """
    Make an HTTP/1 head of the fields of an HTTP/2 request (RFC 9113, section 8.3.1).
    """
    method = target = b""
    headers = []
    for name, value in fields:
        if name == b":method":
            method = value
        elif name == b":path":
            target = value
        elif name == b":authority":
            headers.append((b"host", value))
        elif name[:1] != b":":
            headers.append((name, value))
    return Head(method, target, headers)


class FirstRequest:
    """
    Reads up to the head of the first request, and no further: what comes behind it may be
    much, and is the worker's.
    """

    def __init__(self) -> None:
        # Imported here because h2 is an extra: this is made only where it is installed.
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self._connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._connection.initiate_connection()
        self._frames = 0
        # The beginning of the preface, or of a frame.
        self._rest = b""
        self._greeted = False

    def feed(self, data: bytes) -> Head | None:
        """
        Read on.  What h2 would answer is dropped.

        :return: :obj:`None` if more is needed.
        :raises PeekError: if these are no bytes of HTTP/2, or the client has no request.
        """
        data, start, head = self._rest + data, 0, None
        while head is None and (end := self._end_of_piece(data, start)) is not None:
            head = self._read(data[start:end])
            start = end
        self._rest = data[start:]
        return head

    def _end_of_piece(self, data: bytes, start: int) -> int | None:
        """
        Where the preface or a frame (RFC 9113, section 4.1) ends, if all of it is there.
        """
        if not self._greeted:
            end = start + len(PREFACE)
            if len(data) < end and PREFACE.startswith(data[start:]):
                return None
            self._greeted = True
            return end
        if len(data) < start + _FRAME_HEADER_BYTES:
            return None
        end = start + _FRAME_HEADER_BYTES + int.from_bytes(data[start : start + 3], "big")
        return end if len(data) >= end else None

    def _read(self, piece: bytes) -> Head | None:
        from h2.events import ConnectionTerminated, RequestReceived

        self._frames += 1
        if self._frames > MAX_FRAMES:
            raise PeekError(f"no request in {MAX_FRAMES} frames")
        try:
            events = self._connection.receive_data(piece)
        except Exception as error:  # noqa: BLE001 (h2 raises more than its own errors)
            raise PeekError(f"not HTTP/2: {error}") from None
        self._connection.clear_outbound_data_buffer()
        for event in events:
            if isinstance(event, RequestReceived):
                return head_of(event.headers)
            if isinstance(event, ConnectionTerminated):
                raise PeekError("the client leaves without a request")
        return None

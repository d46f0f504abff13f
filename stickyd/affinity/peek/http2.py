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


def head_of(fields: Iterable[tuple[bytes, bytes]]) -> Head:
    """
    Make of the fields of an HTTP/2 request (RFC 9113, section 8.3.1) what they are in HTTP/1.
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
    Reads up to the head of the first request.
    """

    def __init__(self) -> None:
        # Here, as it is an extra, and nobody comes here who does not have it.
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self._connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._connection.initiate_connection()

    def feed(self, data: bytes) -> Head | None:
        """
        Read on.  What h2 would answer is dropped.

        :return: :obj:`None` if more is needed.
        :raises PeekError: if these are no bytes of HTTP/2, or the client has no request.
        """
        from h2.events import ConnectionTerminated, RequestReceived

        try:
            events = self._connection.receive_data(data)
        except Exception as error:  # noqa: BLE001 (h2 raises more than its own errors)
            raise PeekError(f"not HTTP/2: {error}") from None
        self._connection.clear_outbound_data_buffer()
        for event in events:
            if isinstance(event, RequestReceived):
                return head_of(event.headers)
            if isinstance(event, ConnectionTerminated):
                raise PeekError("the client leaves without a request")
        return None

"""
One connection to the admin endpoint: twisted.web's, with bounds that a stranger cannot stretch.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.web.http import HTTPChannel
from typing_extensions import override

from stickyd.admin.request import AdminRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

#: Bytes of a request's head, and of one line of it.
MOST_HEAD_BYTES = 16_384


class AdminChannel(HTTPChannel):
    """
    A connection that ends with the first thing that is wrong, after one line that says what.

    Twisted goes on with what follows a request that it has refused, and with requests whose
    answers nobody reads; this does neither.
    """

    requestFactory: Any = AdminRequest  # noqa: N815 - Twisted's name
    totalHeadersSize = MOST_HEAD_BYTES  # noqa: N815
    MAX_LENGTH = MOST_HEAD_BYTES

    def __init__(
        self,
        opened: Callable[[AdminChannel], object],
        answered: Callable[[AdminChannel], object],
        refused: Callable[[AdminChannel], object],
        closed: Callable[[AdminChannel], object],
    ) -> None:
        """
        :param answered: called when a request has its answer.
        :param refused: called when nothing more is read, and the client may take a moment to
            read why: what is closed while it still sends would reset the connection.
        """
        super().__init__()
        self._opened = opened
        self._answered = answered
        self._refused = refused
        self._closed = closed
        self._is_over = False

    @override
    def connectionMade(self) -> None:
        super().connectionMade()
        self._opened(self)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_over = True
        self._closed(self)
        super().connectionLost(reason)

    def refuse(self, status: int, text: str) -> None:
        """
        Answer to what is not even a request, and read no more.
        """
        if self._is_over:
            return
        self._is_over = True
        self.setTimeout(None)
        body = json.dumps({"error": text}).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        network: Any = self._networkProducer
        network.unregisterProducer()
        transport: Any = self.transport
        transport.write(head.encode() + body)
        transport.loseWriteConnection()
        self._refused(self)

    def cut(self) -> None:
        """
        End the connection, whatever it is doing.
        """
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    # what Twisted calls

    @override
    def dataReceived(self, data: bytes) -> None:
        if not self._is_over:
            super().dataReceived(data)

    @override
    def lineReceived(self, line: bytes) -> None:
        if not self._is_over:
            super().lineReceived(line)

    @override
    def rawDataReceived(self, data: bytes) -> None:
        if not self._is_over:
            super().rawDataReceived(data)

    @override
    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(431, f"a line of the head is longer than {MOST_HEAD_BYTES} bytes")

    @override
    def allContentReceived(self) -> None:
        if self._waitingForTransport:
            # The client asks, and does not read what it is told.
            self._is_over = True
            self.loseConnection()
        elif not self._is_over:
            super().allContentReceived()

    @override
    def requestDone(self, request: AdminRequest) -> None:
        self._answered(self)
        super().requestDone(request)

    @override
    def timeoutConnection(self) -> None:
        self.loseConnection()

    @override
    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(
            400,
            "that is no request of HTTP/1.1 (nor is TLS spoken here), or its head is longer than"
            f" {MOST_HEAD_BYTES} bytes",
        )

    @override
    def _send100Continue(self) -> None:
        if not self._is_over:
            super()._send100Continue()

# ruff: noqa: N802, N815 - the names are Twisted's interfaces'
"""
A worker's plain connection as Twisted protocols see it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from typing_extensions import override
from zope.interface import implementer

from stickyd.net.peer import has_gone
from stickyd.net.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.python.failure import Failure


@implementer(ITCPTransport, IConsumer, IPushProducer, ISystemHandle, ILoggingContext)
class SocketTransport(Stream):
    """
    An :class:`ITCPTransport` for TCP and UNIX sockets.

    It behaves as Twisted's own does, down to when producers are called and to a protocol
    that is no :class:`IHalfCloseableProtocol` losing what is not yet written when its
    client ends its side.
    """

    streamingProducer = False
    producerPaused = False

    _half_closing = False

    def detach(self) -> tuple[socket.socket, bytes]:
        if self.producer is not None:
            raise RuntimeError("a connection with a registered producer cannot be detached")
        return super().detach()

    # Writing.

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if data and not self._mute:
            self._put(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self._close()

    def finish(self) -> None:
        """
        Close the connection as :meth:`loseConnection` does, and call a producer no more.
        """
        self.producer = None
        self.producerPaused = self._attention = False
        self._close()

    def abortConnection(self) -> None:
        self._abort()

    def loseWriteConnection(self) -> None:
        if self.connected and not self._mute and not self._half_closing:
            self._half_closing = True
            self._await_empty()

    def _emptied(self) -> None:
        if self.producer is not None:
            if self.producerPaused or not self.streamingProducer:
                self._resume_producer()
        elif self.disconnecting:
            self._end(connectionDone)
        elif self._half_closing:
            self._half_close()

    def _half_close(self) -> None:
        self._half_closing = False
        if not self._shut_output():
            return
        protocol: IHalfCloseableProtocol | None = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None:
            self._call(protocol.writeConnectionLost)

    # Producers that write to us.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} "
                "was never unregistered."
            )
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        self.producerPaused = False
        if not streaming:
            # It writes once per call, and is called again when that is written.
            self._expect_empty(True)
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self.producerPaused = False
        self._expect_empty(False)
        if self.connected and not self._doomed and (self.disconnecting or self._half_closing):
            self._await_empty()

    def stopConsuming(self) -> None:
        self.unregisterProducer()
        self.loseConnection()

    def _congested(self) -> None:
        if self.producer is not None and self.streamingProducer and not self.producerPaused:
            self.producerPaused = True
            self._expect_empty(True)
            self.producer.pauseProducing()

    def _eased(self) -> None:
        """
        Leave it at that: a producer is resumed when all is written, as Twisted's are.
        """

    def _resume_producer(self) -> None:
        self.producerPaused = False
        self._expect_empty(not self.streamingProducer)
        self._call_once_a_turn(self.producer.resumeProducing)
        if self.producer is None and self._attention:
            # It is done, and has closed the connection.
            self._schedule()

    # We as a producer.

    def pauseProducing(self) -> None:
        self._pause()

    def resumeProducing(self) -> None:
        self._resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    # Calls of the protocol.

    def _open(self) -> None:
        self.protocol.makeConnection(self)

    def _feed(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    @override
    def _ends_with_input(self) -> bool:
        # A protocol that is asked nothing is told in Twisted's way.
        ends: Callable[[], bool] | None = getattr(self.protocol, "ends_with_input", None)
        return ends is not None and ends()

    def _input_ended(self) -> None:
        protocol: Any = self.protocol
        if not IHalfCloseableProtocol.providedBy(protocol):
            protocol = IHalfCloseableProtocol(protocol, None)
        # With our sending side shut a half of an end looks as a whole one.
        if protocol is None or (not self._mute and has_gone(self.socket)):
            self._end(connectionDone)
        else:
            protocol.readConnectionLost()

    def _lost(self, reason: Failure) -> None:
        producer, self.producer = self.producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        finally:
            self.protocol.connectionLost(reason)

    # What can be asked and set.

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return self._address()

    def getHandle(self) -> socket.socket:
        return self.socket

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return f"{type(self.protocol).__name__},{self._peer}"

    def getTcpNoDelay(self) -> bool:
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._output.set_no_delay(enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

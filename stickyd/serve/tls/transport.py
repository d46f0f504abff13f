# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Twisted has not annotated its TLS transport.)
"""
One connection's TLS.

Theory of operation.  The state of TLS, and what to do about its errors, is Twisted's.  Ours is
what each connection pays for: Twisted asks zope.interface anew what each transport provides, sets
timers of its reactor, which on asyncio are two, and asks OpenSSL for output whether there is any
or not, which costs an exception each time.  Here

- what the transport provides stands in the class;
- what is written in a turn of the loop becomes one record, and leaves with the close_notify, if
  that comes in the same turn, in one system call;
- OpenSSL's memory is looked at before it is read.

Tickets for a later session (RFC 8446, section 4.6.1) leave at once, though they could wait for the
first answer: without them nothing acknowledges the end of the handshake, and a client whose
Nagle's algorithm is on keeps its request back for as long as we delay that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from OpenSSL import SSL
from OpenSSL._util import ffi
from OpenSSL._util import lib as openssl
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import alsoProvides, classImplements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket

    from twisted.internet.interfaces import IProtocol, ITransport
    from twisted.protocols.tls import TLSMemoryBIOFactory

    from stickyd.interfaces import IReadiness

HANDSHAKE_SECONDS = 30.0
"""
How long a client may take for its handshake.
"""

LAST_HANDSHAKE_SECONDS = 5.0
"""
The same, while the worker waits for its last connections to end.
"""

_RECORDS_BYTES = 1 << 15  # what is decrypted in one call

_GATHERED_BYTES = 64_000  # of what is written in a turn; more does not wait for its end

#: Turns of the loop in which an answer may come that the session tickets leave with: in one an
#: application is called, in the next what it has written is flushed.
_TICKET_TURNS = 3


class TlsTransport(TLSMemoryBIOProtocol):
    """
    One connection's TLS: the protocol of the plain transport, the application's transport.

    ``getPeerCertificate()`` and ``negotiatedProtocol`` tell what the handshake brought.

    A client that says close_notify sends no more, but may still want to read (RFC 8446,
    section 6.1): a protocol that provides :class:`IHalfCloseableProtocol` is told so and ends
    the connection when it likes, as on a plain connection; for any other it is the end.

    :ivar can_divert: whether :meth:`divert` may be called.
    """

    transport: Any
    wrappedProtocol: Any  # noqa: N815 - Twisted's name
    _tlsConnection: Any  # noqa: N815 - the same
    _client_ended = False  # by close_notify, and the protocol has been told
    _gathered_bytes = 0
    _flush_scheduled = False
    _handshake_timer: Any = None
    _hurried = False
    _ticket_turns = 0

    def __init__(
        self,
        factory: TLSMemoryBIOFactory,
        build: Callable[[Any], IProtocol],
        readiness: IReadiness,
        divert: Callable[[TlsTransport], socket] | None = None,
        connected: bool = False,
    ) -> None:
        """
        :param build: gives the protocol, once there is a connection to ask about.
        :param readiness: times the handshake, and gathers small writes of a turn.
        :param connected: the protocol has its transport already.
        """
        super().__init__(factory, None, not connected)
        self._build = build
        self._readiness = readiness
        self._divert = divert
        self.can_divert = divert is not None
        self._gathered: list[bytes] = []

    @property
    def lingering(self) -> bool:
        """
        Whether the client is known to be still sending; see
        :class:`stickyd.net.stream.Stream`.
        """
        return bool(getattr(self.transport, "lingering", False))

    @lingering.setter
    def lingering(self, lingering: bool) -> None:
        self.transport.lingering = lingering

    def divert(self) -> socket:
        """
        Give the plain text of the connection away.  The protocol is told nothing more.

        No producer may be registered.

        :return: one end of a socket pair, non-blocking, which the caller closes.
        """
        assert self._divert is not None
        return self._divert(self)

    def __getattr__(self, name: str) -> Any:
        """
        Give what the plain transport has, as Twisted's wrappers do, but not its detach():
        the socket is of no use to anybody without the state of its TLS; nor its startTLS();
        nor what would end the connection, or let writes through, without a word of TLS.
        """
        if name in ("corked", "detach", "finish", "startTLS"):
            raise AttributeError(name)
        return super().__getattr__(name)

    # The handshake.

    @override
    def makeConnection(self, transport: ITransport) -> None:
        # As Twisted's own, but for the interfaces, and for the first step of a handshake, which
        # only a client has something to say in.
        self.transport = transport
        self.connected = 1
        self.wrappedProtocol = self._build(self)
        del self._build  # most refer to the protocol, which refers to us
        self._await_handshake(HANDSHAKE_SECONDS)
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        self.factory.registerProtocol(self)
        if self._connectWrapped:
            self.wrappedProtocol.makeConnection(self)
        else:
            # It may be the client of the handshake.
            self._checkHandshakeStatus()

    def _await_handshake(self, seconds: float) -> None:
        self._stop_waiting()
        self._handshake_timer = self._readiness.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def _give_up(self) -> None:
        self._handshake_timer = None
        self.abortConnection()

    def shorten_deadline(self) -> None:
        """
        Give a handshake that is under way only :data:`LAST_HANDSHAKE_SECONDS` more.
        """
        if self._handshake_timer is not None and not self._hurried:
            self._hurried = True
            self._await_handshake(LAST_HANDSHAKE_SECONDS)

    @override
    def _checkHandshakeStatus(self) -> None:
        super()._checkHandshakeStatus()
        if self._handshakeDone:
            self._stop_waiting()
            self._ticket_turns = _TICKET_TURNS

    def _let_tickets_wait(self) -> None:
        """
        Have what the handshake ends with leave with the first answer, if that comes at once.

        A packet of its own wakes the client for nothing.  To wait for longer would be worse: until
        its end of the handshake is acknowledged, a client whose packets are not to be small keeps
        its request back (Nagle's algorithm), and our kernel acknowledges by itself after 40 ms.
        """
        if not self.connected:
            return
        self._ticket_turns -= 1
        if self._ticket_turns and _size_of(self._tlsConnection._from_ssl):
            self._readiness.call_soon(self._let_tickets_wait)
        else:
            self._ticket_turns = 0
            self._flushSendBIO()

    # Input.

    @override
    def _flushReceiveBIO(self) -> None:
        # As Twisted's own, but for what a close_notify of the client does.
        connection = self._tlsConnection
        while not (self._lostTLSConnection or self._client_ended):
            try:
                data = connection.recv(_RECORDS_BYTES)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._input_ended()
            except SSL.Error:
                self._tlsShutdownFinished(Failure())
            else:
                if not self._aborted:
                    self.wrappedProtocol.dataReceived(data)
                if not (_size_of(connection._into_ssl) or connection.pending()):
                    break
        if self._ticket_turns == _TICKET_TURNS:
            self._let_tickets_wait()
        elif not self._ticket_turns:
            self._flushSendBIO()

    def _input_ended(self) -> None:
        protocol: Any = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is None or self.disconnecting:
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            self._client_ended = True
            # So that the plain transport does not take the end of its input, which is to
            # come now, for the end of the connection.
            alsoProvides(self, IHalfCloseableProtocol)
            protocol.readConnectionLost()

    def readConnectionLost(self) -> None:
        """
        The client has said so by its close_notify.
        """

    def writeConnectionLost(self) -> None:
        """
        TLS does not end one half of a connection.
        """

    # Output.

    @override
    def write(self, data: bytes) -> None:
        if not self.connected:
            return
        self._gathered.append(data + b"")  # a copy of what may change; an error for a text
        self._gathered_bytes += len(data)
        if self._gathered_bytes > _GATHERED_BYTES:
            self._flush_gathered()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._readiness.call_soon(self._turn)

    @override
    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def _turn(self) -> None:
        self._flush_scheduled = False
        self._flush_gathered()

    def _flush_gathered(self) -> None:
        gathered = self._gathered
        if gathered:
            self._gathered = []
            self._gathered_bytes = 0
            super().write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    @override
    def _flushSendBIO(self) -> None:
        connection = self._tlsConnection
        count = _size_of(connection._from_ssl)
        if count:
            self.transport.write(connection.bio_read(count))

    @override
    def unregisterProducer(self) -> None:
        if self.disconnecting:
            # It is the end, which goes behind what the producer has written.
            self._flush_gathered()
        super().unregisterProducer()

    # The end.

    @override
    def loseConnection(self) -> None:
        if self.disconnecting or not self.connected:
            return
        cork = getattr(self.transport, "cork_until_next_turn", None)
        if cork is not None:
            cork()
        self._flush_gathered()
        super().loseConnection()

    @override
    def _shutdownTLS(self) -> None:
        super()._shutdownTLS()
        self._close_notified()

    def _close_notified(self) -> None:
        """
        Close the connection if our close_notify is out.

        Twisted waits for the client's, without a deadline; neither TLS 1.3 (RFC 8446,
        6.1) nor HTTP wants that, and a client could keep the descriptor for ever.
        """
        if self._tlsConnection.get_shutdown() & SSL.SENT_SHUTDOWN:
            # Nobody is to look for the client's any more: that it is missing would be reported
            # to the application as a lost connection.
            self._lostTLSConnection = True
            self.transport.loseConnection()

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        # The plain transport would wait for a producer that can write nothing any more.
        producer, self._producer = self._producer, None
        if producer is not None:
            self.transport.unregisterProducer()
            producer.stopProducing()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        self._gathered = []
        super().connectionLost(reason)


# What the plain transport provides, once for all connections.
classImplements(TlsTransport, ITCPTransport, IConsumer, IPushProducer, ILoggingContext)


def _size_of(memory: Any) -> int:
    """
    Count the bytes in one of OpenSSL's memories, for which pyOpenSSL has no method.
    """
    return cast("int", openssl.BIO_get_mem_data(memory, ffi.NULL))

# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Twisted has not annotated its TLS transport.)
"""
TLS in the worker, on any Twisted transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import alsoProvides, implementer

from stickyd.errors import SettingError
from stickyd.serve.tls.certificate import load_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    from twisted.internet.interfaces import IProtocol, IReactorTime, ITransport
    from twisted.protocols.tls import TLSMemoryBIOProtocol

    from stickyd.serve.tls.certificate import Certificate

HANDSHAKE_SECONDS = 30.0
"""
How long a client may take for its handshake.
"""

LAST_HANDSHAKE_SECONDS = 5.0
"""
The same, while the worker waits for its last connections to end.
"""

_RECORDS_BYTES = 1 << 15  # what is decrypted in one call

HTTP_1 = (b"http/1.1", b"http/1.0")
"""
What HTTP/1 is called in ALPN.
"""

HTTP_2 = (b"h2", *HTTP_1)
"""
The same, with HTTP/2 before it.
"""


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """
    The server's certificates, and what makes TLS connections with them.
    """

    def __init__(
        self, clock: IReactorTime, pairs: Sequence[str], protocols: Sequence[bytes] = HTTP_1
    ) -> None:
        """
        Read the certificates.

        :param clock: times handshakes, and gathers small writes of a turn.
        :param pairs: files as :func:`load_certificate` wants them.  A client that names
            no host, or one that no certificate is for, gets the first.
        :param protocols: what is spoken here, for ALPN, the preferred one first; see
            :func:`load_certificate`.
        :raise SettingError: if a file is not what it should be.
        """
        if not pairs:
            raise SettingError(
                "TLS: no certificate; write CERTIFICATE.pem or CERTIFICATE.pem,KEY.pem"
            )
        self._certificates = _load(pairs, protocols)
        self._clock = clock
        self._factory = TLSMemoryBIOFactory(self, False, Factory(), clock)

    def accept(
        self,
        build: Callable[[ITransport], IProtocol],
        divert: Callable[[TlsTransport], socket] | None = None,
    ) -> TlsTransport:
        """
        Make the TLS side of one connection.

        :param build: makes the application's protocol for the TLS transport, and does
            not connect it; called when the connection is made.
        :param divert: gives away the plain text of a connection that belongs to another
            worker, see :meth:`TlsTransport.divert`; :obj:`None` if none can.
        :return: the protocol to be connected to the plain transport.
        """
        return TlsTransport(self._factory, build, self._clock, divert)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._certificates[0].context, None)


def _load(pairs: Sequence[str], protocols: Sequence[bytes]) -> tuple[Certificate, ...]:
    certificates = tuple(load_certificate(pair, protocols) for pair in pairs)

    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        for certificate in certificates:
            if certificate.serves(name):
                connection.set_context(certificate.context)
                return

    certificates[0].context.set_tlsext_servername_callback(choose)
    return certificates


class TlsTransport(BufferingTLSTransport):
    """
    One connection's TLS: the protocol of the plain transport, the application's transport.

    ``getPeerCertificate()`` and ``negotiatedProtocol`` tell what the handshake brought.

    A client that says close_notify sends no more, but may still want to read (RFC 8446,
    section 6.1): a protocol that provides :class:`IHalfCloseableProtocol` is told so and ends
    the connection when it likes, as on a plain connection; for any other it is the end.

    :ivar can_divert: whether :meth:`divert` may be called.
    """

    transport: Any
    _client_ended = False  # by close_notify, and the protocol has been told

    def __init__(
        self,
        factory: TLSMemoryBIOFactory,
        build: Callable[[Any], IProtocol],
        clock: IReactorTime,
        divert: Callable[[TlsTransport], socket] | None = None,
        connected: bool = False,
    ) -> None:
        """
        :param build: gives the protocol, once there is a connection to ask about.
        :param connected: the protocol has its transport already.
        """
        super().__init__(factory, cast("IProtocol", None), not connected)
        self._build = build
        self._handshake_clock = clock
        self._divert = divert
        self.can_divert = divert is not None

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

    @override
    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport
        self.wrappedProtocol = self._build(self)
        self._handshake_deadline = self._handshake_clock.callLater(
            HANDSHAKE_SECONDS, self._check_handshake
        )
        super().makeConnection(transport)

    def shorten_deadline(self) -> None:
        """
        Give a handshake that is under way only :data:`LAST_HANDSHAKE_SECONDS` more.
        """
        deadline = self._handshake_deadline
        left = deadline.getTime() - self._handshake_clock.seconds() if deadline.active() else 0
        if left > LAST_HANDSHAKE_SECONDS:
            deadline.reset(LAST_HANDSHAKE_SECONDS)

    def _check_handshake(self) -> None:
        if self.getHandle().get_peer_finished() is None:
            self.abortConnection()

    @override
    def loseConnection(self) -> None:
        super().loseConnection()
        self._close_notified()

    @override
    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self._close_notified()

    @override
    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._close_notified()

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

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        # The plain transport would wait for a producer that can write nothing any more.
        producer, self._producer = self._producer, None
        if producer is not None:
            self.transport.unregisterProducer()
            producer.stopProducing()

    def _close_notified(self) -> None:
        """
        Close the connection if our close_notify is out.

        Twisted waits for the client's, without a deadline; neither TLS 1.3 (RFC 8446,
        6.1) nor HTTP wants that, and a client could keep the descriptor for ever.
        """
        connection = self.getHandle()
        if connection is None or not self.connected:
            return
        if connection.get_shutdown() & SSL.SENT_SHUTDOWN:
            # As if the client's had come: else this orderly end would be reported to the
            # application as a lost connection.
            connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
            self.transport.loseConnection()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._handshake_deadline.active():
            self._handshake_deadline.cancel()
        super().connectionLost(reason)

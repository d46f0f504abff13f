# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Twisted has not annotated its TLS transport.)
"""
TLS in the worker, on any Twisted transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from stickyd.errors import SettingError
from stickyd.net.readiness import readiness_of
from stickyd.serve.tls.certificate import load_certificate
from stickyd.serve.tls.transport import TlsTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    from twisted.internet.interfaces import IProtocol, IReactorTime, ITransport
    from twisted.protocols.tls import TLSMemoryBIOProtocol

    from stickyd.serve.tls.certificate import Certificate

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
        self._readiness = readiness_of(clock)
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
        return TlsTransport(self._factory, build, self._readiness, divert)

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

    if len(certificates) > 1:
        # Called in each handshake, also if the client names no host.
        certificates[0].context.set_tlsext_servername_callback(choose)
    return certificates

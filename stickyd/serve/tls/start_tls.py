# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Twisted has not annotated its TLS transport.)
"""
TLS on a connection that has begun without: what protocols know as ``STARTTLS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import alsoProvides

from stickyd.net.readiness import readiness_of
from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.tls.transport import TlsTransport

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime, ITransport

#: What a transport leaves to its TLS from now on.
_ENCRYPTED = (
    "write",
    "writeSequence",
    "loseConnection",
    "registerProducer",
    "unregisterProducer",
    "getHandle",
    "getPeerCertificate",
)


class _Beneath:
    """
    The transport as the TLS on it sees it: without the TLS.
    """

    def __init__(self, transport: SocketTransport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        SocketTransport.write(self._transport, data)

    def loseConnection(self) -> None:
        SocketTransport.loseConnection(self._transport)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        SocketTransport.registerProducer(self._transport, producer, streaming)

    def unregisterProducer(self) -> None:
        SocketTransport.unregisterProducer(self._transport)


def start_tls(
    transport: SocketTransport, context_factory: Any, normal: bool, clock: IReactorTime
) -> None:
    """
    Encrypt a connection from now on; its protocol keeps its transport and notices nothing.

    :param context_factory: as of :meth:`twisted.internet.interfaces.ITLSTransport.startTLS`.
    :param normal: be the server of the handshake, else its client.
    :param clock: times the handshake, and gathers small writes of a turn.
    """
    producer, streaming = transport.producer, transport.streamingProducer
    if producer is not None:
        transport.unregisterProducer()
    protocol = transport.protocol
    factory = TLSMemoryBIOFactory(context_factory, not normal, Factory(), clock)
    tls = TlsTransport(factory, lambda _: protocol, readiness_of(clock), connected=True)
    # First, as an application's context factory may fail.
    tls.makeConnection(cast("ITransport", _Beneath(transport)))
    transport.protocol = tls
    # Set on the instance, so that a connection without TLS pays nothing for the choice.
    for name in _ENCRYPTED:
        setattr(transport, name, getattr(tls, name))

    def finish() -> None:
        tls.unregisterProducer()
        tls.loseConnection()

    transport.finish = finish  # type: ignore[method-assign]
    alsoProvides(transport, ISSLTransport)
    if producer is not None:
        transport.registerProducer(producer, streaming)


def forget_tls(transport: SocketTransport) -> None:
    """
    Let go of the TLS of a connection that is over, so that both can be freed.
    """
    for name in (*_ENCRYPTED, "finish"):
        transport.__dict__.pop(name, None)

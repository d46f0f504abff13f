# ruff: noqa: N802 - the camelCase names are Twisted's
"""
asyncio protocols, uvicorn's above all, on a TLS connection of Twisted's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from typing_extensions import override
from zope.interface import implementer

from stickyd.net.addresses import SocketView, name_of
from stickyd.serve.open_connections import uncounted
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import nothing_under_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket

    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff


@implementer(IHandshakeListener, IHalfCloseableProtocol, IPushProducer, IServedConnection)
class TlsLoopProtocol(Protocol):
    """
    Connects an asyncio protocol once the handshake is done.

    Not before, so that it can ask at once what was negotiated.
    """

    descriptors = 1
    busy = False  # no request is under way
    unanswered: tuple[Any, ...] = ()
    under_way = nothing_under_way
    transport: Any  # TlsTransport, whose methods are not annotated

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        handoff: Handoff | None = None,
        ended: Callable[[Any], object] = uncounted,
    ) -> None:
        """
        Serve one connection.

        :param make_protocol: makes the asyncio protocol.
        :param handoff: the handoff that brought the connection.
        :param ended: called when it is served here no longer.
        """
        self.handoff = handoff
        self._ended = ended
        self._make_protocol = make_protocol
        self._loop_transport: TlsLoopTransport | None = None

    def handshakeCompleted(self) -> None:
        if self._loop_transport is None:
            protocol = self._make_protocol()
            self._loop_transport = TlsLoopTransport(self.transport, protocol)
            self.transport.registerProducer(self, True)
            protocol.connection_made(self._loop_transport)
            # From now on the asyncio protocol counts as the connection.
            self._ended(self)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._loop_transport is not None and not self._loop_transport.is_closing():
            self._loop_transport.protocol.data_received(data)

    def readConnectionLost(self) -> None:
        """
        The client says no more; as on a plain connection, its protocol decides what then.
        """
        transport = self._loop_transport
        if transport is None:
            self.transport.loseConnection()
        elif not (transport.is_closing() or transport.protocol.eof_received()):
            transport.close()

    def writeConnectionLost(self) -> None:
        """
        TLS does not end one half of a connection.
        """

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._loop_transport is None:
            self._ended(self)
        else:
            error: Any = reason.value
            transport, self._loop_transport = self._loop_transport, None
            transport.closing = True
            transport.protocol.connection_lost(None if isinstance(error, ConnectionDone) else error)
            # They refer to each other; only the garbage collector would free them.
            transport.protocol = None

    def pauseProducing(self) -> None:
        if self._loop_transport is not None:
            self._loop_transport.protocol.pause_writing()

    def resumeProducing(self) -> None:
        if self._loop_transport is not None:
            self._loop_transport.protocol.resume_writing()

    def stopProducing(self) -> None:
        """
        The connection is over; :meth:`connectionLost` tells the protocol.
        """

    # For the host, until the handshake is done.

    def give_away(self, goes: object, take: object) -> None:
        """
        The client's first request says where it goes.
        """

    def drain(self) -> None:
        """
        Let the client have one request answered: whoever shakes hands has one to make.
        """
        self.transport.shorten_deadline()

    def say_goodbye(self, code: int) -> bool:
        """
        Nobody has said anything yet.
        """
        return False

    def end_streams(self) -> None:
        """
        There is none.
        """

    def abortConnection(self) -> None:
        """
        Close the connection now.
        """
        self.transport.abortConnection()


class TlsLoopTransport(asyncio.Transport):
    """
    An :class:`asyncio.Transport` on an established TLS connection.

    Its buffer limits are the plain transport's, which counts encrypted bytes.

    :ivar protocol: what is served; may be replaced at any time.
    :ivar closing: no more input is delivered.
    """

    protocol: Any

    def __init__(self, tls: Any, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._tls = tls
        self._reading = True
        self.protocol = protocol
        self.closing = False

    @property
    def can_divert(self) -> bool:
        """
        Whether :meth:`divert` may be called.
        """
        return bool(self._tls.can_divert) and not self.closing

    @property
    def lingering(self) -> bool:
        """
        Whether the client is known to be still sending; see
        :class:`stickyd.net.stream.Stream`.
        """
        return bool(self._tls.lingering)

    @lingering.setter
    def lingering(self, lingering: bool) -> None:
        self._tls.lingering = lingering

    def is_broken(self) -> bool:
        """
        Tell whether the client has reset the connection.
        """
        return bool(self._tls.transport.is_broken())

    def divert(self) -> socket:
        """
        Give the plain text of the connection away; see
        :meth:`stickyd.serve.tls.transport.TlsTransport.divert`.
        """
        self.closing = True
        self._tls.unregisterProducer()
        diverted: socket = self._tls.divert()
        return diverted

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closing:
            self._tls.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._tls.unregisterProducer()
            self._tls.loseConnection()

    def abort(self) -> None:
        self.closing = True
        self._tls.abortConnection()

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self._reading = False
        self._tls.pauseProducing()

    def resume_reading(self) -> None:
        self._reading = True
        self._tls.resumeProducing()

    def is_reading(self) -> bool:
        return self._reading and not self.closing

    def get_write_buffer_size(self) -> int:
        size: int = self._tls.transport.get_write_buffer_size()
        return size

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def ends(self) -> tuple[Any, Any]:
        """
        Our address and the client's; see :meth:`stickyd.net.stream.Stream.ends`.
        """
        ends: tuple[Any, Any] = self._tls.transport.ends()
        return ends

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """
        Tell about the connection.

        :param name: ``socket``, ``peername``, ``sockname``, ``ssl_object`` or
            ``sslcontext``, the last two pyOpenSSL's.
        """
        if name == "peername":
            return name_of(self._tls.getPeer())
        if name == "sockname":
            return name_of(self._tls.getHost())
        if name == "socket":
            return SocketView(self._tls.transport.socket, self)
        connection = self._tls.getHandle()
        if name == "ssl_object" and connection is not None:
            return connection
        if name == "sslcontext" and connection is not None:
            return connection.get_context()
        return default

"""
Accepting connections in the primary, two ways with one outcome.

:class:`StickyFactory` is an ordinary protocol factory, for any stream endpoint: each
connection is detached from its transport before a byte is read.  Where the endpoint gave
a plain stream port, an :class:`stickyd.net.accept_loop.AcceptLoop` takes over its socket:
no transport and no protocol are built to be thrown away, which is half of the primary's
cost.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.errors import ListenError
from stickyd.handoff.detach import detach
from stickyd.handoff.frame import Handoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import (
        IAddress,
        ITransport,
    )

    from stickyd.interfaces import IDestination


class _Passing(Protocol):
    """
    A protocol that only detaches the descriptor of its transport.
    """

    _log = Logger()

    def __init__(self, factory: StickyFactory, host: str, port: int) -> None:
        self._factory = factory
        self._host = host
        self._port = port

    @override
    def makeConnection(self, transport: ITransport) -> None:
        try:
            descriptor = detach(transport)
        except ListenError as problem:
            self._log.error(
                "Connection of {host} closed: {problem}",
                event="connection.not-placed",
                host=self._host,
                problem=problem,
            )
            transport.loseConnection()
            return
        self._factory.accepted(descriptor, self._host, self._port)


class StickyFactory(Factory):
    """
    Passes each connection on to a destination.

    Put it on any plain stream endpoint of your own::

        endpoint.listen(service.factory)

    It never reads from a connection.  Endpoints that terminate TLS or speak PROXY in the
    primary cannot be used: their connections consist of more than a descriptor.
    """

    noisy = False

    def __init__(
        self,
        destination: IDestination,
        key_of: Callable[[str], bytes],
        peek: Callable[[int, str, int], None] | None = None,
    ) -> None:
        """
        :param key_of: the affinity key of a host.
        :param peek: takes each accepted connection, where its address is not enough to
            choose a destination.
        """
        if peek is not None:
            self.accepted = peek  # type: ignore[assignment]  # a method, to mypy
        self._deliver = destination.deliver
        self._key_of = key_of

    @override
    def buildProtocol(self, addr: IAddress | None) -> _Passing:
        # A UNIX address has neither.
        return _Passing(self, getattr(addr, "host", ""), getattr(addr, "port", 0))

    def accepted(self, descriptor: int, host: str, port: int) -> None:
        """
        Pass on one accepted connection; its descriptor is the destination's from now on.
        """
        self._deliver(Handoff(descriptor, host, port, self._key_of(host)))


@implementer(IListeningPort)
class PassedPort:
    """
    A socket that listened before we had it: a service manager's, or our own from before an
    upgrade.

    Twisted's own port would make a UNIX socket's file writable for everybody, and remove it at
    the end though it is the service manager's.

    :ivar socket: the socket.
    """

    def __init__(self, sock: socket.socket, leave: Callable[[], None] = lambda: None) -> None:
        """
        :param sock: closed by :meth:`stopListening`.
        :param leave: called then; removes what is the socket's in the file system.
        """
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.socket = sock
        self._leave = leave

    def startListening(self) -> None:  # noqa: N802 (IListeningPort's names)
        """
        It listens already.
        """

    def stopListening(self) -> None:  # noqa: N802
        if self.socket.fileno() >= 0:
            self._leave()
            self.socket.close()

    def getHost(self) -> IAddress:  # noqa: N802
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return UNIXAddress(name)
        kind = IPv6Address if self.socket.family == socket.AF_INET6 else IPv4Address
        return kind("TCP", *name[:2])


def plain_socket(port: IListeningPort, factory: Factory) -> socket.socket | None:
    """
    The listening socket of a port, if accepting from it directly is the same as letting
    the port accept.

    :return: :obj:`None` if the endpoint put something of its own between its port and
        ``factory``, or is of a kind that we do not know.
    """
    if isinstance(port, PassedPort):
        return port.socket
    if isinstance(port, Port) and port.factory is factory:
        sock = port.socket
        assert isinstance(sock, socket.socket)
        return sock
    return None

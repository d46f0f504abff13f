# ruff: noqa: N802 - the camelCase names are Twisted's
"""
Rehoming a connection whose TLS lives here: the TLS stays, and the owner gets the plain text.

The state of TLS cannot be passed on with the descriptor.  So the owner is given one end of
a socket pair, and between the other end and the client's TLS this tunnel carries what
either says, at the pace of the slower one.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from typing_extensions import override
from zope.interface import implementer

from stickyd.net.twisted_transport import SocketTransport
from stickyd.serve.open_connections import uncounted
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import nothing_under_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.tls.transport import TlsTransport


@implementer(IHalfCloseableProtocol)
class _Side(Protocol):
    """
    What one side of a tunnel says, and how it ends.
    """

    def __init__(
        self,
        say: Callable[[bytes], object],
        input_ended: Callable[[], object],
        lost: Callable[[], object],
    ) -> None:
        """
        :param say: gets what this side says.
        :param input_ended: called when it says no more.
        :param lost: called when it is gone.
        """
        self._say = say
        self._input_ended = input_ended
        self._lost = lost

    @override
    def dataReceived(self, data: bytes) -> None:
        self._say(data)

    def readConnectionLost(self) -> None:
        self._input_ended()

    def writeConnectionLost(self) -> None:
        """
        We said so ourselves.
        """

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost()


@implementer(IServedConnection)
class Tunnel:
    """
    Joins a client's TLS with a socket pair, until the client or the owner ends it.

    :ivar handoff: nothing: it cannot be given away, as its TLS cannot.
    :ivar tls: the client's side.
    :ivar plain: our end of the pair.
    """

    descriptors = 2
    busy = False  # requests are under way elsewhere
    unanswered: tuple[Any, ...] = ()
    under_way = nothing_under_way
    handoff: Handoff | None = None

    def __init__(
        self,
        readiness: IReadiness,
        tls: TlsTransport,
        ended: Callable[[Any], object] = uncounted,
    ) -> None:
        """
        :param ended: called when it is served here no longer.
        """
        self._readiness = readiness
        self._ended = ended
        self.tls: Any = tls
        self.plain: Any = None

    def open(self) -> socket.socket:
        """
        Take the place of the protocol that the client's TLS had.

        What that protocol has written goes to the client before anything of the owner's.

        :return: the owner's end, non-blocking, which the caller closes.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        plain = self.plain = SocketTransport(self._readiness, ours, UNIXAddress(None))
        self.tls.wrappedProtocol = _Side(plain.write, self._client_asks_no_more, self._end_owner)
        # TLS cannot end one half of a connection, and no owner needs that.
        plain.start(_Side(self.tls.write, self._end_client, self._end_client))
        self.plain.registerProducer(self.tls, True)
        self.tls.registerProducer(self.plain, True)
        # The protocol before may have paused it.
        self.tls.resumeProducing()
        return theirs

    def _client_asks_no_more(self) -> None:
        """
        Pass the client's close_notify on: it may still read.
        """
        self.plain.unregisterProducer()
        self.plain.loseWriteConnection()

    def _end_client(self) -> None:
        """
        Close the client's side in good order, after what the owner has said.
        """
        self.tls.unregisterProducer()
        self.tls.loseConnection()

    def _end_owner(self) -> None:
        """
        Close the owner's side, after what the client has said.
        """
        self.plain.unregisterProducer()
        self.plain.loseConnection()
        self._ended(self)

    # As a host's connections.

    def say_goodbye(self, code: int) -> bool:
        """
        Whatever is said here is the owner's to say.
        """
        return False

    def end_streams(self) -> None:
        """
        They are the owner's.
        """

    def give_away(self, goes: object, take: object) -> None:
        """
        It cannot be given away.
        """

    def drain(self) -> None:
        """
        The owner ends it when it has nothing more to say.
        """

    def abortConnection(self) -> None:
        """
        Cut both sides off.
        """
        self.tls.abortConnection()

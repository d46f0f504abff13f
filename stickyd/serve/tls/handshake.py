"""
An HTTP connection whose TLS handshake is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from typing_extensions import override
from zope.interface import implementer

from stickyd.serve.open_connections import uncounted
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import nothing_under_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import Take


@implementer(IHandshakeListener, IServedConnection)
class Handshake(Protocol):
    """
    Holds the place of an HTTP connection until it is known what it speaks.
    """

    descriptors = 1
    busy = False  # no request is under way
    unanswered: tuple[Any, ...] = ()
    under_way = nothing_under_way
    transport: Any  # TlsTransport, whose methods are not annotated

    _draining = False
    _leave: Callable[[Any], object] | None = None  # has the connection given away

    def __init__(
        self,
        handoff: Handoff,
        make_connection: Callable[[bytes | None], Any],
        ended: Callable[[Any], object] = uncounted,
    ) -> None:
        """
        :param handoff: the handoff that brought the connection.
        :param make_connection: makes the one that takes its place, for the protocol that was
            agreed on, and counts it.
        :param ended: called when it is served here no longer.
        """
        self.handoff = handoff
        self._ended = ended
        self._make_connection = make_connection

    def say_goodbye(self, code: int) -> bool:
        """
        Nobody has said anything yet.
        """
        return False

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """
        Make way for the connection.
        """
        connection = self._make_connection(self.transport.negotiatedProtocol)
        # From now on it gets all that the transport has to tell.
        self.transport.wrappedProtocol = connection
        self._ended(self)
        connection.makeConnection(self.transport)
        if self._leave is not None:
            self._leave(connection)
        elif self._draining:
            connection.drain()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended(self)

    def end_streams(self) -> None:
        """
        There is none.
        """

    def give_away(self, goes: Callable[[Handoff], bool], take: Take) -> None:
        """
        Let the client have one request answered, by whoever takes it.
        """
        self._leave = lambda connection: connection.give_away(goes, take)
        self.drain()

    def drain(self) -> None:
        """
        Let the client have one request answered: whoever shakes hands has one to make.
        """
        self._draining = True
        self.transport.shorten_deadline()

    def abortConnection(self) -> None:  # noqa: N802 - as the channels'
        """
        Close the connection now.
        """
        self.transport.abortConnection()

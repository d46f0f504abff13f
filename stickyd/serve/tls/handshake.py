"""
An HTTP connection whose TLS handshake is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from typing_extensions import override
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import Take


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """
    Holds the place of an HTTP channel until it is known which one it shall be.

    It is for its host what the channels are.

    :ivar came: the handoff that brought the connection, which the channel gets.
    :ivar ended: called with this when a channel has taken the place, or there is none to
        be taken any more.
    """

    busy = False  # no request is under way
    unanswered: tuple[Any, ...] = ()
    came: Handoff | None = None
    ended: Callable[[Any], object] | None = None
    transport: Any  # TlsTransport, whose methods are not annotated

    _draining = False
    _take: Take | None = None

    def __init__(self, make_channel: Callable[[bytes | None], Any]) -> None:
        """
        :param make_channel: makes the channel for the protocol that was agreed on.
        """
        self._make_channel = make_channel

    def say_goodbye(self, code: int) -> bool:
        """
        Nobody has said anything yet.
        """
        return False

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """
        Make way for the channel.
        """
        channel = self._make_channel(self.transport.negotiatedProtocol)
        channel.came = self.came
        # From now on it gets all that the transport has to tell.
        self.transport.wrappedProtocol = channel
        self._end()
        channel.makeConnection(self.transport)
        if self._take is not None:
            channel.release(self._take)
        elif self._draining:
            channel.drain()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end()

    def _end(self) -> None:
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)

    def release(self, take: Take) -> None:
        """
        Let the client have one request answered, by whoever takes it.
        """
        self._take = take
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

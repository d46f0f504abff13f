"""
Every seam of stickyd, with its contract.

The order is the one in which a connection travels: affinity, placement, handoff
(the primary), then adoption and serving (the worker).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

# Where applications import them from.
from stickyd.sessions.interfaces import ICarriable as ICarriable
from stickyd.sessions.interfaces import ISessionData as ISessionData
from stickyd.sessions.interfaces import ISessionStore as ISessionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized
    from socket import socket

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress

    from stickyd.handoff.frame import Handoff


class IPlacement(Interface):
    """
    Maps affinity keys to slots.  Pure: the same key and the same number of slots
    give the same slot, in every process and after every restart.
    """

    slots: int = Attribute("How many slots there are, at least 1.")

    def slot_of(key: bytes) -> int:
        """
        Choose the slot of a key.

        :param key: the affinity key, at least one byte.
        :return: an index in ``0 .. slots - 1``.
        """


class IDestination(Interface):
    """
    Where a connection can be sent.  A slot is one; so is the whole fleet, which
    chooses the slot by the handoff's key.
    """

    def deliver(handoff: Handoff) -> None:
        """
        Take over a connection.  Returns at once and never fails: whatever becomes
        of the connection (served, queued, refused), the destination closes
        ``handoff.descriptor``, or has the worker's acknowledgement close it.
        """


class IHandoffSender(Interface):
    """
    One end of a handoff channel; in the primary, the way to one worker.
    """

    in_flight: Sized = Attribute("What was sent and is neither acknowledged nor refused.")

    def send(handoff: Handoff) -> bool:
        """
        Pass a connection to the other end, and keep our copy of the descriptor until
        the other end acknowledges it; then close it.

        :return: :obj:`False` if the other end's window or the socket is full; the
            handoff then still belongs to the caller.
        """

    def reclaim() -> list[Handoff]:
        """
        Close the channel of a process that has ended, after reading every
        acknowledgement that it sent while it lived.

        :return: the connections that it did not acknowledge, oldest first.  They are
            unread, and belong to the caller again.
        """


class IRefusal(Interface):
    """
    What becomes of a connection that cannot be served.
    """

    def refuse(handoff: Handoff, why: str) -> None:
        """
        Give the connection the configured overflow answer, count it, and close its
        descriptor.
        """


class IHandoffReceiver(Interface):
    """
    What a handoff channel tells its owner.
    """

    def received(handoff: Handoff) -> None:
        """
        Take over a connection.  The other end already knows that it is ours.
        """

    def returned(handoff: Handoff) -> None:
        """
        Take back a connection that the other end could not receive.  It is unread;
        ``handoff.refusals`` counts how often this happened to it.
        """

    def room() -> None:
        """
        Send more, if there is more.
        """

    def starved() -> None:
        """
        A descriptor that was sent to us was dropped by the kernel: our table is full.
        The sender has it still, and is told.
        """

    def lost() -> None:
        """
        The other end has closed.  Nothing more is read.
        """

    def broken(problem: str) -> None:
        """
        The other end has broken the protocol, so nothing of it is acted upon any more.
        Called once, instead of :meth:`lost`.

        :param problem: what it sent, and where it may be of interest, what it might have.
        """


class IDetachable(Interface):
    """
    A connection that can be taken out of this process whole.
    """

    idle: bool = Attribute(
        "True between two requests: nothing is being answered, nothing is left to write."
    )

    def detach() -> tuple[socket, bytes]:
        """
        Give the connection away.  Allowed only while ``idle``; afterwards the
        protocol and its transport are dead and neither ``connectionLost`` nor
        ``connection_lost`` has been or will be called by the transport.

        :return: the socket, non-blocking, which the caller now closes; and the bytes
            that were read from it but not consumed, to be fed first wherever it goes.
        """


class IHost(Interface):
    """
    What serves adopted connections in a worker: a resource tree, an ASGI or WSGI
    application, any protocol factory.
    """

    connections: int = Attribute("How many connections are open.")

    descriptors: int = Attribute(
        "How many descriptors connections, and the bodies of their requests, take."
    )

    def start() -> Deferred[None]:
        """
        Get ready to serve (ASGI lifespan, thread pools).

        :return: fires when connections may come; fails with
            :exc:`stickyd.errors.ApplicationError` if the application refuses.
        """

    requests: int = Attribute("How many requests were answered; connections, if not HTTP.")

    def adopt(sock: socket, peer: IAddress, handoff: Handoff) -> None:
        """
        Serve a connection: make its transport and its protocol, and count it until it
        is closed.

        :param sock: the connection, non-blocking, closed by the host.
        :param peer: the client, as the application shall see it.
        :param handoff: as it arrived, with the bytes to be fed before what is read from
            the socket; its descriptor is ``sock``'s.
        """

    def clients() -> list[bytes]:
        """
        Tell whose connections are open: of each, what tells the client of its last request from
        all others (:attr:`stickyd.handoff.frame.Handoff.client`), where that is known.
        """

    def give_away(
        goes: Callable[[Handoff], bool], give: Callable[[socket, bytes, Handoff], None]
    ) -> Deferred[None]:
        """
        Give connections away: at once those between two requests, each other one as soon
        as it is.

        :param goes: tells by the handoff of a connection whether it goes.
        :param give: takes its socket, the bytes that were read and not consumed, and its
            handoff; closes the socket.
        :return: fires when no request of such a connection is under way whose response has
            not begun: what it does to its session is known then.  It may be cancelled.
        """

    def served() -> Iterator[Any]:
        """
        Give the connections that are open now: each is a
        :class:`stickyd.serve.served_connection.IServedConnection`.
        """

    def drain() -> Deferred[None]:
        """
        Finish: close idle connections now, and each other one after the response
        that is under way (HTTP/1.1 says ``Connection: close`` in it).

        :return: fires when no connection is left.  It does not fail and has no
            deadline of its own.
        """

    def end_streams() -> None:
        """
        End what does not end by itself, and tell the application: event streams, whose
        clients come again, and WebSockets.  Called while draining, more than once.
        """

    def abort() -> None:
        """
        Close every connection now, whatever it is doing.
        """

    def stop() -> Deferred[None]:
        """
        Release what :meth:`start` took, once no connection is left (ASGI lifespan
        shutdown, thread pools).

        :return: fires when done; errors of the application are logged, not raised.
        """


class IReadiness(Interface):
    """
    Tells when descriptors are ready.  asyncio's and uvloop's event loops have just
    these methods; any other Twisted reactor is adapted.
    """

    def add_reader(descriptor: int, callback: Callable[[], object]) -> None:
        """
        Call ``callback`` whenever ``descriptor`` is readable, until removed.
        """

    def remove_reader(descriptor: int) -> object:
        """
        Stop; harmless if there is no reader.
        """

    def add_writer(descriptor: int, callback: Callable[[], object]) -> None:
        """
        Call ``callback`` whenever ``descriptor`` is writable, until removed.
        """

    def remove_writer(descriptor: int) -> object:
        """
        Stop; harmless if there is no writer.
        """

    def call_soon(callback: Callable[..., object], *arguments: object) -> object:
        """
        Call ``callback`` in the next turn of the loop.
        """

    def call_later(delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        """
        Call ``callback`` once, ``delay`` seconds from now.

        :return: an object with ``cancel()``.
        """

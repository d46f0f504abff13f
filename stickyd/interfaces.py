"""
Every seam of stickyd, with its contract.

The order is the one in which a connection travels: affinity, placement, handoff
(the primary), then adoption and serving (the worker).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocol

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


class ICourier(Interface):
    """
    The primary's end of one worker's handoff channel.
    """

    def send(handoff: Handoff) -> bool:
        """
        Pass a connection to the worker, and keep our copy of the descriptor until
        the worker acknowledges it.

        :return: :obj:`False` if the worker's window or the socket is full; the
            handoff then still belongs to the caller.
        """

    def reclaim() -> list[Handoff]:
        """
        Stop, after reading every acknowledgement that the worker sent while it lived.

        :return: the connections that it did not acknowledge, oldest first.  They are
            unread, and belong to the caller again.
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

    def start() -> Deferred[None]:
        """
        Get ready to serve (ASGI lifespan, thread pools).

        :return: fires when connections may come; fails with
            :exc:`stickyd.errors.ApplicationError` if the application refuses.
        """

    def build_protocol(transport: Any) -> IProtocol:
        """
        Make the protocol that will serve one connection, and count it.  The caller
        connects it with ``makeConnection(transport)``.
        """

    def drain() -> Deferred[None]:
        """
        Finish: close idle connections now, and each other one after the response
        that is under way (HTTP/1.1 says ``Connection: close`` in it).

        :return: fires when no connection is left.  It does not fail and has no
            deadline of its own.
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
    these four methods; any other Twisted reactor is adapted.
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

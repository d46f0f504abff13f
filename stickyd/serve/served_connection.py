"""
What a host has of each of its connections, whatever they speak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.under_way import UnderWay

    Take = Callable[[socket, bytes], object]


class IServedConnection(Interface):
    """
    A connection that is served here, until it is over, was given away, or another one has taken
    its place, as an HTTP connection takes that of a handshake.

    Its constructor is told what to call with it, once it is served here no longer and its
    application has heard of that: a host whose last connection has ended lets the worker exit.
    What a host does with all of them together is in
    :class:`stickyd.serve.open_connections.OpenConnections`.
    """

    handoff: Handoff | None = Attribute(
        "The handoff that brought it; None if it cannot be given away, whatever it is doing."
    )

    descriptors: int = Attribute("How many descriptors it takes.  It never changes.")

    busy: bool = Attribute(
        "Whether a request is under way whose response has not begun: what it does to its"
        " session is not saved yet."
    )

    unanswered: list[Any] = Attribute("The requests under way whose responses have not begun.")

    def under_way() -> list[UnderWay]:
        """
        Tell what it is doing, for an operator.
        """

    def give_away(goes: Callable[[Handoff], bool], take: Take) -> None:
        """
        Have the connection served elsewhere: now if it is between two requests, else when the
        response under way is written.  One whose TLS lives here is drained; what it
        asks meanwhile goes the same way, through a tunnel, as its session has gone it before.

        :param goes: tells by the handoff whether the connection goes; it does now.  One that
            has to wait asks again, as it may stay after all.
        :param take: gets the socket, which it closes from then on, and what was read and not
            consumed.
        """

    def drain() -> None:
        """
        Close the connection now if it is idle, or after a moment if it is TLS; else after
        the response under way, which says so if its head is not written yet.
        """

    def say_goodbye(code: int) -> bool:
        """
        Close a WebSocket with a reason.

        :param code: as of RFC 6455, section 7.4.
        :return: :obj:`False` if this is none, or it is closing already.
        """

    def end_streams() -> None:
        """
        End the responses under way that are event streams: their applications are told that
        the client is gone, the client that the streams are over.
        """

    def abortConnection() -> None:  # noqa: N802 - Twisted's name
        """
        End the connection now, whatever it is doing.
        """

"""
Where the messages of a process go, and where those for it come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Interface

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.confirmation import Confirmation

    #: Hands a message to whoever has subscribed in this process: the channel's name, and data.
    Deliver = Callable[[bytes, bytes], object]


class IBusLine(Interface):
    """
    The way to all others; may be used from every thread.
    """

    def publish(name: bytes, data: bytes) -> None:
        """
        Have everybody who has subscribed get a message, this process included.

        :raises BusFull: if too many wait already.
        :raises BusClosed: if the line is closed.
        """

    def subscribe(name: bytes) -> None:
        """
        Called with the first subscription of this process to a channel.
        """

    def unsubscribe(name: bytes) -> None:
        """
        Called when the last one is over.
        """

    def sync() -> Confirmation:
        """
        Ask to be told when all others can hear what was said so far.
        """

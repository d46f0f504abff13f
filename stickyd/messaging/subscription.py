"""
One subscriber's wish for the messages of one channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.messaging.message import Message

    #: Called with each message.
    Receive = Callable[[Message], object]


class BusSubscription:
    """
    Call it to unsubscribe; once more does nothing.

    :ivar name: the channel's, as frames carry it.
    :ivar active: whether messages are wanted still.
    """

    __slots__ = ("_abandoned", "_end", "_receive", "active", "name")

    def __init__(
        self,
        name: bytes,
        receive: Receive,
        end: Callable[[BusSubscription], object],
        abandoned: Callable[[BusSubscription], object],
    ) -> None:
        """
        :param receive: called with each message, in the thread that delivers it.
        :param end: called when it is not wanted any more.
        :param abandoned: called instead where no lock may be taken.
        """
        self.name = name
        self._receive = receive
        self._end = end
        self._abandoned = abandoned
        self.active = True

    def __call__(self) -> None:
        if self.active:
            self.active = False
            self._end(self)

    def abandon(self) -> None:
        """
        Unsubscribe from within a destructor, which runs in the middle of anything.
        """
        if self.active:
            self.active = False
            self._abandoned(self)

    def end(self) -> None:
        """
        Do what an abandoned one has left undone.
        """
        self._end(self)

    def receive(self, message: Message) -> None:
        """
        Hand a message on, if it is wanted still.
        """
        if self.active:
            self._receive(message)

"""
Connections on their way out of a worker, back to the primary.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stickyd.handoff.frame import MAX_UNREAD_BYTES, Flag, Handoff, Purpose
from stickyd.net.waiters import Waiters

if TYPE_CHECKING:
    from socket import socket

    from stickyd.interfaces import IHandoffSender

#: What stays true of a connection wherever it goes.
_LASTING = Flag.HTTPS | Flag.CLAIMED | Flag.HTTP2 | Flag.LAST


class Outbox:
    """
    Sends connections as fast as the primary takes them, in order.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._channel: IHandoffSender | None = None
        self._waiting: deque[Handoff] = deque()
        # Those that will be sent as soon as something else is done.
        self._expected = 0
        self._emptied = Waiters()
        # While sessions are on their way that those who move on may want.
        self._carrying: Deferred[None] | None = None

    def open(self, channel: IHandoffSender) -> None:
        """
        Begin to send.

        :param channel: the way to the primary.
        """
        self._channel = channel

    def pack(
        self,
        sock: socket,
        unread: bytes,
        handoff: Handoff,
        slot: int,
        key: bytes,
        flags: int = 0,
        purpose: int = Purpose.CONNECTION,
    ) -> Handoff | None:
        """
        Make the handoff of a connection that is given away.

        :param unread: what was read from it and not consumed.
        :param handoff: the handoff that brought it.
        :param flags: what is to be said of it beside what stays true.
        :return: :obj:`None` if it cannot be passed on; it is closed then.
        """
        if len(unread) > MAX_UNREAD_BYTES:
            self._log.warn(
                "A connection of {host} is closed: {size} bytes of it wait to be read, more"
                " than can be handed over",
                event="connection.too-much-unread",
                host=handoff.host,
                size=len(unread),
            )
            sock.close()
            return None
        given = Handoff(
            sock.detach(),
            handoff.host,
            handoff.port,
            key,
            unread,
            slot,
            purpose,
            handoff.flags & _LASTING | flags,
        )
        given.local = handoff.local
        return given

    def send(self, handoff: Handoff) -> None:
        """
        Pass a connection on, as soon as there is room.
        """
        self._waiting.append(handoff)
        self.room()

    def send_after(self, waiting: Deferred[None], handoff: Handoff) -> None:
        """
        Pass a connection on once ``waiting`` has fired, which must not fail.
        """
        self._expected += 1

        def due(_: object) -> None:
            self._expected -= 1
            self.send(handoff)

        waiting.addCallback(due)

    def hold_movers(self, carried: Deferred[None]) -> None:
        """
        Hold connections back that move on, until ``carried`` has fired, which must not fail.
        """
        self._carrying = carried

    def move_on(self, handoff: Handoff) -> None:
        """
        Pass a connection on whose client is not kept here any more, behind its sessions.
        """
        carrying = self._carrying
        if carrying is None or carrying.called:
            self._carrying = None
            self.send(handoff)
        else:
            self.send_after(carrying, handoff)

    def returned(self, handoff: Handoff) -> None:
        """
        Called with a connection that the primary had no descriptor free for.
        """
        self._waiting.appendleft(handoff)

    def room(self) -> None:
        """
        Called when the primary takes more.
        """
        channel = self._channel
        if channel is None:
            return
        while self._waiting and channel.send(self._waiting[0]):
            self._waiting.popleft()
        under_way = self._expected or self._waiting or channel.in_flight
        if self._emptied and not under_way:
            self._emptied.fire()

    def give_up(self) -> None:
        """
        Called when the primary is dead: nobody will take what waits.
        """
        self._emptied.fire()

    def when_empty(self) -> Deferred[None]:
        """
        Wait until the primary has everything.
        """
        emptied = self._emptied.wait()
        self.room()
        return emptied

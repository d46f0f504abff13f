"""
The worker's end of the handoff channel: what comes is served, what is given away leaves.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twisted.internet.address import UNIXAddress
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.affinity.address import presented
from stickyd.figures.page import HANDOFF, REHOMED, new_page
from stickyd.handoff.frame import Flag, Purpose
from stickyd.interfaces import IHandoffReceiver
from stickyd.net.addresses import tcp_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IHost
    from stickyd.worker.capacity import Capacity
    from stickyd.worker.outbox import Outbox


_NOT_ITS_PEERS = Flag.CLAIMED | Flag.SECURE
# Found faster than in their classes.
_SERVED = Flag.SERVED
_LISTENER = Purpose.LISTENER


def adopt(host: IHost, handoff: Handoff) -> None:
    """
    Have a host serve a connection.

    :param handoff: its descriptor is the host's from now on.
    """
    peer: IAddress
    if not handoff.host:
        family, peer = socket.AF_UNIX, UNIXAddress(None)
    elif ":" in handoff.host:
        family, peer = socket.AF_INET6, tcp_address(presented(handoff.host), handoff.port)
    else:
        family, peer = socket.AF_INET, tcp_address(handoff.host, handoff.port)
    if handoff.flags & _NOT_ITS_PEERS:
        # The host may be that of a client behind a proxy or a tunnel, and so says nothing of
        # the family.
        sock = socket.socket(fileno=handoff.descriptor)
    else:
        # All four given, so that Python need not ask the kernel three times.
        sock = socket.socket(family, socket.SOCK_STREAM, 0, handoff.descriptor)
    sock.setblocking(False)
    host.adopt(sock, peer, handoff)


@implementer(IHandoffReceiver)
class Handoffs:
    """
    Distributes what the channel says.

    :ivar adopted: how many handoffs were taken so far.
    """

    _log = Logger()

    def __init__(
        self,
        host: IHost,
        capacity: Capacity,
        outbox: Outbox,
        divert: Callable[[Handoff], bool],
        listen: Callable[[Handoff], None],
        lost: Callable[[], None],
        page: memoryview | None = None,
    ) -> None:
        """
        :param outbox: what we give away, which may come back.
        :param divert: asked with each connection that comes, whether it has passed it on.
        :param listen: takes listening sockets.
        :param lost: called when the primary has closed the channel.
        :param page: of figures, where connections are counted.
        """
        self._host = host
        self._capacity = capacity
        self._outbox = outbox
        self._divert = divert
        self._listen = listen
        self._lost = lost
        self._page = new_page() if page is None else page
        self.adopted = 0

    # IHandoffReceiver

    def received(self, handoff: Handoff) -> None:
        if self._divert(handoff):
            return
        self.adopted += 1
        if handoff.purpose == _LISTENER:
            self._listen(handoff)
        else:
            self._page[REHOMED if handoff.flags & _SERVED else HANDOFF] += 1
            adopt(self._host, handoff)

    def returned(self, handoff: Handoff) -> None:
        self._outbox.returned(handoff)

    def room(self) -> None:
        self._outbox.room()

    def starved(self) -> None:
        self._capacity.starve()

    def lost(self) -> None:
        self._outbox.give_up()
        self._lost()

    def broken(self, problem: str) -> None:
        self._log.critical(
            "The primary sent {problem}: this worker ends",
            event="primary.broken-protocol",
            problem=problem,
        )
        self.lost()

"""
Adopting connections: from the handoff channel to the host that serves them.
"""

from __future__ import annotations

import os
import resource
import socket
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.affinity.address import presented
from stickyd.handoff.frame import Flag, Purpose
from stickyd.interfaces import IHandoffReceiver
from stickyd.net.addresses import tcp_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IReactorTime

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IHost

#: The part of RLIMIT_NOFILE that connections may fill; the rest is the application's, for
#: its files and databases, and keeps the kernel from dropping a descriptor on its way.
HEADROOM = 0.9

#: Seconds until a full worker looks again whether it has room.
FULL_SECONDS = 0.05

#: Seconds between two lines in the log about a full worker.
QUIET = 10.0


@implementer(IHandoffReceiver)
class Adoption:
    """
    The receiving end of a handoff.

    :ivar announce: tells the primary our window; the channel's, set once it exists.
    :ivar listen: takes listening sockets; set as well.
    :ivar adopted: how many handoffs were taken so far.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        host: IHost,
        window: int,
        lost: Callable[[], None],
        returned: Callable[[Handoff], None],
        room: Callable[[], None],
        divert: Callable[[Handoff], bool] = lambda handoff: False,
    ) -> None:
        """
        :param window: how many connections may be on their way to us while we have room.
        :param lost: called when the primary has closed the channel.
        :param returned: called with a connection that we gave away and get back.
        :param room: called when the primary takes more of them.
        :param divert: asked with each connection that comes, whether it has passed it on.
        """
        self._clock = clock
        self._host = host
        self._most = window
        self._lost = lost
        self._returned = returned
        self._room = room
        self._divert = divert
        self._base = _open_descriptors()
        self._starved = False
        self._waiting = False
        self._told = -QUIET
        self.closing = False
        self.adopted = 0
        self.announce: Callable[[], None] = lambda: None
        self.listen: Callable[[Handoff], None]

    def window(self) -> int:
        """
        How many connections may be on their way to us now.
        """
        if self.closing:
            return 0
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = int(limit * HEADROOM) - self._base - self._host.descriptors
        if room > 0 and not self._starved:
            return min(self._most, room)
        self._look_again()
        return 0

    def _look_again(self) -> None:
        if self._waiting:
            return
        self._waiting = True
        now = self._clock.seconds()
        if now - self._told >= QUIET:
            self._told = now
            self._log.warn(
                "No more connections for now: {connections} are open, with {descriptors}"
                " descriptors, and the limit of open files is near; raise it (ulimit -n,"
                " LimitNOFILE=)",
                connections=self._host.connections,
                descriptors=self._host.descriptors,
            )
        self._clock.callLater(FULL_SECONDS, self._maybe_room)

    def _maybe_room(self) -> None:
        self._waiting = False
        self._starved = False
        self.announce()

    def close(self) -> None:
        """
        Take no more connections.
        """
        self.closing = True
        self.announce()

    # IHandoffReceiver

    def received(self, handoff: Handoff) -> None:
        if self._divert(handoff):
            return
        self.adopted += 1
        if handoff.purpose == Purpose.LISTENER:
            self.listen(handoff)
        else:
            self.adopt(handoff)

    def adopt(self, handoff: Handoff) -> None:
        """
        Serve a connection.
        """
        host = handoff.host
        peer: IAddress
        if not host:
            family, peer = socket.AF_UNIX, UNIXAddress(None)
        elif ":" in host:
            family, peer = socket.AF_INET6, tcp_address(presented(host), handoff.port)
        else:
            family, peer = socket.AF_INET, IPv4Address("TCP", host, handoff.port)
        if handoff.flags & (Flag.CLAIMED | Flag.SECURE):
            # The host is that of somebody behind a proxy or a tunnel, and says nothing of
            # the family.
            sock = socket.socket(fileno=handoff.descriptor)
        else:
            # All four given, so that Python need not ask the kernel three times.
            sock = socket.socket(family, socket.SOCK_STREAM, 0, handoff.descriptor)
        sock.setblocking(False)
        self._host.adopt(sock, peer, handoff)

    def returned(self, handoff: Handoff) -> None:
        self._returned(handoff)

    def room(self) -> None:
        self._room()

    def starved(self) -> None:
        self._starved = True

    def lost(self) -> None:
        self._lost()

    def broken(self, problem: str) -> None:
        self._log.critical("The primary sent {problem}: this worker ends", problem=problem)
        self._lost()


def _open_descriptors() -> int:
    """
    How many descriptors this process has open: about, as the listing opens one itself.
    """
    return len(os.listdir("/dev/fd"))

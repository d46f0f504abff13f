"""
WebSockets that applications serve in threads, as their host sees them.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import WEBSOCKET, UnderWay

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IReadiness
    from stickyd.serve.open_connections import OpenConnections
    from stickyd.serve.wsgi.lent_socket import LentSocket


#: How long a close frame may have to wait for a frame of the application.
GOODBYE_SECONDS = 0.01

#: How often it is looked whether one has ended that was told to close, until it is cut off: for
#: a second or two.
MOST_LOOKS = 4

#: How long a connection stays open, though shut, whose application has returned.
CLOSE_SECONDS = 0.2


class WebSockets:
    """
    Counts the WebSockets of one application.

    :ivar most: how many there may be.
    :ivar count: how many there are, and requests that may become one just now.
    :ivar open: the connections that are not closed yet.
    """

    def __init__(self, most: int, connections: OpenConnections) -> None:
        """
        :param connections: those of the host, among which each counts until it is over.
        """
        self.most = most
        self.count = 0
        self.open: set[LentConnection] = set()
        self._connections = connections

    def enter(self) -> bool:
        """
        Count one more.

        :return: :obj:`False` if there are enough.
        """
        if self.count >= self.most:
            return False
        self.count += 1
        return True

    def begin(
        self,
        readiness: IReadiness,
        sock: socket.socket,
        lent: LentSocket,
        handoff: Handoff | None,
    ) -> LentConnection:
        """
        Serve one, which takes these.
        """
        connection = LentConnection(
            readiness, sock, lent, handoff, self.open.discard, self._connections.remove
        )
        self.open.add(connection)
        return self._connections.add(connection)

    def leave(self) -> None:
        """
        Count one less.
        """
        self.count -= 1


@implementer(IServedConnection)
class LentConnection:
    """
    One connection that an application's thread has.

    :ivar handoff: what brought it; it goes nowhere from here.
    """

    descriptors = 1
    busy = False
    unanswered: tuple[Any, ...] = ()

    _goodbye_said = False
    _looks = 0

    def __init__(
        self,
        readiness: IReadiness,
        sock: socket.socket,
        lent: LentSocket,
        handoff: Handoff | None,
        closed: Callable[[LentConnection], object],
        ended: Callable[[LentConnection], object],
    ) -> None:
        """
        :param sock: the connection, which this object closes.
        :param lent: how the application sees it.
        :param closed: called with this when its socket is closed.
        :param ended: called when it is served here no longer.
        """
        self.handoff = handoff
        self._closed = closed
        self._ended = ended
        self._readiness = readiness
        self._socket = sock
        self._lent = lent
        self._begun_ns = perf_counter_ns()

    def under_way(self) -> list[UnderWay]:
        """
        Itself.
        """
        return [UnderWay(WEBSOCKET, self._begun_ns, b"GET", b"", 101)]

    def finish(self) -> None:
        """
        Close it: the application has returned.

        Not at once: another thread of the application may be about to read from it, and the
        number of the descriptor may be another client's as soon as it is free.
        """
        self._shut()
        self._readiness.call_later(CLOSE_SECONDS, self._close)

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        self._socket.close()
        self._closed(self)
        self._ended(self)

    # As a host's connections.

    def give_away(self, goes: object, take: object) -> None:
        """
        It cannot be given away.
        """

    def drain(self) -> None:
        """
        The application or the client ends it.
        """

    def say_goodbye(self, code: int) -> bool:
        """
        Close the WebSocket with a reason, if the application is not saying something itself.

        :param code: as of RFC 6455, section 7.4.
        """
        if self._goodbye_said or not self._lent.sending.acquire(timeout=GOODBYE_SECONDS):
            return False
        self._goodbye_said = True
        try:
            self._socket.send(b"\x88\x02" + struct.pack("!H", code), socket.MSG_DONTWAIT)
        except OSError:
            return False
        finally:
            self._lent.sending.release()
        return True

    def end_streams(self) -> None:
        """
        Called again and again once it is told to close: cut it off if the application's thread
        does not return, which may wait for something else for ever.
        """
        if self._goodbye_said:
            self._looks += 1
            if self._looks == MOST_LOOKS:
                self.abortConnection()

    def abortConnection(self) -> None:  # noqa: N802 - the name that all connections have
        """
        Cut it off: the application's threads see the end of it.
        """
        self._shut()
        self._ended(self)

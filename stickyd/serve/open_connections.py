"""
The connections that a host has open, and what happens to all of them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, succeed

from stickyd.figures.page import CLOSED, OPENED, new_page
from stickyd.net.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket

    from stickyd.handoff.frame import Handoff

    #: Whatever provides :class:`stickyd.serve.served_connection.IServedConnection`.
    C = TypeVar("C", bound=Any)

#: The code with which a stop ends WebSockets.
SERVICE_RESTART = 1012

#: Seconds until the connections of WebSockets that were told so are cut off.
FAREWELL_SECONDS = 0.25


def uncounted(connection: object) -> None:
    """
    Do nothing, for a connection that is not counted.
    """


class OpenConnections:
    """
    Counts connections from when they come until they are over or given away.

    :ivar descriptors: how many descriptors they take.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], object]], object],
        page: memoryview | None = None,
    ) -> None:
        """
        :param call_later: calls a function in so many seconds.
        :param page: where they are counted for the primary; nowhere by default.
        """
        self._call_later = call_later
        self._page = new_page() if page is None else page
        self._open: set[Any] = set()
        self._emptied = Waiters()
        self._quiet: list[tuple[set[Any], Deferred[None]]] = []
        self.descriptors = 0

    def __len__(self) -> int:
        """
        How many are open.
        """
        return len(self._open)

    def __iter__(self) -> Iterator[Any]:
        """
        Those that are open now, whatever becomes of them meanwhile.
        """
        return iter(list(self._open))

    def add(self, connection: C) -> C:
        """
        Count a connection until :meth:`remove` is called with it, as its ``ended``.

        One that takes the place of another is added before that ends.
        """
        self._page[OPENED] += 1
        self._open.add(connection)
        self.descriptors += connection.descriptors
        return connection

    def remove(self, connection: Any) -> None:
        """
        Count a connection no longer; calling it again does nothing.
        """
        try:
            self._open.remove(connection)
        except KeyError:
            return
        self._page[CLOSED] += 1
        self.descriptors -= connection.descriptors
        if self._quiet:
            for busy, _ in self._quiet:
                busy.discard(connection)
            self._tell_quiet()
        if not self._open and self._emptied:
            self._emptied.fire()

    def clients(self) -> list[bytes]:
        """
        The clients whose connections these are; see :class:`stickyd.interfaces.IHost`.
        """
        found = set()
        for each in self._open:
            handoff = each.handoff
            # A WebSocket of an ASGI application has no handoff, as it goes nowhere.
            client = getattr(each, "client", None) if handoff is None else handoff.client
            if client is not None:
                found.add(client)
        return list(found)

    def give_away(
        self,
        goes: Callable[[Handoff], bool],
        give: Callable[[socket, bytes, Handoff], None],
    ) -> Deferred[None]:
        """
        Give connections away; see :class:`stickyd.interfaces.IHost`.
        """
        going = [each for each in self if each.handoff is not None and goes(each.handoff)]
        busy: set[Any] = set()

        def give_one(connection: Any) -> None:
            handoff = connection.handoff

            def still_goes(handoff: Handoff) -> bool:
                if goes(handoff):
                    return True
                busy.discard(connection)
                self._tell_quiet()
                return False

            connection.give_away(still_goes, lambda sock, unread: give(sock, unread, handoff))

        for each in going:
            give_one(each)
        busy.update(each for each in going if each in self._open and each.busy)
        quiet: Deferred[None] = Deferred()
        self._quiet.append((busy, quiet))
        self._tell_quiet()
        return quiet

    def _tell_quiet(self) -> None:
        for entry in [entry for entry in self._quiet if not entry[0]]:
            self._quiet.remove(entry)
            entry[1].callback(None)

    def drain(self) -> Deferred[None]:
        """
        Have all of them finish.

        :return: fires when none is left.
        """
        for each in self:
            each.drain()
        return self._emptied.wait() if self._open else succeed(None)

    def end_streams(self) -> None:
        """
        End those that do not end by themselves; see :class:`stickyd.interfaces.IHost`.
        """
        for each in self:
            if not each.say_goodbye(SERVICE_RESTART):
                each.end_streams()

    def abort(self) -> None:
        """
        End all of them now; but tell WebSockets why (RFC 6455, 7.4, and its registry), and cut
        them off a moment later.
        """
        told = False
        for each in self:
            if each.say_goodbye(SERVICE_RESTART):
                told = True
            else:
                each.abortConnection()
        if told:
            self._call_later(FAREWELL_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        for each in self:
            each.abortConnection()

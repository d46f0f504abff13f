"""
Whether a connection goes on elsewhere between two requests, and where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.affinity.peek.http1 import Head
    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import Route, Take


class Departure:
    """
    Decides that for one connection.  The route is asked about each request, and the host may
    have the connection leave at any time.

    :ivar take: gets the connection; :obj:`None` until that is decided.
    :ivar awaited: the host wants it to leave as soon as it is between two requests.
    :ivar drain_else: it is to be drained if it does not leave then.
    """

    take: Take | None = None
    drain_else = False

    _offer: tuple[Callable[[Handoff], bool], Take] | None = None

    def __init__(self, handoff: Handoff | None, route: Route | None) -> None:
        """
        :param handoff: what brought the connection; without one no request is routed.
        :param route: see :class:`stickyd.serve.http.context.HTTPContext`.
        """
        self._handoff = handoff
        self._route = route

    @property
    def awaited(self) -> bool:
        return self._offer is not None

    def request_goes(self, head: Head) -> bool:
        """
        Decide by the next request whether the connection leaves with it.
        """
        if self._route is not None and self._handoff is not None:
            self.take = self._route(head, self._handoff)
        return self.take is not None

    def offer(self, goes: Callable[[Handoff], bool], take: Take) -> None:
        """
        Have the connection leave between two requests.

        :param goes: tells by the handoff whether it still goes; asked before it does.
        :param take: gets it.
        """
        route = self._route

        def route_offered(head: Head, handoff: Handoff) -> Take | None:
            if goes(handoff):
                return take
            return None if route is None else route(head, handoff)

        self._route = route_offered
        self._offer = goes, take

    def take_next(self, take: Take) -> None:
        """
        Have the connection leave with its next request, whichever client that is of.
        """
        self._route = lambda head, handoff: take

    def goes_now(self) -> bool:
        """
        Decide whether the connection, which is between two requests now, leaves as the host
        wants.  If not, it stays until the host makes another offer.
        """
        assert self._offer is not None
        goes, take = self._offer
        if self._handoff is None or goes(self._handoff):
            self.take = take
            return True
        self._offer = None
        return False

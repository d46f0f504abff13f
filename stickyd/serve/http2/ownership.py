"""
Whether a request is this worker's, when its connection is here already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.affinity.peek.http2 import head_of

if TYPE_CHECKING:
    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.site import HTTPSite

    Pairs = list[tuple[bytes, bytes]]

#: Seconds between two lines in the log about proxies that mix their clients.
QUIET_SECONDS = 600.0


class Ownership:
    """
    Says of each request of a connection whether this worker answers it.
    """

    _log = Logger()

    def __init__(self, site: HTTPSite, handoff: Handoff | None) -> None:
        """
        :param handoff: the handoff that brought the connection, if one did.
        """
        self._site = site
        self._context = site.context
        self._handoff = handoff

    def belongs_elsewhere(self, headers: Pairs) -> bool:
        """
        Whether a request is another slot's, by what it says of its client.

        The first one is not, as the connection came here by it; but the slots may have
        changed since, or a later one is another client's.
        """
        route, handoff = self._context.route, self._handoff
        if route is None or handoff is None or route(head_of(headers), handoff) is None:
            return False
        stickiness = self._context.stickiness
        if stickiness is None or handoff.host not in stickiness.trust:
            return True
        # Served here nevertheless, it is not the client of the request before.
        handoff.client = handoff.seen = None
        # A trusted proxy takes a refusal for an error of its client.
        now = self._context.clock.seconds()
        if now >= self._context.quiet_until:
            self._context.quiet_until = now + QUIET_SECONDS
            self._log.warn(
                "The proxy {host} sends requests of several clients down one HTTP/2 connection;"
                " they are served by one worker, whosever they are: have it speak HTTP/1.1 with"
                " stickyd (--http2 off)",
                event="http2.mixed-clients",
                host=handoff.host,
            )
        return False

    def session_has_left(self, request: Any) -> bool:
        """
        Whether a request that comes while this worker is relieved may ask for a session that
        has gone before it.
        """
        site: Any = self._site
        registry = getattr(site, "session_registry", None)
        if registry is None or not registry.forwards:
            return False
        return any(registry.has_moved(uid) for uid in site.session_ids(request))

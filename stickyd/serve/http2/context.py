"""
What all streams of an HTTP/2 connection have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

from stickyd.handoff.frame import Flag

if TYPE_CHECKING:
    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.site import HTTPSite
    from stickyd.serve.http2.output import HTTP2Output


@dataclass(frozen=True)
class ConnectionContext:
    """
    A connection, as its streams see it.

    :ivar site: finds the resources of requests.
    :ivar handoff: what brought the connection, if anything did.
    :ivar transport: the plain text of the connection.
    :ivar output: what sends.
    """

    site: HTTPSite
    handoff: Handoff | None
    transport: Any
    output: HTTP2Output

    @property
    def secure(self) -> bool:
        """
        Whether the client speaks TLS, with us or at the other end of a tunnel.
        """
        tunnelled = self.handoff is not None and bool(self.handoff.flags & Flag.HTTPS)
        return tunnelled or ISSLTransport.providedBy(self.transport)

"""
The site: Twisted's, with our channel and request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web import server
from twisted.web.resource import getChildForRequest
from typing_extensions import override

from stickyd.serve.http.connection import HTTPChannel
from stickyd.serve.http.request import Request
from stickyd.serve.open_connections import uncounted

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress
    from twisted.web.resource import IResource

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.http.context import HTTPContext


class HTTPSite(server.Site):
    """
    A factory for endpoints, and what requests know as their site.

    :ivar context: what all its channels share.
    :ivar access_log: where finished requests are logged, or :obj:`None`.
    """

    requestFactory: type[server.Request] = Request  # noqa: N815 - Twisted's name

    def __init__(
        self,
        resource: IResource,
        context: HTTPContext,
        access_log: AccessLog | None = None,
        request_factory: Any = None,
    ) -> None:
        super().__init__(resource, request_factory, reactor=context.clock)
        self.context = context
        self.access_log = access_log

    def make_channel(
        self,
        handoff: Handoff | None = None,
        ended: Callable[[HTTPChannel], object] = uncounted,
    ) -> HTTPChannel:
        """
        Make the protocol for one connection.

        :param handoff: what brought it.
        :param ended: called when it is served here no longer.
        """
        return HTTPChannel(self.context, self, handoff, ended)

    @override
    def buildProtocol(  # type: ignore[override]  # Twisted's wraps its channel once more
        self, addr: IAddress | None
    ) -> HTTPChannel:
        return self.make_channel()

    @override
    def log(self, request: Any) -> None:
        if self.access_log is not None:
            self.access_log.log(request)

    @override
    def startFactory(self) -> None:
        """
        Do not take Twisted's own log for an access log.
        """

    @override
    def stopFactory(self) -> None:
        """
        Stop the timer, and write what of the access log waits.
        """
        self.context.deadlines.stop()
        if self.access_log is not None:
            self.access_log.close()

    @override
    def getResourceFor(self, request: Any) -> Any:
        request.site = self
        request.sitepath = list(request.prepath)
        return getChildForRequest(self.resource, request)

    @override
    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

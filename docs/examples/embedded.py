"""
A Twisted program of its own, with a StickyService as one of its services.

From any directory::

    python embedded.py
    curl http://127.0.0.1:3000/     the sticky application: two worker processes
    curl http://127.0.0.1:3001/     the other service: this process, the primary
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet import reactor as installed_reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import Site
from typing_extensions import override

from stickyd.service import StickyService
from stickyd.settings import Settings

if TYPE_CHECKING:
    from twisted.web.server import Request


class Health(Resource):
    """
    Says how many slots have a worker that serves.
    """

    isLeaf = True

    def __init__(self, sticky: StickyService) -> None:
        super().__init__()
        self._sticky = sticky

    @override
    def render(self, request: Request) -> bytes:
        slots = self._sticky.fleet.slots
        serving = sum(slot.worker is not None for slot in slots)
        return b"%d of %d workers serve\n" % (serving, len(slots))


def main(
    reactor: Any, application: str = "tcp:3000", health: str = "tcp:3001:interface=127.0.0.1"
) -> None:
    """
    Serve until a signal comes.

    :param application: the endpoint of the sticky application.
    :param health: the endpoint of the other service.
    """
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    services = MultiService()
    sticky = StickyService(Settings.read({"listen": application, "workers": 2}), reactor)
    sticky.setServiceParent(services)
    StreamServerEndpointService(
        serverFromString(reactor, health), Site(Health(sticky))
    ).setServiceParent(services)
    services.startService()
    reactor.addSystemEventTrigger("before", "shutdown", services.stopService)
    reactor.run()


if __name__ == "__main__":
    main(installed_reactor, *sys.argv[1:])

"""
A WSGI application in its host, on a loop of the test's own, and clients on real sockets.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stickyd.affinity.spec import parse_affinity
from stickyd.affinity.trust import Networks
from stickyd.net.readiness import readiness_of
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.stickiness import Stickiness
from stickyd.serve.tls.server import ServerTls
from stickyd.serve.wsgi.host import WsgiHost
from stickyd.serve.wsgi.options import WsgiOptions
from tests.hosting import Client, Visitors, a_reactor, end_abruptly, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from stickyd.serve.wsgi.call import WsgiApplication


class Scene:
    """
    A host.

    :ivar host: serves the application.
    """

    def __init__(self, reactor: Any, application: WsgiApplication, **settings: Any) -> None:
        trust = settings.pop("trust", ())
        limits = settings.pop("limits", HTTPLimits())
        pair = settings.pop("tls", "")
        tls = ServerTls(reactor, [pair]) if pair else None
        stickiness = settings.pop("stickiness", None)
        if trust:
            stickiness = Stickiness(
                parse_affinity(("ip",)), None, lambda: 0, lambda ids: None, Networks.parse(trust)
            )
        self.visitors = Visitors()
        self.host = WsgiHost(
            application,
            reactor,
            readiness_of(reactor),
            WsgiOptions(**settings),
            HTTPContext(reactor, limits, stickiness=stickiness),
            tls=tls,
        )
        self._loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop

    def visit(self) -> Client:
        """
        Connect.
        """
        return self.visitors.visit(self.host)

    def run(self, test: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """
        Run a test's coroutine.
        """
        return run(self._loop, test())


@contextmanager
def serving(application: WsgiApplication, kind: str = "uvloop", **settings: Any) -> Iterator[Scene]:
    """
    Serve an application.

    :param settings: of :class:`WsgiOptions`; and ``trust``, ``limits``, ``stickiness`` and
        ``tls``, a certificate's file.
    """
    with a_reactor(kind) as reactor:
        scene = Scene(reactor, application, **settings)
        try:
            yield scene
        finally:
            scene.visitors.close()
            scene.run(lambda: end_abruptly(scene.host))
            scene.run(lambda: until(lambda: not scene.host._backend.websockets.open))

"""
The host for WSGI applications.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.web.resource import Resource
from typing_extensions import override
from zope.interface import implementer

from stickyd.interfaces import IHost
from stickyd.net.readiness import readiness_of
from stickyd.serve.resource import ResourceHost
from stickyd.serve.wsgi.backend import Backend
from stickyd.serve.wsgi.options import WsgiOptions
from stickyd.serve.wsgi.request import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.interfaces import IReadiness
    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.wsgi.call import WsgiApplication


#: How long a thread that computes may keep the interpreter from the loop.  A page that four
#: threads keep waiting which compute takes 20 ms with it and 55 with the interpreter's own;
#: the switches cost one part in a hundred.
SWITCH_SECONDS = 0.001
DEFAULT_SWITCH_SECONDS = 0.005


class WsgiRequests:
    """
    Makes the requests of all connections.
    """

    #: To channels: it takes its fields as they were parsed.
    _plain = True

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __call__(self, channel: Any, queued: object = None) -> WsgiRequest:
        """
        Make one.
        """
        return WsgiRequest(channel, self._backend)


@implementer(IHost)
class WsgiHost(ResourceHost):
    """
    Serves a WSGI application over HTTP/1.1, and over HTTP/2 if TLS offers it.
    """

    def __init__(
        self,
        application: WsgiApplication,
        reactor: Any,
        readiness: IReadiness,
        options: WsgiOptions,
        context: HTTPContext,
        **rest: Any,
    ) -> None:
        """
        :param reactor: to be called from threads.
        :param context: as for :class:`ResourceHost`.
        :param rest: goes to :class:`ResourceHost`.
        """
        # The loop's own, where it has one: Twisted's makes a turn of it.
        soon = getattr(readiness_of(reactor), "call_soon_threadsafe", reactor.callFromThread)

        def call_from_thread(call: Callable[[], object]) -> None:
            # A thread that nobody waited for may outlive the loop.
            with suppress(RuntimeError):
                soon(call)

        super().__init__(Resource(), readiness, context, **rest)
        self._given_up = False
        self._backend = Backend(application, readiness, call_from_thread, options, self._open)
        self.site.requestFactory = WsgiRequests(self._backend)  # type: ignore[assignment]

    @override
    def start(self) -> Deferred[None]:
        """
        Have the interpreter let the loop in more often, unless the application has a say in it.
        """
        if sys.getswitchinterval() == DEFAULT_SWITCH_SECONDS:
            sys.setswitchinterval(SWITCH_SECONDS)
        return super().start()

    @property
    @override
    def descriptors(self) -> int:
        return super().descriptors + self._backend.spills.count + self._backend.files.count

    @override
    def abort(self) -> None:
        """
        Reset every connection, and wait for no thread any more.
        """
        self._given_up = True
        super().abort()

    @override
    def stop(self) -> Deferred[None]:
        """
        End the threads.

        :return: fires when each has finished what it was doing, even if the client has
            left; but at once after :meth:`abort`, as threads cannot be interrupted.
        """
        ended = self._backend.threads.stop()
        if self._given_up:
            return super().stop()
        return ended.addCallback(lambda _: super(WsgiHost, self).stop())

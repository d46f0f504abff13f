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

#: Between two looks for threads that are still at work though no connection is left.
LOOK_SECONDS = 1.0


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
    def drain(self) -> Deferred[None]:
        """
        As of any host, and then end the threads.

        :return: fires when no connection is left, and each thread has finished what it was
            doing, even if the client has left.  But threads cannot be interrupted: those of
            event streams, which may wait for ever, are given up a moment after their clients
            have left, and all of them by :meth:`abort`.
        """
        return super().drain().addCallback(self._end_threads)

    def _end_threads(self, _: object) -> Deferred[None] | None:
        if self._given_up:
            return None
        ended = self._backend.threads.stop()
        self._look_at_threads(ended, was_forsaken=False)
        return ended

    def _look_at_threads(self, ended: Deferred[None], was_forsaken: bool) -> None:
        if ended.called:
            return
        forsaken = all(job.forsaken for _, job in self._backend.watch.busy())
        if forsaken and was_forsaken:
            self._give_threads_up()
        else:
            self._readiness.call_later(LOOK_SECONDS, self._look_at_threads, ended, forsaken)

    @override
    def abort(self) -> None:
        """
        Reset every connection, and wait for no thread any more.
        """
        super().abort()
        self._give_threads_up()

    def _give_threads_up(self) -> None:
        if not self._given_up:
            self._given_up = True
            self._backend.watch.tell_left()
            self._backend.threads.give_up()

    @override
    def stop(self) -> Deferred[None]:
        """
        End the threads, if :meth:`drain` has not.

        :return: as of that.
        """
        ended = self._backend.threads.stop()
        if self._given_up:
            return super().stop()
        return ended.addCallback(lambda _: super(WsgiHost, self).stop())

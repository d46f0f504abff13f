"""
The host for WSGI applications: twisted.web's, with threads of their own.
"""

from __future__ import annotations

import threading
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from twisted.web.wsgi import WSGIResource
from typing_extensions import override
from zope.interface import implementer

from stickyd.interfaces import IHost
from stickyd.serve.resource import ResourceHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twisted.web.server import Request

    from stickyd.interfaces import IReadiness

    WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class ApplicationThreads(ThreadPool):
    """
    The threads that a WSGI application runs in.

    They do not keep the process alive: one that never returns must not outlive the
    deadline of a stop.
    """

    threadFactory = staticmethod(partial(threading.Thread, daemon=True))  # type: ignore[assignment]  # noqa: N815 - Twisted's name

    def __init__(self, most: int) -> None:
        """
        :param most: how many requests the application handles at a time.
        """
        super().__init__(minthreads=1, maxthreads=most, name="wsgi")


class _Outliving:
    """
    A request as its application's thread may use it: also after the client has left.

    :ivar content: the body.  The request would close its own as soon as the client leaves,
        and an application that reads just then would fail.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self.content: BinaryIO = self._request.content
        self._request.content = BytesIO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def finish(self) -> None:
        """
        End the response, if anybody waits for it: Twisted does not look when an application
        has failed.
        """
        if not self._request._disconnected:
            self._request.finish()


class ApplicationResource(WSGIResource):
    """
    A WSGI application as the root resource.
    """

    def __init__(
        self, reactor: Any, threads: ThreadPool, application: WsgiApplication, root_path: str
    ) -> None:
        """
        :param root_path: the prefix that a proxy in front takes off the path.
        """
        self._make = partial(WSGIResource, reactor, threads)
        self._run = application
        self._root_path = root_path
        super().__init__(reactor, threads, application)

    def _answer(
        self, content: BinaryIO, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterator[bytes]:
        environ["SCRIPT_NAME"] = self._root_path + environ["SCRIPT_NAME"]
        # Other workers have this application too, each with the state of its own clients.
        environ["wsgi.multiprocess"] = True
        # PEP 3333: never empty, as it is if the client's Host is.
        environ["SERVER_NAME"] = environ["SERVER_NAME"] or "localhost"
        try:
            pieces = self._run(environ, start_response)
            try:
                yield from pieces
            finally:
                close = getattr(pieces, "close", None)
                if close is not None:
                    close()
        finally:
            content.close()

    @override
    def render(self, request: Request) -> Any:
        if isinstance(request.getClientAddress(), UNIXAddress):
            # Twisted asks for its host and port.
            request.client = IPv4Address("TCP", "", 0)
            request.host = IPv4Address("TCP", "localhost", 443 if request.isSecure() else 80)
        outliving = _Outliving(request)
        answer = self._make(partial(self._answer, outliving.content))
        return answer.render(cast("Request", outliving))


@implementer(IHost)
class WsgiHost(ResourceHost):
    """
    Serves a WSGI application over HTTP/1.1.
    """

    def __init__(
        self,
        application: WsgiApplication,
        reactor: Any,
        readiness: IReadiness,
        threads: int = 10,
        root_path: str = "",
        **rest: Any,
    ) -> None:
        """
        :param threads: how many requests the application handles at a time; the others
            wait.
        :param rest: goes to :class:`ResourceHost`.
        """
        self._threads = ApplicationThreads(threads)
        self._reactor = reactor
        self._given_up = False
        root = ApplicationResource(reactor, self._threads, application, root_path)
        super().__init__(root, reactor, readiness, **rest)

    @override
    def start(self) -> Deferred[None]:
        """
        Start the threads.
        """
        self._threads.start()
        return super().start()

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
        ended: Deferred[None] = Deferred()

        def wait() -> None:
            self._threads.stop()
            self._reactor.callFromThread(ended.callback, None)

        if self._given_up:
            return super().stop()
        # In a thread, as it waits for the others, and those may wait for the reactor.
        threading.Thread(target=wait, name="wsgi stop", daemon=True).start()
        return ended.addCallback(lambda _: super(WsgiHost, self).stop())

"""
What all requests to one WSGI application share.
"""

from __future__ import annotations

import sys
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

import stickyd
from stickyd.net.throttle import Throttle
from stickyd.serve.wsgi.aging import Aging
from stickyd.serve.wsgi.body import Spills
from stickyd.serve.wsgi.delivery_queue import DeliveryQueue
from stickyd.serve.wsgi.environ import Environs
from stickyd.serve.wsgi.error_stream import ErrorStream
from stickyd.serve.wsgi.file_wrapper import FileWrapper
from stickyd.serve.wsgi.threads import ApplicationThreads
from stickyd.serve.wsgi.uploads import Uploads
from stickyd.serve.wsgi.watch import ThreadWatch
from stickyd.serve.wsgi.websockets import WebSockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness
    from stickyd.serve.open_connections import OpenConnections
    from stickyd.serve.wsgi.call import WsgiApplication
    from stickyd.serve.wsgi.options import WsgiOptions

#: Seconds between two lines in the log about requests that were refused.
QUIET_SECONDS = 10.0

#: How long the watch over a client is put off, as its answer is probably on its way.
UNWATCHED_SECONDS = 0.025

#: How long an incomplete body is awaited until the application is called without the rest,
#: which may be what the client waits for.
PATIENCE_SECONDS = 0.1


class Unfinished(Protocol):
    """
    A request that is looked at once it has waited for a while.
    """

    def be_watched(self) -> None:
        """
        Have the client watched: it may leave while it waits.
        """

    def begin_early(self) -> None:
        """
        Call the application, though the body is not whole.
        """


class Backend:
    """
    The application and its threads.

    :ivar application: the application.
    :ivar environs: begins the environs of requests.
    :ivar threads: where the application runs.
    :ivar watch: looks at the threads.
    :ivar responses: how its responses come back into the loop.
    :ivar uploads: the requests whose application reads a body that is still coming.
    :ivar errors: ``wsgi.errors``.
    :ivar spills: the bodies that lie in files.
    :ivar unwatched: the requests whose clients are not watched for a moment.
    :ivar incomplete: the requests whose bodies are not whole yet.
    :ivar files: the responses that are files, while they are sent.
    :ivar websockets: counts the connections that the application has itself.
    :ivar readiness: the loop.
    :ivar call_from_thread: has something called in the loop.
    """

    _log = Logger()

    def __init__(
        self,
        application: WsgiApplication,
        readiness: IReadiness,
        call_from_thread: Callable[[Callable[[], object]], object],
        options: WsgiOptions,
        connections: OpenConnections,
    ) -> None:
        """
        :param connections: those of the host, to which each belongs that the application has
            itself.
        :param readiness: the loop.
        :param call_from_thread: the only method of the loop that threads may call.
        """
        self.application = application
        self.readiness = readiness
        self.call_from_thread = call_from_thread
        self.responses = DeliveryQueue(call_from_thread)
        self.threads = ApplicationThreads(
            readiness, call_from_thread, options.threads, options.queue_limit, self.responses
        )
        self.watch = ThreadWatch(readiness, self.threads, options.timeout_seconds, options.replace)
        self.uploads = Uploads(options.threads // 2)
        self.spills = Spills()
        self.files = Spills(sys.maxsize)  # as many as there are connections
        self.websockets = WebSockets(options.websockets, connections)
        self.unwatched: Aging[Unfinished] = Aging(
            readiness, UNWATCHED_SECONDS, lambda request: request.be_watched()
        )
        self.incomplete: Aging[Unfinished] = Aging(
            readiness, PATIENCE_SECONDS, lambda request: request.begin_early()
        )
        self.errors = ErrorStream()
        self._throttle = Throttle(monotonic, QUIET_SECONDS)
        template: dict[str, Any] = {
            "SCRIPT_NAME": options.root_path,
            "SERVER_SOFTWARE": f"stickyd/{stickyd.__version__}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": self.errors,
            "wsgi.multithread": True,
            # Other workers have this application too, each with the state of its own clients.
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
        }
        self.environs = Environs(template)

    @staticmethod
    def no_body() -> BytesIO:
        """
        Make the body of a request that has none.
        """
        return BytesIO()

    def note_full(self) -> None:
        """
        Say that a request was refused, but not for each of them.
        """
        if not self._throttle.due("threads"):
            return
        self._log.warn(
            "All {count} threads of the WSGI application are busy and {waiting} requests wait;"
            " the next ones get 503. Write a higher --wsgi-threads if the application waits for"
            " others, more --workers if it computes, or a higher --wsgi-queue",
            event="wsgi.queue-full",
            count=self.threads.count,
            waiting=self.threads.waiting,
        )

    def note_no_websocket(self) -> None:
        """
        The same of a WebSocket.
        """
        if self._throttle.due("websockets"):
            self._log.warn(
                "The WSGI application has {count} WebSockets, and the next ones get 503. Write a"
                " higher --wsgi-websockets, or more --workers",
                event="wsgi.websockets-full",
                count=self.websockets.count,
            )

"""
The request that resources see.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.error import UnsupportedMethod
from twisted.web.http import NO_BODY_CODES
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.pages import _ErrorPage
from twisted.web.resource import _IEncodingResource, _UnsafeErrorPageBase
from twisted.web.server import NOT_DONE_YET
from typing_extensions import override

from stickyd.net.file_chunk import FileChunk
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.lazy import Lazy
from stickyd.serve.http.lazy_request import LazyRequest
from stickyd.serve.static.stock_files import file_body

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import FileIO

    from twisted.web.resource import IResource

    from stickyd.serve.http.head import FieldBlock

#: What twisted.web answers with where a tree of resources has nothing.
_ERROR_PAGES = (_ErrorPage, _UnsafeErrorPageBase)


class Rendered:
    """
    Stands for a resource that was rendered already, so that twisted.web treats the outcome.
    """

    def __init__(self, resource: Any, outcome: Any) -> None:
        self._resource = resource
        self._outcomes = [outcome]

    def __repr__(self) -> str:
        """
        Name the resource in error pages and logs.
        """
        return repr(self._resource)

    def render(self, request: Any) -> Any:
        """
        Give the outcome; when asked again, for a HEAD made of a GET, render again.
        """
        if not self._outcomes:
            return self._resource.render(request)
        outcome = self._outcomes.pop()
        if isinstance(outcome, UnsupportedMethod):
            raise outcome
        return outcome


def _parses_forms(request: Request) -> bool:
    parses: bool = request._connection().site._parsePOSTFormSubmission
    return parses


class Request(LazyRequest, server.Request):
    """
    A :class:`twisted.web.server.Request` that does only the work that is asked for.
    """

    _parsePOSTFormSubmission = Lazy(_parses_forms)  # noqa: N815 - Twisted's name
    _adapterCache = Lazy(lambda request: {})  # noqa: N815 - Twisted's name
    defaultContentType = server.Request.defaultContentType  # noqa: N815 - Twisted's name

    _encoder: Any = None
    _plain = True  # whether it is one of our own classes, made in the short way
    _answers = True  # whether write() and finish() are still ours
    _sessions_held: Any = None  # by which the response must go, see SessionRequest

    def __init_subclass__(cls) -> None:
        """
        Notice subclasses that have a say in writing.
        """
        super().__init_subclass__()
        cls._plain = False
        cls._answers = cls.write is Request.write and cls.finish is Request.finish

    @override
    def getStateToCopyFor(self, issuer: Any) -> dict[str, Any]:
        for name in (
            "transport",
            "content",
            "host",
            "client",
            "requestHeaders",
            "cookies",
            "responseHeaders",
            "received_cookies",
            "args",
            "notifications",
        ):
            getattr(self, name)
        state: dict[str, Any] = super().getStateToCopyFor(issuer)
        del state["_block"]
        return state

    @override
    def process(self) -> None:
        if not self._ours:
            super().process()
            return
        self.site = site = self.channel.site
        self._stamped = True
        path = self.path
        self.prepath = []
        self.postpath = path[1:].split(b"/")
        if b"%" in path:
            self.postpath = [unquote_to_bytes(segment) for segment in self.postpath]
        elif path == b"*":
            self._handleStar()
            return
        try:
            resource = site.getResourceFor(self)
            if _IEncodingResource.providedBy(resource):
                self._encoder = resource.getEncoder(self)
            self.render(resource)
        except Exception:  # noqa: BLE001 - whatever an application raises ends its response only
            self.processingFailed(Failure())

    @override
    def render(self, resrc: IResource) -> None:
        body: Any
        if self.method == b"OPTIONS" and self.path == b"/" and isinstance(resrc, _ERROR_PAGES):
            # As with "*": health checks ask whether the server is there, not for a page.
            self._tell_options([])
            return
        try:
            body = resrc.render(self)
        except UnsupportedMethod as error:
            if self.method == b"OPTIONS":
                self._tell_options(error.allowedMethods)
                return
            super().render(Rendered(resrc, error))
            return
        if type(body) is bytes:
            known = self.__dict__
            if (
                self._answers
                and self._has_simple_head()
                and not self.startedWriting
                and self._encoder is None
                and self.method != b"HEAD"
                and self.code not in NO_BODY_CODES
                and "write" not in known
                and "finish" not in known
                and (self._sessions_held is None or self._saves_sessions_at_once())
            ):
                self._answer(body)
                return
        elif body is NOT_DONE_YET:
            return
        super().render(Rendered(resrc, body))

    def _saves_sessions_at_once(self) -> bool:
        """
        Bring what was done to sessions where it is kept, as the response is to begin.

        :return: whether that is done, so that the response need not wait for it.
        """
        return True

    def _tell_options(self, allowed: Iterable[bytes]) -> None:
        """
        Answer an OPTIONS that the resource leaves to us (RFC 9110, 9.3.7).

        :param allowed: the methods that the resource has.
        """
        methods = {*allowed, b"OPTIONS"}
        if b"GET" in methods:
            methods.add(b"HEAD")
        self.setHeader(b"Allow", b", ".join(sorted(methods)))
        self.setHeader(b"Content-Length", b"0")
        self.finish()

    def _answer(self, body: bytes) -> None:
        """
        Send a whole response, and be done.
        """
        channel = self.channel
        self.sentLength = length = len(body)
        head = self._make_head(length)
        if length < 16384:
            channel.write(head + body)
        else:
            channel.write(head)
            channel.write(body)
        factory = channel.factory
        if factory is not None:
            factory.log(self)
        self.finished = 1
        self._cleanup()

    @override
    def write(self, data: bytes) -> None:
        if self._encoder is not None or self._inFakeHead:
            server.Request.write(self, data)
        else:
            super().write(data)

    def write_file(self, file: FileIO, offset: int, count: int) -> bool:
        """
        Write a part of a file, which the kernel copies by itself, if the connection takes files
        and nobody has a say in what is written.  ``Content-Length`` must have been set.

        :param file: a regular file; the caller closes it, which may be at once.
        :param count: how many bytes of it; if they are not there any more when it is their
            turn, the connection is broken off.
        :return: :obj:`False` if it must be read and written instead.
        """
        channel = self.channel
        if not (
            self._answers
            and self._encoder is None
            and not self._inFakeHead
            and "write" not in self.__dict__
            and getattr(channel, "takes_files", False)
        ):
            return False
        if not self.startedWriting:
            self.write(b"")
        if not self.startedWriting or self.chunked or not channel.takes_files:
            # The response waits for something; or the file would need to be framed.
            return False
        channel.write_file(FileChunk(os.dup(file.fileno()), offset, count))
        self.sentLength += count
        return True

    @override
    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            producer = file_body(self, producer) or producer
        super().registerProducer(producer, streaming)

    @override
    def processingFailed(self, reason: Failure) -> Failure:
        if self._disconnected and reason.check(RequestError):
            # The client's fault, and answered: a form that it sent.
            return reason
        ours = self._ours or hasattr(self._connection(), "context")  # a stream of HTTP/2
        if not ours or not (self.startedWriting or self.finished or self._disconnected):
            failure: Failure = super().processingFailed(reason)
            return failure
        self._log.failure("", event="application.failed", failure=reason)
        if not self.finished and not self._disconnected:
            # Half a response is out.  The client must not take it for a whole one, so
            # it gets no proper end.
            self.channel.abortConnection()
        return reason


def make_request(factory: Any, channel: Any, fields: FieldBlock) -> Any:
    """
    Make a request for a head that has come, of a class that is not ours.
    """
    if INonQueuedRequestFactory.providedBy(factory):
        request = factory(channel)
    else:
        request = factory(channel, False)
    adopt = getattr(request, "adopt", None)
    if adopt is None:
        for name, value in fields.pairs:
            request.requestHeaders.addRawHeader(name, value)
        request.parseCookies()
    else:
        adopt(fields)
    if not fields.length:
        request.gotLength(0)
    return request

"""
What every request of ours has, whoever processes it.

It is a :class:`twisted.web.http.Request` in all that it does, but headers, cookies,
arguments, addresses and content become objects when they are asked for, and a response with
a simple head never meets a ``Headers`` object.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, AnyStr
from weakref import finalize

from twisted.python import threadable
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, OK, RESPONSES, Request, parse_qs
from twisted.web.http_headers import Headers
from typing_extensions import override

from stickyd.serve.http.event_stream import is_event_stream
from stickyd.serve.http.forms import is_form, read_form
from stickyd.serve.http.head import HTTP_1_1, RequestError
from stickyd.serve.http.lazy import Lazy
from stickyd.serve.http.limits import HTTPLimits

if TYPE_CHECKING:
    from stickyd.serve.http.head import FieldBlock

_OK_MESSAGE = RESPONSES[OK]
_UNASKED = object()

# Response fields that stand in every head, or frame it: with one of them set by the
# application the head is not simple.
_SPECIAL = frozenset([b"Server", b"Date", b"Connection", b"Transfer-Encoding"])


@lru_cache(maxsize=1024)
def canonical(name: str | bytes) -> bytes:
    """
    Spell a field name as twisted.web does.

    :raise twisted.web.http_headers.InvalidHeaderName: if it is none.
    """
    headers = Headers()
    headers.setRawHeaders(name, [b""])
    return next(headers.getAllRawHeaders())[0]


def _request_headers(request: LazyRequest) -> Headers:
    headers = Headers()
    block = request._block
    if block is not None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in block.pairs:
            values.setdefault(name, []).append(value)
        for name, several in values.items():
            headers.setRawHeaders(name, several)
    return headers


def _response_headers(request: LazyRequest) -> Headers:
    headers = Headers()
    if request._stamped:
        context = request._connection().context
        headers.setRawHeaders(b"Server", [context.server])
        headers.setRawHeaders(b"Date", [context.date()])
    if request._simple:
        for name, value in request._simple.items():
            headers.setRawHeaders(name, [value])
        request._simple = None
    return headers


def _received_cookies(request: LazyRequest) -> dict[bytes, bytes]:
    cookies: dict[bytes, bytes] = {}
    block = request._block
    if block is not None:
        for name, value in block.pairs:
            if name == b"cookie":
                for cookie in value.split(b";"):
                    key, equals, content = cookie.lstrip().partition(b"=")
                    if equals:
                        cookies[key] = content
    return cookies


def _args(request: LazyRequest) -> dict[bytes, list[bytes]]:
    query = request.uri.partition(b"?")[2]
    args: dict[bytes, list[bytes]] = parse_qs(query, 1) if query else {}
    if request._has_form():
        args.update(request._read_form())
    return args


class LazyRequest(Request):
    """
    A request that does only the work that is asked for.
    """

    channel: Any
    requestHeaders = Lazy(_request_headers)  # noqa: N815 - Twisted's name
    responseHeaders = Lazy(_response_headers)  # noqa: N815 - Twisted's name
    received_cookies = Lazy(_received_cookies)
    args = Lazy(_args)
    cookies = Lazy(lambda request: [])
    notifications = Lazy(lambda request: [])
    content = Lazy(lambda request: BytesIO())
    client = Lazy(lambda request: request._connection().getPeer())
    host = Lazy(lambda request: request._connection().getHost())
    transport = Lazy(lambda request: request._connection().transport)

    defaultContentType: bytes | None = None  # noqa: N815 - Twisted's name
    queued: Any = False
    _parsePOSTFormSubmission = True  # noqa: N815 - Twisted's name
    _block: FieldBlock | None = None
    _ours = False  # whether the channel is one of ours
    _stamped = False  # whether the response gets Server and Date
    _simple: dict[bytes, bytes] | None = None  # response fields until there are Headers
    _form: BytesIO | None = None  # a form that outlives the response, for those who ask late
    _former: Any = None  # the channel, after the request has let go of it

    def __init__(
        self,
        channel: Any,
        queued: object = _UNASKED,
        parsePOSTFormSubmission: bool | None = None,  # noqa: N803 - Twisted's name
    ) -> None:
        self.channel = channel
        if queued is not _UNASKED:
            self.queued = queued
        if parsePOSTFormSubmission is not None:
            self._parsePOSTFormSubmission = parsePOSTFormSubmission

    def adopt(self, block: FieldBlock) -> None:
        """
        Called by our channel, which thereby says that it is ours, with the fields.
        """
        self._block = block
        self._ours = True

    def _connection(self) -> Any:
        return self.__dict__.get("channel") or self._former

    # Called by the channel

    @override
    def gotLength(self, length: int | None) -> None:
        channel = self._connection()
        if hasattr(channel, "context") and not hasattr(channel.site, "getContentFile"):
            # Twisted makes a file of what is not known to be small.  Ours grows as it comes.
            self.content = BytesIO()
        else:
            super().gotLength(length)

    @override
    def handleContentChunk(self, data: bytes) -> None:
        context = getattr(self._connection(), "context", None)
        if context is None:
            super().handleContentChunk(data)
        else:
            self.content = context.spool.append(self.content, data)

    @override
    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if "content" in self.__dict__:
            self.content.seek(0)
        self.method = command
        self.uri = path
        self.clientproto = version
        mark = path.find(b"?")
        self.path = path if mark < 0 else path[:mark]
        self.process()

    def upgraded(self) -> None:
        """
        Called when another protocol has the connection: that was the answer.
        """

    @override
    def connectionLost(self, reason: Failure) -> None:
        self._disconnected = True
        self._former = self.__dict__.get("channel")
        self.channel = None
        content = self.__dict__.get("content")
        if content is not None:
            if self._has_form():
                # The application may ask for it yet, as it may for everything else.
                finalize(self, content.close)
            else:
                content.close()
        for waiting in self.__dict__.pop("notifications", ()):
            waiting.errback(reason)

    # Forms

    def _has_form(self) -> bool:
        """
        Tell whether the body is a form that was not asked for yet.
        """
        known = self.__dict__
        return (
            self.method == b"POST"
            and "args" not in known
            and ("content" in known or self._form is not None or bool(self.finished))
            and self._parsePOSTFormSubmission
            and is_form(self.getHeader(b"content-type") or b"")
        )

    def _read_form(self) -> dict[bytes, list[bytes]]:
        """
        Read the form, now that it is asked for.

        :raises RequestError: if it is refused.  The client has its answer then.
        :raises RuntimeError: if it is too late: the response is finished, and the file
            that the form was in is closed.
        """
        content = self.__dict__.get("content", self._form)
        if content is None:
            raise RuntimeError(
                "The form is gone with the response: ask for request.args before it is finished."
            )
        context = getattr(self._connection(), "context", None)
        limits = HTTPLimits() if context is None else context.limits
        try:
            return read_form(content, self.getHeader(b"content-type") or b"", limits)
        except RequestError as error:
            if error.status == 413:
                self._log.warn(
                    "{method} {path} is refused: {why}",
                    event="request.refused",
                    method=self.method.decode("ascii", "replace"),
                    path=self.path.decode("ascii", "replace"),
                    why=error,
                )
            loop: Any = threadable.ioThread
            if context is None or loop in (None, threadable.getThreadID()):
                self._refuse(error)
            else:
                # Applications ask in threads, too.
                context.clock.callFromThread(self._refuse, error)
            raise

    def _refuse(self, error: RequestError) -> None:
        """
        Answer with the error's status, unless an answer has begun.
        """
        channel = self.__dict__.get("channel")
        if channel is None or self.startedWriting or self.finished or self._disconnected:
            return
        if hasattr(channel, "refuse"):
            channel.refuse(error)
        else:
            channel._respondToBadRequestAndDisconnect()

    @property
    def streams_events(self) -> bool:
        """
        Whether the response has begun and is an event stream, which does not end by itself.
        """
        if not self.startedWriting or self.finished:
            return False
        if "responseHeaders" in self.__dict__:
            kinds = self.responseHeaders.getRawHeaders(b"content-type", [b""])
        else:
            kinds = [(self._simple or {}).get(b"Content-Type", b"")]
        return is_event_stream(kinds[-1])

    # Called by the application

    @override
    def getClientAddress(self) -> Any:
        # As ``client``, but most ask once only, and in this way.
        known = self.__dict__
        if "client" not in known:
            known["client"] = self._connection().getPeer()
        return known["client"]

    @override
    def getHeader(self, key: AnyStr) -> AnyStr | None:
        if self._block is None or "requestHeaders" in self.__dict__:
            return super().getHeader(key)
        value: AnyStr | None = self._find(key)
        return value

    def _find(self, key: Any) -> Any:
        name = key.lower()
        if isinstance(name, str):
            name = name.encode("iso-8859-1")
        for known, value in reversed(self._block.pairs if self._block else ()):
            if known == name:
                return value.decode() if isinstance(key, str) else value
        return None

    @override
    def setHeader(self, name: str | bytes, value: str | bytes) -> None:
        if self._ours and "responseHeaders" not in self.__dict__:
            name = canonical(name)
            if isinstance(value, str):
                value = value.encode()
            if name not in _SPECIAL and type(value) is bytes:
                if b"\n" in value or b"\r" in value:
                    value = b" ".join(value.splitlines())
                if self._simple is None:
                    self._simple = {}
                self._simple[name] = value
                return
        self.responseHeaders.setRawHeaders(name, [value])

    @override
    def write(self, data: bytes) -> None:
        if self.startedWriting or not self._has_simple_head():
            super().write(data)
            return
        if self.method == b"HEAD" or self.code in NO_BODY_CODES:
            super().write(data)
            return
        channel = self.channel
        head = self._make_head(None)
        size = len(data)
        self.sentLength = size
        if not size:
            channel.write(head)
        elif self.chunked:
            channel.write(b"%b%x\r\n%b\r\n" % (head, size, data))
        else:
            channel.write(head + data)

    # The response head

    def _has_simple_head(self) -> bool:
        """
        Tell whether :meth:`_make_head` can make the response's head.
        """
        if not self._ours or self.finished or self._disconnected:
            return False
        known = self.__dict__
        return not (
            "responseHeaders" in known
            or known.get("cookies")
            or self.etag is not None
            or self.lastModified is not None
        )

    def _make_head(self, length: int | None) -> bytes:
        """
        Begin the response, of this length if it is known.
        """
        self.startedWriting = 1
        channel = self.channel
        version = self.clientproto
        stamped = self._stamped
        if self.code_message is _OK_MESSAGE and stamped and self.code == OK and version == HTTP_1_1:
            head: bytes = channel.context.success()
        else:
            reason = b" ".join(self.code_message.splitlines())
            head = b"%b %d %b\r\n" % (version, self.code, reason)
            if stamped:
                head += channel.context.common()
        simple = self._simple
        typed = not stamped
        empty = length == 0
        exchange = channel.exchange
        if simple is not None:
            if length is not None:
                simple.pop(b"Content-Length", None)
            elif b"Content-Length" in simple:
                length = -1  # it stands there
                empty = simple[b"Content-Length"] == b"0"
            typed = typed or b"Content-Type" in simple
            if exchange is None:
                for pair in simple.items():
                    head += b"%b: %b\r\n" % pair
        if exchange is not None:
            for pair in channel.respond([] if simple is None else simple.items()):
                head += b"%b: %b\r\n" % pair
        if length is None:
            if version == HTTP_1_1:
                self.chunked = 1
                head += b"Transfer-Encoding: chunked\r\n"
        elif length >= 0:
            head += b"Content-Length: %d\r\n" % length
        if not (typed or empty) and self.defaultContentType is not None:
            head += b"Content-Type: %b\r\n" % self.defaultContentType
        if not channel.persistent and version == HTTP_1_1:
            head += b"Connection: close\r\n"
        return head + b"\r\n"

    @override
    def _cleanup(self) -> None:
        if self.producer:
            self._log.failure(
                "",
                Failure(RuntimeError(f"Producer was not unregistered for {self.uri!r}")),
                event="application.failed",
            )
            self.unregisterProducer()
        known = self.__dict__
        content = known.pop("content", None)
        if content is not None:
            if type(content) is BytesIO and self._has_form():
                self._form = content
            else:
                content.close()
        self._former = channel = known.pop("channel")
        channel.requestDone(self)
        for waiting in known.pop("notifications", ()):
            waiting.callback(None)

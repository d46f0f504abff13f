"""
A request to a WSGI application, as its connection sees it.

It is what a channel of HTTP/1.1 or a stream of HTTP/2 makes for each request (Twisted's
names), and what the application's thread puts its response into.

It is one class, though a long one, because the connection and the thread each ask it by name,
and whichever of them ends the request must find the state of the other.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.web.http_headers import Headers

from stickyd.affinity.client_identity import IDENTITY, KNOWN, note_client
from stickyd.net.file_chunk import FileChunk
from stickyd.net.temporary_folder import temporary_folder
from stickyd.serve.http.event_stream import is_event_stream
from stickyd.serve.http.head import HTTP_1_0, RequestError
from stickyd.serve.wsgi.body import Body
from stickyd.serve.wsgi.call import BROKEN, LAST, MORE, ApplicationCall
from stickyd.serve.wsgi.environ import add_ends, add_request_line
from stickyd.serve.wsgi.head_text import http1_head, http2_fields
from stickyd.serve.wsgi.interim import EarlyHints, read_hints, write_continue, write_hints
from stickyd.serve.wsgi.pieces import Pieces
from stickyd.serve.wsgi.pieces_writer import JOINED_BYTES, PiecesWriter
from stickyd.serve.wsgi.response import failure_head
from stickyd.serve.wsgi.websocket_request import WebSocketRequest, asks_for_websocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.serve.http.head import FieldBlock
    from stickyd.serve.wsgi.backend import Backend
    from stickyd.serve.wsgi.response import ResponseHead


class WsgiRequest:
    """
    One request and its response.

    :ivar startedWriting: whether the response has begun.
    :ivar gone: whether the client has left before the response was whole.
    :ivar lent: whether the application has the connection itself.
    """

    _log = Logger()

    startedWriting = False  # noqa: N815 - Twisted's name
    sentLength = 0  # noqa: N815 - Twisted's name
    code = 0
    method = uri = clientproto = b""
    gone = False
    lent = False

    _block: FieldBlock | None = None
    _headers: Headers | None = None
    _length: int | None = 0  # of the body, if it is known
    _body: Body | None = None
    _begun = False  # the application was called, or is to be
    _websocket: WebSocketRequest | None = None
    _expected = False  # the client waits until it is told to send the body
    _early = False  # the application runs, or is to run, before the body is whole
    _received = False
    chunked = False  # the body is written in chunks
    _framed = False  # in HTTP/1, and the client can tell where the response ends
    _whole: tuple[ResponseHead, bytes] | None = None  # the response, if it is one piece
    _file: FileChunk | None = None  # its body, if that is no bytes
    _pieces: Pieces | None = None  # else its pieces
    _writer: PiecesWriter | None = None  # and what writes them
    _posted = False
    _response_head: ResponseHead | None = None  # once it is written

    def __init__(self, channel: Any, backend: Backend) -> None:
        self.channel: Any = channel
        self._backend = backend

    # Called by the channel.

    def adopt(self, block: FieldBlock) -> None:
        """
        Get the fields.
        """
        self._block = block

    @property
    def requestHeaders(self) -> Headers:  # noqa: N802 - Twisted's name
        """
        Where HTTP/2 puts the fields.
        """
        if self._headers is None:
            self._headers = Headers()
        return self._headers

    def parseCookies(self) -> None:  # noqa: N802 - Twisted's name
        """
        The application does that.
        """

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        """
        Learn how long the body is; :obj:`None` if it says itself where it ends.
        """
        self._length = length
        if length != 0:
            self._body = Body(self._hold, self._want, self._backend.spills)
            if length is not None:
                # Of the others the application could not tell where they end.
                self._backend.incomplete.add(self)

    def continue_expected(self) -> bool:
        """
        Learn that the client sends the body when it is told to: that is when the application
        reads it, unless all threads that may wait for bodies do.

        :return: :obj:`False` if it is to be told at once.
        """
        body = self._body
        # Without a length the application is called when the body is whole.
        if body is None or self._length is None or self._backend.uploads.full:
            return False
        body.await_reader()
        self._expected = True
        self.channel.hold_body()
        # Not from within: it may be answered at once.
        self._backend.readiness.call_soon(self._begin_expected)
        return True

    def _begin_expected(self) -> None:
        self.begin_early()
        if not self._early:
            self._resume_body()  # another one was quicker

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """
        Get a piece of the body.

        :raises RequestError: 503 if there is no room for it.
        """
        body = self._body
        if body is None:
            body = self._body = Body(self._hold, self._want, self._backend.spills)
        try:
            body.feed(data)
            if body.large:
                if self._length is not None:
                    self.begin_early()
                if not self._early:
                    body.spill()
        except OSError as problem:
            self._log.warn(
                "A request's body is refused, as it cannot be kept in {folder}: {problem}",
                event="request.body-not-kept",
                folder=temporary_folder(),
                problem=problem.strerror or problem,
            )
            raise RequestError(503, "no room for a body") from problem

    def requestReceived(self, method: bytes, target: bytes, version: bytes) -> None:  # noqa: N802 - Twisted's name
        """
        Learn that the request is whole.
        """
        self._received = True
        if self._body is not None:
            self._body.finish()
        if not self._begun and self.channel is not None:
            self._begin(method, target, version)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """
        Learn that the client has left.
        """
        self.gone = True
        self._let_go()
        if self._body is not None:
            self._body.lose()
        if not self._begun and self._body is not None:
            self._body.close()

    def _let_go(self) -> None:
        """
        Forget the channel.
        """
        self.channel = None
        self._writer = None  # which refers to us
        if self._pieces is not None:
            self._pieces.close()

    # Beginning.

    def _message(self) -> tuple[bytes, bytes, bytes]:
        message: tuple[bytes, bytes, bytes] = self.channel.message
        return message

    def be_watched(self) -> None:
        """
        Have the client watched: it may leave while it waits.
        """
        if self.channel is not None:
            self.channel.watch()

    def begin_early(self) -> None:
        """
        Call the application before the body is whole, if threads may wait for bodies.
        """
        if self._early or self._received or self.channel is None:
            return
        if self._backend.uploads.enter(self):
            self.begin_upload()

    def begin_upload(self) -> bool:
        """
        Be called early after all, as another one has ended.

        :return: whether it still makes sense.
        """
        if self._received or self.channel is None:
            return False
        self._early = True
        self._begin(*self._message())
        return True

    def _begin(self, method: bytes, target: bytes, version: bytes) -> None:
        self.method = method
        self.uri = target
        self.clientproto = version
        backend = self._backend
        if target == b"*":
            self._answer(405 if method != b"OPTIONS" else 204)
            return
        environ = self._make_environ()
        body = self._body
        # An empty one costs less to make than to share: an application may close it.
        environ["wsgi.input"] = backend.no_body() if body is None else body.open()
        environ["wsgi.early_hints"] = self.send_early_hints
        call = ApplicationCall(backend.application, environ, self)
        if "HTTP_UPGRADE" in environ and self._block is not None and asks_for_websocket(environ):
            if not backend.websockets.enter():
                backend.note_no_websocket()
                self._answer(503, Retry_After="1")
                return
            self._websocket = WebSocketRequest(
                backend,
                call,
                self.channel.context.limits.stall,
                lambda: self.channel,
                self._lend,
                self._websocket_log(),
            )
            environ["werkzeug.socket"] = self._websocket.socket
        if backend.threads.submit(call):
            self._begun = True
            backend.watch.wake()
            if self._received and self._block is not None and self.channel.rest():
                backend.unwatched.add(self)
        else:
            if self._websocket is not None:
                backend.websockets.leave()
            backend.note_full()
            self._answer(503, Retry_After="1")

    def _lend(self) -> None:
        """
        Leave the connection to the application.
        """
        self.lent = True
        self.channel = None

    def _websocket_log(self) -> Callable[[], object] | None:
        log = self.channel.factory.access_log
        if log is None:
            return None
        host = getattr(self.channel.getPeer(), "host", "")
        about = (
            self.getHeader(b"referer"),
            self.getHeader(b"user-agent"),
            getattr(self, "begun_ns", 0),
            getattr(self.channel, "handoff", None),
        )
        return partial(log.write, host, self.method, self.uri, self.clientproto, 101, 0, *about)

    def _make_environ(self) -> dict[str, Any]:
        channel = self.channel
        block = self._block
        if block is not None:
            environ = self._backend.environs.begin(block.raw, block.pairs)
        else:
            environ = self._backend.environs.begin(b"", self._fields())
        add_request_line(environ, self.method, self.uri, self.clientproto)
        add_ends(environ, channel.isSecure(), channel.getPeer(), channel.getHost())
        if self._body is not None and self._length is None:
            # It was chunked, and is not any more (RFC 9112, 7.1.3).
            environ["CONTENT_LENGTH"] = str(self._body.size)
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        handoff = channel.handoff
        if handoff is not None:
            environ[IDENTITY] = handoff.identity
            note_client(environ, handoff)
            environ[KNOWN] = getattr(channel, "names_our_slot", False)
        return environ

    def _fields(self) -> list[tuple[bytes, bytes]]:
        if self._block is not None:
            return self._block.pairs
        headers = self._headers
        if headers is None:
            return []
        return [
            (name.lower(), value) for name, values in headers.getAllRawHeaders() for value in values
        ]

    # The body, held back.

    def _hold(self) -> None:
        if self.channel is not None:
            self.channel.hold_body()

    def _want(self) -> None:
        # In the application's thread.
        self._backend.call_from_thread(self._resume_body)

    def _resume_body(self) -> None:
        channel = self.channel
        if channel is None or self._received:
            return
        if self._expected:
            self._expected = False
            if not self.startedWriting:
                write_continue(channel, self._block is not None)
        channel.want_body()

    @property
    def read_at(self) -> float:
        """
        When the application last got some of the body; see :class:`Body`.
        """
        body = self._body
        return 0.0 if body is None else body.read_at

    # Called in the application's thread.

    def send_early_hints(self, headers: list[tuple[str, str]]) -> None:
        """
        Tell the client what it will need, before the response (RFC 8297): what applications
        find as ``wsgi.early_hints``.

        It does nothing for clients of HTTP/1.0, which know of no such thing, and if the
        response has begun.

        :raises TypeError: if something is no text, or no pair.
        :raises ValueError: if a text cannot stand where it should.
        """
        hints = read_hints(headers)
        if self.clientproto != HTTP_1_0:
            self._backend.responses.put(EarlyHints(hints, self._write_hints))
            self._backend.responses.wake()

    def put(self, head: ResponseHead | None, piece: bytes, kind: int) -> None:
        """
        Have a piece of the response written.
        """
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = Pieces()
            if self.channel is None:
                pieces.close()  # The client has left before the loop could see them.
        pieces.put(head, piece, kind)
        if not self._posted:
            self._posted = True
            self._backend.responses.put(self)
        if kind == MORE:
            # Whoever makes the next piece may take its time.
            self._backend.responses.wake()

    def put_whole(self, head: ResponseHead, body: bytes) -> None:
        """
        Have a whole response written.
        """
        self._whole = head, body
        self._backend.responses.put(self)

    @property
    def takes_files(self) -> bool:
        """
        Whether :meth:`put_file` may be called: over HTTP/1.1 without TLS.
        """
        channel = self.channel
        return self._block is not None and channel is not None and channel.takes_files

    def put_file(self, head: ResponseHead, descriptor: int, offset: int, count: int) -> None:
        """
        Have a part of a file written as the whole body.
        """
        files = self._backend.files
        files.take()
        self._file = FileChunk(descriptor, offset, count, files.free)
        self.put_whole(head, b"")

    def wait_for_room(self) -> None:
        """
        Wait until the client has taken enough of what was put, or has left.
        """
        if self._pieces is not None:
            self._pieces.wait_for_room()

    def ended(self) -> None:
        """
        Learn that the application has returned, and was closed.
        """
        errors = self._backend.errors
        if errors.begun:
            errors.flush()
        body, self._body = self._body, None  # which refers to us
        if body is not None:
            body.close()
        if self._early:
            self._backend.call_from_thread(self._backend.uploads.leave)
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            self._backend.call_from_thread(websocket.finish)

    # The response, in the loop.

    def _write_hints(self, hints: ResponseHead) -> None:
        if self.channel is not None and not self.startedWriting:
            write_hints(self.channel, self._block is not None, hints)

    def deliver(self) -> None:
        """
        Write what the thread has put.
        """
        self._posted = False
        channel = self.channel
        if channel is None:
            if self._file is not None:
                self._file.close()
        elif self._whole is not None:
            if self._block is None:
                self._answer_whole(*self._whole)
            else:
                channel.answer(partial(self._answer_whole, *self._whole))
        elif self._pieces is not None:
            writer = self._writer
            if writer is None:
                writer = self._writer = PiecesWriter(
                    self._pieces, channel, self._begin_response, self._complete
                )
            writer.deliver()

    def _answer_whole(self, head: ResponseHead, body: bytes) -> None:
        channel = self.channel
        if not self._received and self._block is not None:
            # Nobody wants the rest of the body: the connection is closed, which is said.
            channel.persistent = False
        if self._file is not None:
            file, self._file = self._file, None
            size = len(file)  # which is less as soon as some is sent
            channel.write(self._begin_response(head, size)[0])
            channel.write_file(file)
            self._complete(LAST, size)
            return
        text, _, silent = self._begin_response(head, len(body))
        size = 0 if silent else len(body)
        if 0 < size <= JOINED_BYTES:
            text += body
        channel.write(text)
        if size > JOINED_BYTES:
            channel.write(body)
        self._complete(LAST, size)

    def _complete(self, kind: int, sent_bytes: int) -> None:
        """
        End the response.

        :param kind: of its last piece.
        """
        self.sentLength = sent_bytes
        channel = self.channel
        if channel.factory.access_log is not None:
            channel.factory.log(self)
        self._let_go()
        body = self._body
        if body is not None and not self._received:
            body.lose()  # The channel passes no more on of a request that is done.
        if kind == BROKEN:
            # The client must not take it for a whole response.  Where it would see that by
            # itself, it gets what there is, and no reset.
            if self._framed and self._received:
                channel.loseConnection()
            else:
                channel.abortConnection()
        else:
            channel.requestDone(self)

    def _begin_response(self, head: ResponseHead, whole: int | None) -> tuple[bytes, bool, bool]:
        """
        Write the head; see :data:`stickyd.serve.wsgi.pieces_writer.Begin`.
        """
        self.startedWriting = True
        self._response_head = head
        self.code = head.status
        silent = head.bodiless or self.method == b"HEAD"
        channel = self.channel
        version = self.clientproto
        if self._block is None:
            fields = http2_fields(head, channel.context, whole, silent)
            channel.writeHeaders(version, b"%d" % head.status, head.reason, fields)
            return b"", False, silent
        text, self.chunked = http1_head(head, version, channel, whole, silent)
        self._framed = self.chunked or head.length is not None
        return text, self.chunked, silent

    def _answer(self, status: int, **more: str) -> None:
        """
        Answer without the application.
        """
        if self.channel is None or self._begun:
            return
        self.method, self.uri, self.clientproto = self._message()
        head, text = failure_head(status, **more)
        if self._body is not None:
            self._body.close()
        self._answer_whole(head, text)

    # For the access log.

    @property
    def streams_events(self) -> bool:
        """
        Whether the response has begun and is an event stream, which does not end by itself.
        """
        fields = () if self._response_head is None else self._response_head.fields
        return any(name.lower() == b"content-type" and is_event_stream(v) for name, v in fields)

    def getClientAddress(self) -> Any:  # noqa: N802 - Twisted's name
        """
        Give the client's address.
        """
        return self.channel.getPeer()

    def getHeader(self, key: bytes) -> bytes | None:  # noqa: N802 - Twisted's name
        """
        Give the last of the fields of a name in lower case.
        """
        return next((value for name, value in reversed([*self._fields()]) if name == key), None)

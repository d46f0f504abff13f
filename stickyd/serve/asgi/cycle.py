"""
One request and its response: uvicorn's reading, and writing of our own, which has nobody
guess where a response ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from typing import TYPE_CHECKING, Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from stickyd.net.file_chunk import FileChunk
from stickyd.serve.asgi.response_start import ResponseStart, read_bytes
from stickyd.serve.http.event_stream import is_event_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.asgi.flow import Flow

#: What the status line of a response begins with.
BEGIN = b"HTTP/1.1 "

#: What is answered for an application that fails before it has answered.
_FAILURE_TEXT = b"Internal Server Error"
_FAILURE = {
    "type": "http.response.start",
    "status": 500,
    "headers": [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(_FAILURE_TEXT)),
        (b"connection", b"close"),
    ],
}

#: A body that is copied behind its head rather than written by itself.
_COPIED_BYTES = 16384

#: An ASGI extension: the message that names a file, which is the body.
PATHSEND = "http.response.pathsend"

#: How it is opened: what is no regular file is found out, not waited for.
_OPENED = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

#: What is told of an application that we have ended.
_silent = logging.Logger("ended", logging.CRITICAL + 1)


class Cycle(RequestResponseCycle):
    """
    A request and its response.

    What it begins with stands in the class, so that nothing is done for what nobody changes.

    :ivar task: the application's call.
    :ivar status: of the response, once that has begun; 0 before.
    :ivar begun_ns: when the request was counted; 0 once its end was.
    :ivar heard: whether there is something that the application has not received.
    :ivar body: what has come of the request's and was not received by the application.
    """

    task: asyncio.Task[None] | None = None
    status = 0
    begun_ns = 0
    heard = False
    logger = logging.getLogger("uvicorn.error")
    disconnected = False
    body = b""  # type: ignore[assignment]  # so a piece that comes alone is not copied
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding = False
    expected_content_length = 0
    _fields: Any = ()  # of the response
    _head = b""  # what of it is not written yet
    _receiving: asyncio.Event | None = None  # set when there is; made when somebody waits for it
    _bodiless = False  # the response has no body, whatever the application sends
    _ends_with_connection = False  # the body of a response to HTTP/1.0 without a length

    def __init__(
        self,
        scope: Any,
        transport: Any,
        flow: Flow,
        stock_fields: bytes,
        expects: bool,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        """
        :param stock_fields: what stands in every head, as text.
        :param expects: the client waits for ``100 Continue`` before it sends its body.
        :param on_response: called when the response is complete.
        """
        # Not uvicorn's, which sets twice as much, and what the class has.
        self.scope = scope
        self.transport = transport
        self.flow = flow
        self.on_response = on_response
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects
        self._stock_fields = stock_fields

    @override
    async def run_asgi(self, app: Any) -> None:
        """
        Call the application, and see to it that its response ends.
        """
        try:
            result = await app(self.scope, self.receive, self.send)
        except BaseException as problem:
            self.logger.error("Exception in ASGI application\n", exc_info=problem)
            self._break_off()
        else:
            if result is not None:
                self.logger.error("ASGI callable should return None, but returned '%s'.", result)
            elif self.disconnected or self.response_complete:
                return
            elif self.response_started:
                self.logger.error("ASGI callable returned without completing response.")
            else:
                self.logger.error("ASGI callable returned without starting response.")
            self._break_off()
        finally:
            self.on_response = lambda: None

    def _break_off(self) -> None:
        """
        End a response that the application will not end.  One that is complete already has
        nothing to do any more with the connection, on which the next may be under way.
        """
        if self.disconnected or self.response_complete:
            return
        if not self.response_started:
            self._begin(_FAILURE)
            self._continue({"type": "http.response.body", "body": _FAILURE_TEXT})
            return
        self._write_head()
        if self._ends_with_connection:
            # A mere end would be that of the body.  One of TLS is not mere.
            getattr(self.transport, "reset", self.transport.abort)()
        else:
            self.transport.close()

    @override
    async def receive(self) -> Any:
        """
        Receive a part of the request, or that it is over; see the ASGI specification.
        """
        # As uvicorn's, whose event each request would have, though most have no body to wait for.
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self.heard:
                event = self._receiving
                if event is None:
                    event = self._receiving = asyncio.Event()
                await event.wait()
                event.clear()
            self.heard = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def wake(self) -> None:
        """
        Have the application receive what there is.
        """
        self.heard = True
        if self._receiving is not None:
            self._receiving.set()

    @override
    async def send(self, message: Any) -> None:
        """
        Send a part of the response; see the ASGI specification.

        :raises RuntimeError: if it is not what comes next.
        :raises ValueError: if something in it cannot be sent.
        :raises TypeError: the same.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            # Whoever sends without end would else never let anybody else run.
            await asyncio.sleep(0)
            return
        if not self.response_started:
            self._begin(message)
        elif not self.response_complete:
            self._continue(message)
        else:
            raise RuntimeError(
                f"Unexpected ASGI message '{message['type']}' sent, after response already"
                " completed."
            )

    def _begin(self, message: Any) -> None:
        """
        Write the head, or keep it for the first piece of a body whose length is told, which so
        leaves with it (the ASGI specification has the head of every response wait).  One that
        cannot be written leaves the response unanswered.
        """
        if message["type"] != "http.response.start":
            raise RuntimeError(
                f"Expected ASGI message 'http.response.start', but got '{message['type']}'."
            )
        start = ResponseStart(message)
        self.response_started = True
        self.waiting_for_100_continue = False
        self._fields = start.pairs
        self.status = start.status
        lines = [STATUS_LINE.get(start.status) or start.line, self._stock_fields]
        lines += [b"%b: %b\r\n" % pair for pair in start.pairs]
        self._bodiless = start.status in (204, 304) or self.scope["method"] == "HEAD"
        if start.length is not None:
            self.expected_content_length = start.length
        elif not self._bodiless:
            if self.scope["http_version"] == "1.0":
                # It knows no transfer codings (RFC 9112, 6.1).
                self._ends_with_connection = True
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if start.closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        if start.length is None:
            # It may be a stream, of which a client wants to know that it has begun.
            self._write_head()

    def _write_head(self) -> None:
        head, self._head = self._head, b""
        if head:
            self.transport.write(head)

    def _continue(self, message: Any) -> None:
        """
        Write a piece of the body.
        """
        if message["type"] != "http.response.body":
            if message["type"] == PATHSEND and hasattr(self.transport, "send_file"):
                self._send_path(message["path"])
                return
            raise RuntimeError(
                f"Expected ASGI message 'http.response.body', but got '{message['type']}'."
            )
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = read_bytes(body)
        more = message.get("more_body", False)
        if self._bodiless:
            self._write_head()
        elif self.chunked_encoding:
            if body:
                end = b"\r\n" if more else b"\r\n0\r\n\r\n"
                self.transport.write(b"".join((b"%x\r\n" % len(body), body, end)))
            elif not more:
                self.transport.write(b"0\r\n\r\n")
        else:
            if not self._ends_with_connection:
                if len(body) > self.expected_content_length:
                    raise RuntimeError("Response content longer than Content-Length")
                self.expected_content_length -= len(body)
            if self._head:
                if len(body) <= _COPIED_BYTES:
                    body, self._head = self._head + body, b""
                else:
                    self._write_head()
            if body:
                self.transport.write(body)
            if not more and self.expected_content_length:
                raise RuntimeError("Response content shorter than Content-Length")
        if not more:
            self.response_complete = True
            self.wake()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _send_path(self, path: Any) -> None:
        """
        Have the kernel copy a file: it is the rest of the body.

        Of a file that has grown since its length was told, as much is sent as that says.

        :raises OSError: if it cannot be opened.
        :raises RuntimeError: if it is no regular file, or too short.
        """
        if not self._bodiless:
            descriptor = os.open(path, _OPENED)
            try:
                count = self._file_bytes(descriptor, path)
            except BaseException:
                os.close(descriptor)
                raise
            self._write_head()
            transport: Any = self.transport
            if self.chunked_encoding and count:
                transport.write(b"%x\r\n" % count)
            transport.send_file(FileChunk(descriptor, 0, count))
            if self.chunked_encoding and count:
                transport.write(b"\r\n")
            self.expected_content_length = 0
        self._continue({"type": "http.response.body"})

    def _file_bytes(self, descriptor: int, path: Any) -> int:
        """
        How much of a file is to be sent.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RuntimeError(f"{path} is no regular file")
        if self.chunked_encoding or self._ends_with_connection:
            return status.st_size
        if status.st_size < self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        return self.expected_content_length

    @property
    def is_silent(self) -> bool:
        """
        Whether nothing of the response was written.
        """
        return not self.response_started or bool(self._head)

    @property
    def streams_events(self) -> bool:
        """
        Whether the response has begun and is an event stream, which does not end by itself.
        """
        return self.response_started and any(
            name == b"content-type" and is_event_stream(value) for name, value in self._fields
        )

    def end(self) -> None:
        """
        End the response for the client, and tell the application that the client is gone.
        """
        if self.disconnected or self.response_complete:
            return
        self.disconnected = True
        self.wake()
        if self.flow.write_paused:
            # The end would have to wait for what a client does not take.
            self.transport.abort()
            return
        self._write_head()
        if self.chunked_encoding:
            self.transport.write(b"0\r\n\r\n")
        self.transport.close()

    def cancel(self) -> None:
        """
        Cancel the application's call, if it has not heard that it is over.
        """
        if self.task is not None and not self.task.done():
            self.logger = _silent
            self.task.cancel()

    def probe(self) -> None:
        """
        Send some of what comes next in any case: a client that has left answers with a reset.
        """
        if self.is_silent:
            transport = self.transport
            transport.write(BEGIN)

            def go_on() -> None:
                self.transport = transport

            self.transport = _Rest(transport, go_on)  # type: ignore[assignment]  # enough of one
        elif self.chunked_encoding and self.transport.get_write_buffer_size() == 0:
            self.transport.write(b"0")  # the size of the next chunk may begin so


class _Rest:
    """
    A transport for a response whose first bytes were sent already.
    """

    def __init__(self, transport: Any, written: Callable[[], object]) -> None:
        """
        :param written: called before the next bytes are written: this has done its part.
        """
        self._transport = transport
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """
        Write the rest of it.
        """
        self._written()
        self._transport.write(data[len(BEGIN) :])

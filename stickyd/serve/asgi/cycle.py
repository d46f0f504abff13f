"""
One request and its response: uvicorn's, but for what it leaves open.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from stickyd.serve.http.event_stream import is_event_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

#: What the status line of a response begins with.
BEGIN = b"HTTP/1.1 "

#: What is told of an application that we have ended.
_silent = logging.Logger("ended", logging.CRITICAL + 1)


class Cycle(RequestResponseCycle):
    """
    A request and its response.

    :ivar task: the application's call.
    """

    task: asyncio.Task[None] | None = None
    _fields: Any = ()  # of the response, if they are there to be looked at
    _ends_with_connection = False  # the body of a response to HTTP/1.0 without a length

    def send(self, message: Any) -> Coroutine[Any, Any, None]:
        """
        Send a part of the response; see the ASGI specification.
        """
        if self.disconnected:
            # Whoever sends without end would else never let anybody else run.
            return asyncio.sleep(0)
        if not self.response_started:
            fields = message.get("headers")
            if type(fields) in (list, tuple):
                self._fields = fields
            if self.scope["http_version"] == "1.0" and message["type"] == "http.response.start":
                message = self._frame(message)
        elif self._ends_with_connection:
            # uvicorn counts down what has been announced.
            self.expected_content_length = len(message.get("body", b""))
        return super().send(message)

    def _frame(self, message: Any) -> Any:
        """
        See to it that a client of HTTP/1.0 finds the end of the body: it knows no transfer
        codings (RFC 9112, 6.1).
        """
        fields = [
            pair for pair in message.get("headers", ()) if pair[0].lower() != b"transfer-encoding"
        ]
        if not _has(fields, b"content-length") and message["status"] not in (204, 304):
            self.chunked_encoding = False
            self._ends_with_connection = self.scope["method"] != "HEAD"
        return {**message, "headers": fields}

    @property
    def streams_events(self) -> bool:
        """
        Whether the response has begun and is an event stream, which does not end by itself.
        """
        return self.response_started and any(
            name.lower() == b"content-type" and is_event_stream(value)
            for name, value in self._fields
        )

    def end(self) -> None:
        """
        End the response for the client, and tell the application that the client is gone.
        """
        if self.disconnected or self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if self.flow.write_paused:
            # The end would have to wait for what a client does not take.
            self.transport.abort()
            return
        if self.chunked_encoding and self.scope["method"] != "HEAD":
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
        if not self.response_started:
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


def _has(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> bool:
    return any(pair[0].lower() == name for pair in fields)

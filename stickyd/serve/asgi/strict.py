"""
What ASGI applications are protected from: malformed, endless and oversized requests.

llhttp refuses most of what RFC 9112 forbids, but leaves some of it to its caller, and
uvicorn takes what it gets.  The checks are those of :mod:`stickyd.serve.http.head`, so
that both kinds of hosts agree; nothing is looked at twice that llhttp has seen to.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stickyd.serve.http.head import RequestError, is_host, resolve_target
from stickyd.serve.http.limits import HTTPLimits

if TYPE_CHECKING:
    import asyncio

#: For what the reason phrase says that goes with a refusal.
_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    505: b"HTTP Version Not Supported",
}

#: Seconds that stand for no bound.
FOREVER = 86400.0

_MALFORMED = RequestError(400, "malformed")
_VERSIONS = ("1.1", "1.0")


class StrictProtocol(HttpToolsProtocol):
    """
    One HTTP connection, within bounds.

    :ivar limits: the bounds.
    """

    # None at first, and the parser at the end; uvicorn does not say so.
    transport: Any
    scope: Any
    cycle: Any
    parser: Any

    limits = HTTPLimits()

    _host: bytes | None = None  # the last one that was checked
    _refusal: RequestError | None = None  # nothing is read any more
    _size = 0  # bytes of a head that has come in part
    _reading = 0  # bytes that are being parsed
    _body_left = inf
    _heard = 0.0  # when a piece of a body came last
    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None

    @override
    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        self._reading = len(data)
        former = self.cycle
        between = former is None or not former.more_body
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self._stop_timers()
                    self.handle_websocket_upgrade()
                    return
                # An offer that nobody takes; what follows is an ordinary request.
                data = data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                ours = error.__context__
                self._refuse(ours if isinstance(ours, RequestError) else _MALFORMED)
                return
            break
        cycle = self.cycle
        if cycle is former or cycle.more_body or cycle.scope is not self.scope:
            self._watch(between and cycle is former)

    def _watch(self, same: bool) -> None:
        """
        Keep an eye on what has come in part.

        :param same: whether all that was read just now belongs to one head.
        """
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            if self.scope is not None:
                self._watch_head(same)
            elif self.timeout_keep_alive_task is None:
                # Empty lines, which llhttp skips: no request has begun.
                self._await_request(self.timeout_keep_alive)
        elif cycle.more_body:
            self._heard = self.loop.time()
            if self._body_timer is None and self.limits.body is not None:
                self._body_timer = self.loop.call_later(self.limits.body, self._look_at_body)
        elif cycle.response_complete and self.timeout_keep_alive_task is None:
            self._await_request(self.timeout_keep_alive)

    def _watch_head(self, same: bool) -> None:
        if self._head_timer is None:
            head = self.limits.head
            # Behind another request, what llhttp holds of a field cannot be told.
            self._size = self._reading if same else self._seen()
            self._head_timer = self.loop.call_later(
                FOREVER if head is None else head, self._refuse, RequestError(408, "too slow")
            )
        else:
            self._size += self._reading
        if self._size > self.limits.head_bytes:
            self._refuse(RequestError(431, "head too large"))

    def _await_request(self, seconds: float) -> None:
        """
        Close the connection if no request has begun by then.
        """
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _seen(self) -> int:
        """
        How many bytes of the head llhttp has told.
        """
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _look_at_body(self) -> None:
        self._body_timer = None
        cycle, limit = self.cycle, self.limits.body
        if limit is None or not cycle.more_body:
            return
        now = self.loop.time()
        if self.flow.read_paused:
            # It is the application that takes its time.
            self._heard = now
        left = self._heard + limit - now
        if left > 0:
            self._body_timer = self.loop.call_later(left, self._look_at_body)
        else:
            self._refuse(RequestError(408, "too slow"))

    def _stop_timers(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn leaves the timer of a connection that was reset, and all that hangs on it.
        self._unset_keepalive_if_required()
        self._stop_timers()
        super().connection_lost(exc)

    # Called by llhttp.  What is raised here is the context of the error that it raises.

    @override
    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            raise RequestError(414, "target too long")

    @override
    def on_headers_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        limits, headers = self.limits, self.headers
        if self._size + self._reading > limits.head_bytes and self._seen() > limits.head_bytes:
            raise RequestError(431, "head too large")
        self._size = 0
        fields = dict(headers)
        host = fields.get(b"host")
        if (
            host != self._host
            or host is None
            or len(fields) != len(headers)
            or len(headers) > limits.head_fields
            or b"transfer-encoding" in fields
            or b"content-length" in fields
        ):
            self._check(fields)
        if self.parser.get_http_version() not in _VERSIONS:
            raise RequestError(505, "unknown HTTP version")
        if self.url[0] != 47:  # a slash
            self._resolve(self.url)
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._body_left -= len(body)
        if self._body_left < 0:
            raise RequestError(413, "body too large")
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        # Not uvicorn's: it does not say so if the application has answered before.
        cycle = self.cycle
        if cycle is not None:
            cycle.more_body = False
            cycle.message_event.set()

    def _check(self, fields: dict[bytes, bytes]) -> None:
        """
        Check a head that is not as plain as most.
        """
        headers, limits = self.headers, self.limits
        if len(headers) > limits.head_fields:
            raise RequestError(431, "too many fields")
        modern = self.parser.get_http_version() == "1.1"
        hosts = [value.rstrip(b" \t") for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            if hosts or (modern and limits.host_required):
                raise RequestError(400, "no Host, or several")
        elif not is_host(hosts[0]):
            raise RequestError(400, "invalid Host")
        else:
            self._host = fields[b"host"]
        most = limits.body_bytes
        self._body_left = inf if most is None else most
        # llhttp refuses several of these, and both at once.
        if int(fields.get(b"content-length", b"0")) > self._body_left:
            raise RequestError(413, "body too large")
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if not modern:
                raise RequestError(400, "Transfer-Encoding in HTTP/1.0")
            if coding.rstrip(b" \t").lower() != b"chunked":
                raise RequestError(501, "unknown transfer coding")

    def _resolve(self, url: bytes) -> None:
        """
        Put the authority of an absolute target in the place of ``Host`` (RFC 9112, 3.2.2).
        """
        self.url, authority = resolve_target(self.parser.get_method(), url)
        if authority is not None:
            self.headers[:] = [
                (b"host", authority),
                *(pair for pair in self.headers if pair[0] != b"host"),
            ]

    # Refusals.

    def _refuse(self, error: RequestError) -> None:
        """
        Read nothing more, say why if nothing else is being said, and close.
        """
        self._refusal = error
        self._stop_timers()
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._say(error.status)
        elif cycle.scope is not self.scope or not cycle.more_body:
            # The requests before it are answered, and the last one says that it is.
            cycle.keep_alive = False
        else:
            # Its body is broken off.  The application is told that the client is gone.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
            else:
                self._say(error.status)

    def _say(self, status: int) -> None:
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS[status])]
        lines += [b"%b: %b" % pair for pair in self.server_state.default_headers]
        text = b"%d %b\n" % (status, _REASONS[status])
        lines += [
            b"connection: close",
            b"content-type: text/plain",
            b"content-length: %d" % len(text),
        ]
        self.transport.write(b"\r\n".join([*lines, b"", text]))
        self.transport.close()

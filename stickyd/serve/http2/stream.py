# mypy: allow-untyped-calls
# (Twisted's HTTP/2 is not annotated.)
"""
HTTP/2: a stream, which is to its request what a channel is over HTTP/1.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web._http2 import H2Stream
from typing_extensions import override

from stickyd.net.addresses import tcp_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress
    from twisted.web.http_headers import Headers

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.head import RequestError
    from stickyd.serve.stickiness import Exchange


class HTTP2Stream(H2Stream):
    """
    One request and its response.

    :ivar whole: whether the client has sent all of the request, or all that it will.
    :ivar size: how many bytes of the body have come.
    :ivar heard: when the last of them came.
    """

    whole = False
    size = 0
    heard = 0.0
    visit: Exchange | None = None  # until the response has a head
    _client: IAddress | None = None
    _secure: bool | None = None
    _held: list[Callable[[], object]] | None = None  # what the response waits with

    def expect_body(self) -> None:
        """
        Prepare for a body of unknown length, whatever the method: Twisted keeps that of a GET
        in memory, however large.
        """
        if self.command in (b"GET", b"HEAD") and not self._request.getHeader(b"content-length"):
            self._request.gotLength(None)

    def receive(self, visit: Exchange) -> None:
        """
        Show the application what it shall see of its client.
        """
        self.visit = visit
        self._secure = visit.secure
        if visit.client is not None:
            self._client = tcp_address(visit.client, 0)

    @override
    def getPeer(self) -> Any:
        return self._client or super().getPeer()

    @override
    def isSecure(self) -> bool:
        return super().isSecure() if self._secure is None else self._secure

    @override
    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        fields = [(name, v) for name, values in headers.getAllRawHeaders() for v in values]
        visit, self.visit = self.visit, None
        if visit is not None:
            fields = visit.respond(fields)
            if visit.claiming is not None:
                # The client must not learn an id before the primary knows whose it is.
                self._held = []
                visit.claiming.addBoth(self._let_go)
        self._in_turn(lambda: self._conn.writeHeaders(version, code, reason, fields, self.streamID))

    @override
    def write(self, data: bytes) -> None:
        self._in_turn(lambda: super(HTTP2Stream, self).write(data))

    @override
    def requestDone(self, request: Any) -> None:
        self._in_turn(lambda: super(HTTP2Stream, self).requestDone(request))

    @property
    def message(self) -> tuple[bytes, bytes, bytes]:
        """
        Method, target and version of the request.
        """
        return self.command or b"", self.path or b"", b"HTTP/2"

    def hold_body(self) -> None:
        """
        Open the client's window no further for now; called by the request.
        """
        self.pauseProducing()

    def want_body(self) -> None:
        """
        Go on.
        """
        self.resumeProducing()

    def _in_turn(self, act: Callable[[], object]) -> None:
        if self._held is None:
            act()
        else:
            self._held.append(act)

    def _let_go(self, result: object) -> None:
        held, self._held = self._held or [], None
        if self.streamID in self._conn.streams:
            for act in held:
                act()

    def refuse(self, error: RequestError) -> None:
        """
        Called by the request if it cannot be answered after all.
        """
        self._conn._refuse_stream(self, error.status)

    @property
    def came(self) -> Handoff | None:
        """
        The handoff that brought the connection.
        """
        came: Handoff | None = self._conn.came
        return came

    @property
    def shared(self) -> Any:
        """
        What all channels of the worker share.
        """
        return self._conn.shared

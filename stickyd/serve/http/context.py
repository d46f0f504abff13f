"""
What all channels of a worker share.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.server import version

from stickyd.figures.request_counts import RequestCounts
from stickyd.serve.http.deadlines import Deadlines
from stickyd.serve.http.head import FieldBlocks
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.http.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.peek.http1 import Head
    from stickyd.handoff.frame import Handoff
    from stickyd.serve.stickiness import Stickiness

    Take = Callable[[socket, bytes], object]
    Route = Callable[[Head, Handoff], Take | None]


class HTTPContext:
    """
    Limits, the one timer, and the parts of response heads that are the same for a second.

    :ivar clock: for delayed calls.
    :ivar limits: the bounds.
    :ivar deadlines: the timer.
    :ivar counts: where each of them is counted, at its beginning and at its end.
    :ivar route: asked about every request before the application sees it, or
        :obj:`None`.  It is given the head and the handoff that brought the connection,
        and returns :obj:`None` to have it served here, or what takes the connection:
        called with the socket, which it closes from then on, and with the bytes from the
        start of that request's head.
    :ivar spool: where the bodies of requests grow.
    :ivar blocks: parses the fields of heads, and remembers what it has parsed.
    :ivar quiet_until: when the next line about proxies that mix their clients may be logged.
    :ivar stickiness: what is done to requests and responses so that clients find back to
        this worker, or :obj:`None`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limits: HTTPLimits | None = None,
        route: Route | None = None,
        wall_clock: Callable[[], float] = time.time,
        server: bytes = version,
        stickiness: Stickiness | None = None,
        counts: RequestCounts | None = None,
    ) -> None:
        self.counts = RequestCounts() if counts is None else counts
        self.quiet_until = float("-inf")
        self.limits = HTTPLimits() if limits is None else limits
        self.clock = clock
        self.deadlines = Deadlines(clock)
        self.spool = Spool()
        self.route = route
        self.stickiness = stickiness
        self.server = server
        self._wall_clock = wall_clock
        self._second = -1
        self.blocks = FieldBlocks(self.limits)
        self._date = b""
        self._common = b""
        self._success = b""

    def success(self) -> bytes:
        """
        Give the status line of a plain 200, and the fields that every response has.
        """
        if int(self._wall_clock()) != self._second:
            self._renew()
        return self._success

    def common(self) -> bytes:
        """
        Give the fields that every response has, without a status line.
        """
        if int(self._wall_clock()) != self._second:
            self._renew()
        return self._common

    def date(self) -> bytes:
        """
        Give the value of the field ``Date``.
        """
        if int(self._wall_clock()) != self._second:
            self._renew()
        return self._date

    def _renew(self) -> None:
        self._second = int(self._wall_clock())
        self._date = datetimeToString(self._second)
        self._common = b"Server: %b\r\nDate: %b\r\n" % (self.server, self._date)
        self._success = b"HTTP/1.1 200 OK\r\n" + self._common

    def refusal(self, status: int) -> bytes:
        """
        Make the whole response to something that is no valid request.
        """
        reason = RESPONSES.get(status, b"Error")
        text = b"%d %b\n" % (status, reason)
        return (
            b"HTTP/1.1 %d %b\r\n%bConnection: close\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n\r\n%b"
        ) % (status, reason, self.common(), len(text), text)

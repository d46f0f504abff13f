"""
The answer to a connection that cannot be served.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from struct import pack
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.handoff.frame import Flag
from stickyd.interfaces import IRefusal
from stickyd.net.descriptors import REFUSED_SHARE, share_of
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stickyd.handoff.frame import Handoff

#: Seconds for which a refused client may read the answer before its connection is closed.
LINGER_SECONDS = 1.0

#: How many such connections there may be; past it the oldest are closed at once.
MOST_LINGERING = 256

#: Seconds between two lines in the log about the same thing.
QUIET_SECONDS = 1.0

#: RFC 9110, section 15.6.4.  The one answer that the primary can give, as it is the same
#: whatever was asked.
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Retry-After: 1\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 20\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Service unavailable\n"
)

#: Choices of ``--overflow``.
ANSWERS = ("503", "close", "reset")


#: What stands in the reasons that are given, and what it comes down to.
_REASONS = (
    ("no descriptor free", "starved"),
    ("share of the descriptors", "descriptors"),
    ("is full", "queue_full"),
    ("too many connections wait", "queue_full"),
    ("took it within", "queue_timeout"),
    ("has failed", "failed"),
    ("server stops", "stopping"),
)


def reason_of(why: str) -> str:
    """
    Name what a reason for a refusal comes down to: ``queue_full``, ``queue_timeout``,
    ``descriptors``, ``starved``, ``failed`` or ``stopping``; ``other`` for anything else.
    """
    return next((name for part, name in _REASONS if part in why), "other")


@implementer(IRefusal)
class Refusal:
    """
    Answers, counts and closes.

    :ivar answer: what is done, as the constructor takes it.
    :ivar counts: how many connections were refused, by reason.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, answer: str, counts: Counter[str] | None = None
    ) -> None:
        """
        :param answer: ``503`` sends :data:`UNAVAILABLE`; ``close`` closes without a word;
            ``reset`` sends a TCP reset.
        :param counts: where to count; its own by default.
        """
        self._clock = clock
        self.answer = answer
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._lingering: deque[tuple[float, int]] = deque()
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)

    def answer_with(self, answer: str) -> None:
        """
        Answer otherwise from now on.

        :param answer: as the constructor takes it.
        """
        self.answer = answer

    def refuse(self, handoff: Handoff, why: str) -> None:
        self.counts[why] += 1
        if self._throttle.due(why):
            self._log.warn(
                "Connection of {host} refused ({answer}): {why}; {count} so far",
                event="connection.refused",
                host=handoff.host,
                answer=self.answer,
                why=why,
                count=self.counts[why],
            )
        # A socket object for its methods; it owns the descriptor until detach().
        sock = socket.socket(fileno=handoff.descriptor)
        if self.answer == "503" and not handoff.flags & Flag.HTTP2:
            self._apologise(sock)
            return
        if self.answer == "reset":
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            except OSError:
                pass  # gone already, or of a family that cannot be reset
        sock.close()

    def _apologise(self, sock: socket.socket) -> None:
        try:
            sock.send(UNAVAILABLE, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        # To close with the request unread is to send a reset, which may overtake the
        # answer on its way into the client's hands (RFC 9112, section 9.6).
        self._lingering.append((self._clock.seconds() + LINGER_SECONDS, sock.detach()))
        if len(self._lingering) > min(MOST_LINGERING, share_of(REFUSED_SHARE)):
            os.close(self._lingering.popleft()[1])
        if len(self._lingering) == 1:
            self._clock.callLater(LINGER_SECONDS, self._close_lingering)

    def _close_lingering(self) -> None:
        now = self._clock.seconds()
        while self._lingering and self._lingering[0][0] <= now:
            os.close(self._lingering.popleft()[1])
        if self._lingering:
            self._clock.callLater(self._lingering[0][0] - now, self._close_lingering)

"""
Server-sent events (HTML standard, section 9.2).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds that a client may take to read what fills its connection.
STALL_SECONDS = 30.0


@implementer(IPushProducer)
class EventStream:
    """
    One client that listens.

    What it has no room for is left out: each status is followed by a newer one.
    """

    def __init__(self, request: Any, clock: IReactorTime, ended: Callable[[EventStream], object]):
        """
        Begin to answer.

        :param ended: called once when the client has gone.
        """
        self._request = request
        self._clock = clock
        self._ended = ended
        self._full = False
        self._overdue: IDelayedCall | None = None
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        request.notifyFinish().addBoth(self._over)
        request.write(b"retry: 2000\n\n")
        request.registerProducer(self, True)

    def send(self, frame: bytes) -> None:
        """
        Send an event, see :func:`frame_of`, unless the client does not read.
        """
        if not self._full and self._request is not None:
            self._request.write(frame)

    def close(self) -> None:
        """
        End the stream.
        """
        request = self._request
        if request is not None:
            request.unregisterProducer()
            request.finish()

    def _over(self, result: object) -> None:
        self._request = None
        self.resumeProducing()
        self._ended(self)

    # IPushProducer

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._full = True
        self._overdue = self._clock.callLater(STALL_SECONDS, self._cut)

    def resumeProducing(self) -> None:  # noqa: N802
        self._full = False
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()
        self._overdue = None

    def stopProducing(self) -> None:  # noqa: N802
        """
        The client has gone, which is told otherwise.
        """

    def _cut(self) -> None:
        if self._request is not None:
            self._request.transport.abortConnection()


def frame_of(kind: str, data: object, number: int | None = None) -> bytes:
    """
    Write an event.

    :param data: as JSON can carry it.
    :param number: its id, by which a client that comes again says what it has.
    """
    text = json.dumps(data, separators=(",", ":"))
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {text}\n\n".encode()

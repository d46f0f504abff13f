"""
What all event streams are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.admin.event_stream import EventStream, frame_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from stickyd.admin.view import AdminView
    from stickyd.log.journal import Journal

#: Seconds between two looks at the fleet, as long as somebody listens.
LOOK_SECONDS = 1.0

#: How many looks pass between two of how a placement that remembers its clients has them.
SPREAD_LOOKS = 5


class Broadcast:
    """
    Looks at the fleet once a second, if anybody listens, and tells all who do.
    """

    _log = Logger()

    def __init__(self, view: AdminView, journal: Journal) -> None:
        self._view = view
        self._journal = journal
        self._streams: set[EventStream] = set()
        self._next: IDelayedCall | None = None
        self._unwatch = journal.watch(self._tell_event)
        self._spread: list[int] = []
        self._spread_of: object = None
        self._looks = 0
        # Of which events the frames were written last, and these.
        self._written: tuple[tuple[int, int], bytes] = (0, 0), b""

    def add(self, request: Any, last: int, ended: Any) -> None:
        """
        Begin to tell a client.

        :param last: the id of the last event of the log that it has.
        :param ended: called when it has gone.
        """

        def over(stream: EventStream) -> None:
            self._streams.discard(stream)
            if not self._streams and self._next is not None:
                self._next.cancel()
                self._next = None
            ended()

        stream = EventStream(request, self._view.clock, over)
        self._streams.add(stream)
        if not self._journal.after(last - 1):
            last = 0  # it is of another run of the server
        stream.send(self._history(last) + frame_of("spread", self._look_at_spread()))
        stream.send(frame_of("status", self._view.status()))
        if self._next is None:
            self._next = self._view.clock.callLater(LOOK_SECONDS, self._look)

    def _history(self, last: int) -> bytes:
        """
        The events after one of that id, which all pages that come again at once ask for.
        """
        events = self._journal.after(last)
        span = (last, events[-1]["id"] if events else last)
        if span != self._written[0]:
            frames = (frame_of("log", event, event["id"]) for event in events)
            self._written = span, b"".join(frames)
        return self._written[1]

    def stop(self) -> None:
        """
        End all streams.
        """
        self._unwatch()
        for stream in list(self._streams):
            stream.close()

    def _look(self) -> None:
        self._next = self._view.clock.callLater(LOOK_SECONDS, self._look)
        try:
            before = self._spread
            if self._look_at_spread() != before:
                self._tell(frame_of("spread", self._spread))
            self._tell(frame_of("status", self._view.status()))
        except Exception:  # noqa: BLE001 - the server goes on, whatever is shown of it
            self._log.failure("The dashboard cannot be shown", event="admin.failed")

    def _look_at_spread(self) -> list[int]:
        placement = self._view.fleet.placement
        self._looks += 1
        if placement is not self._spread_of or self._looks % SPREAD_LOOKS == 0:
            self._spread_of = placement
            self._spread = self._view.spread()
        return self._spread

    def _tell_event(self, event: dict[str, Any]) -> None:
        if self._streams:
            self._tell(frame_of("log", event, event["id"]))

    def _tell(self, frame: bytes) -> None:
        for stream in list(self._streams):
            stream.send(frame)

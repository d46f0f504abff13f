"""
The time that a worker has to finish: until open streams are ended, and until all is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.worker.rest import name_rest

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.interfaces import IHost

#: Between two looks for streams, as a request under way may begin one.
LOOK_SECONDS = 0.5


class Farewell:
    """
    Ends what a host still has open, in two steps.

    Streams do not end by themselves, and would keep a worker for all the time that it has; so
    they are ended sooner, and the rest of the time is for the others.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, host: IHost, stop_seconds: float, stream_seconds: float
    ) -> None:
        """
        :param stop_seconds: what a worker has at a stop.
        :param stream_seconds: what streams have of that.  With more time than at a stop, as
            at a reload, they have that much more of it.
        """
        self._clock = clock
        self._host = host
        self._stop_seconds = stop_seconds
        self._stream_seconds = stream_seconds
        self._cut: IDelayedCall | None = None
        self._end: IDelayedCall | None = None

    def begin(self, seconds: float) -> None:
        """
        Cut everything off in so many seconds.
        """
        self._cut = self._clock.callLater(seconds, self._cut_off)
        self._end = self._clock.callLater(self._seconds_for_streams(seconds), self._end_streams)

    def shorten(self, seconds: float) -> None:
        """
        Do so in so many seconds from now, if that is sooner.
        """
        cut, end = self._cut, self._end
        if cut is None or not cut.active() or cut.getTime() <= self._clock.seconds() + seconds:
            return
        cut.reset(seconds)
        left = self._seconds_for_streams(seconds)
        if end is not None and end.active() and end.getTime() > self._clock.seconds() + left:
            end.reset(left)

    def stop(self) -> None:
        """
        There is nothing left to end.
        """
        for call in (self._cut, self._end):
            if call is not None and call.active():
                call.cancel()

    def _seconds_for_streams(self, seconds: float) -> float:
        more = max(0.0, seconds - self._stop_seconds)
        return min(seconds, self._stream_seconds + more)

    def _cut_off(self) -> None:
        # That ends streams too, and they must not be ended twice.
        self.stop()
        rest = name_rest(self._host)
        if rest:
            self._log.info("Cut off, as its time is over: {rest}", event="stop.cut-off", rest=rest)
        self._host.abort()

    def _end_streams(self) -> None:
        self._host.end_streams()
        self._end = self._clock.callLater(LOOK_SECONDS, self._end_streams)

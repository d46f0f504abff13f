"""
Telling whoever watches a stop what it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.interfaces import IWorker

#: Seconds until the first word, and between any two after that.
FIRST_SECONDS = 1.0
NEXT_SECONDS = 5.0


class StopNotice:
    """
    Says now and then how much is left, and how long that may take at most.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, workers: Callable[[], Iterable[IWorker]]) -> None:
        """
        :param workers: those that have not ended.
        """
        self._clock = clock
        self._workers = workers
        self._cut_at = 0.0
        self._call: IDelayedCall | None = None

    def begin(self, patience: float) -> None:
        """
        The stop has begun.

        :param patience: seconds until what is left then is cut off.
        """
        self.end()
        self._cut_at = self._clock.seconds() + patience
        self._call = self._clock.callLater(FIRST_SECONDS, self._tell)

    def end(self) -> None:
        """
        Say nothing any more.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tell(self) -> None:
        self._call = self._clock.callLater(NEXT_SECONDS, self._tell)
        workers = [worker for worker in self._workers() if worker.lives]
        for worker in workers:
            worker.count()
        # Where a worker has not told yet what is left, or cannot, all of that are requests.
        requests = sum(
            int(worker.figures.told.get("waiting", worker.figures.in_flight)) for worker in workers
        )
        # Responses that have begun, and WebSockets.
        streams = int(sum(worker.figures.told.get("streams", 0) for worker in workers))
        seconds = self._cut_at - self._clock.seconds()
        if (requests or streams) and seconds > 0:
            self._log.info(
                "{left} left, at most {seconds:.0f} s more",
                event="stop.waits",
                left=_and(_counted(requests, "request"), _counted(streams, "stream")),
                requests=requests,
                streams=streams,
                seconds=seconds,
            )
        elif workers:
            self._log.info(
                "{workers} left, which no request keeps any more",
                event="stop.shuts-down",
                workers=_counted(len(workers), "worker"),
            )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""


def _and(*parts: str) -> str:
    return " and ".join(filter(None, parts))

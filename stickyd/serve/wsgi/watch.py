"""
Tells the operator when the threads are too few, or are stuck.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from twisted.logger import Logger

from stickyd.serve.wsgi.call import ApplicationCall
from stickyd.serve.wsgi.threads import busy_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness
    from stickyd.serve.wsgi.threads import ApplicationThreads, Seat

#: How long it is between two looks at the threads, while any is at work.
CHECK_SECONDS = 1.0

#: How long all threads must have been busy to be worth a line in the log, and how long it is
#: until the next one.
BUSY_SECONDS = 5.0
QUIET_SECONDS = 60.0

#: The highest --wsgi-threads.
MOST_THREADS = 1000

#: How many different requests such a line names.
_MOST_NAMED = 3


class ThreadWatch:
    """
    Looks at the threads of one application.
    """

    _log = Logger()

    def __init__(
        self,
        readiness: IReadiness,
        threads: ApplicationThreads,
        timeout_seconds: float,
        replace: Callable[[], object],
        now: Callable[[], float] = monotonic,
    ) -> None:
        """
        :param timeout_seconds: how long an application may take to begin an answer until it is
            taken for stuck; 0 is for ever.
        :param replace: called once when more than half of the threads are stuck: somebody else
            should take our place.
        :param now: the clock of :attr:`Seat.since`.
        """
        self._readiness = readiness
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._replace = replace
        self._now = now
        self._running = False
        self._full_since: float | None = None
        self._told_at = float("-inf")
        self._stuck: dict[Seat, Any] = {}
        self._replacing = False

    def wake(self) -> None:
        """
        Look after what was begun just now.
        """
        if not self._running:
            self._running = True
            self._readiness.call_later(CHECK_SECONDS, self._check)

    def busy(self) -> list[tuple[Seat, ApplicationCall]]:
        """
        The threads that are at work, and what they do.
        """
        return [
            (seat, cast("ApplicationCall", job))
            for seat in busy_of(self._threads.seats)
            if (job := seat.job) is not None  # it may have ended meanwhile
        ]

    def tell_left(self) -> None:
        """
        Name in the log what is not waited for, though its client was not cut off.
        """
        left = [seat for seat, job in self.busy() if job.abandoned]
        if left:
            self._log.info(
                "Not waited for, as the clients have left: {served}",
                event="wsgi.threads-left",
                served=_describe(left, self._now()),
            )

    def _check(self) -> None:
        # What threads do meanwhile changes nothing that matters a second later.
        now = self._now()
        busy = busy_of(self._threads.seats)
        self._running = bool(busy)
        if busy:
            self._readiness.call_later(CHECK_SECONDS, self._check)
        self._check_full(now, busy)
        if self._timeout_seconds:
            self._check_stuck(now, busy)

    def _check_full(self, now: float, busy: list[Seat]) -> None:
        if len(busy) < self._threads.most:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= BUSY_SECONDS and now - self._told_at >= QUIET_SECONDS:
            self._told_at = now
            self._log.warn(
                "All {count} threads of the WSGI application have been busy for {seconds:.0f} s,"
                " {waiting} more requests wait. They serve {served}. Write {advice}",
                event="wsgi.threads-busy",
                count=self._threads.most,
                seconds=now - self._full_since,
                waiting=self._threads.waiting,
                served=_describe(busy, now),
                advice=self._advice(),
            )

    def _advice(self) -> str:
        more = min(self._threads.most * 2, MOST_THREADS)
        if more <= self._threads.most:
            return "more --workers"
        return (
            f"--wsgi-threads {more} if these wait for something (long polling, a database), more"
            " --workers if they compute"
        )

    def _check_stuck(self, now: float, busy: list[Seat]) -> None:
        stuck = {}
        for seat in busy:
            job = cast("ApplicationCall | None", seat.job)
            if job is None or job.answered:
                continue
            # Who gets a slow client's body is not stuck, be it late; who does not take it is.
            seconds = now - max(seat.since, job.read_at)
            if seconds < self._timeout_seconds:
                continue
            stuck[seat] = job
            if self._stuck.get(seat) is not job:
                self._tell_stuck(seat, job, seconds)
        self._stuck = stuck
        if len(stuck) * 2 > self._threads.most and not self._replacing:
            self._replacing = True
            self._log.error(
                "{stuck} of {count} threads of the WSGI application are stuck: another worker"
                " shall take this one's place",
                event="wsgi.threads-stuck",
                stuck=len(stuck),
                count=self._threads.most,
            )
            self._replace()

    def _tell_stuck(self, seat: Seat, job: ApplicationCall, seconds: float) -> None:
        frame = sys._current_frames().get(seat.thread.ident or 0)
        self._log.error(
            "The application has not begun to answer {request} for {seconds:.0f} s"
            " (--request-timeout); its thread is here:\n{stack}",
            event="wsgi.slow-request",
            request=job.request_line,
            seconds=seconds,
            stack="".join(traceback.format_stack(frame)).rstrip(),
        )


def _describe(busy: list[Seat], now: float) -> str:
    """
    Say what threads serve: the most frequent first.
    """
    counts: Counter[str] = Counter()
    longest: dict[str, float] = {}
    for seat in busy:
        job = cast("ApplicationCall | None", seat.job)
        if job is not None:
            line = job.request_line
            counts[line] += 1
            longest[line] = max(longest.get(line, 0.0), now - seat.since)
    named = [
        f"{line} ({count}, for {longest[line]:.0f} s at most)"
        for line, count in counts.most_common(_MOST_NAMED)
    ]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f" and {rest} others" if rest else "")

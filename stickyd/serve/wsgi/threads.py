"""
The threads that an application runs in.

*Theory of operation.*  The interpreter runs one thread at a time, so a second one is of use
only while the first waits for something.  Hence requests queue in one deque, and threads are
woken one after the other: by the loop, when the first request comes to a resting pool, and
then by each other: whoever takes a request and sees a further one wakes the next.  That one
runs when the first lets go of the interpreter; if it never does, it has served the whole
queue by itself, without a switch in between.  Threads rest on a stack, each on a lock of its
own: the one that rested last is woken first, and those that nobody needs stay at the bottom
until their time is over.  New ones are made when a request has waited for a moment.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness

#: How long a thread rests until it ends.
REST_SECONDS = 30.0

#: How long the oldest request may wait until there are more threads: as long as the
#: interpreter lets one run that others wait for.
GROW_SECONDS = 0.005


class Job(Protocol):
    """
    What a thread does: one request.

    :ivar queued_at: since when it waits, by the monotonic clock; set here.
    """

    queued_at: float

    def run(self, seat: Seat) -> object:
        """
        Called in the thread; must not raise.
        """


class Seat:
    """
    One thread, as the others see it.

    :ivar job: what it does, if it does something.
    :ivar since: since when, by the monotonic clock.
    :ivar apart: it is not counted any more, as it serves one client for good.
    """

    __slots__ = ("apart", "job", "since", "thread", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.job: Job | None = None
        self.since = 0.0
        self.apart = False
        self.thread: threading.Thread = threading.current_thread()


class ApplicationThreads:
    """
    As many threads as there is work for, within bounds.

    They do not keep the process alive: one that never returns must not outlive the
    deadline of a stop.

    :ivar most: how many there may be, besides those that are apart.
    """

    _log = Logger()

    def __init__(
        self,
        readiness: IReadiness,
        call_from_thread: Callable[[Callable[[], object]], object],
        most: int,
        queue_limit: int,
    ) -> None:
        """
        :param readiness: the loop; for :meth:`submit` and :meth:`stop`.
        :param call_from_thread: has something called in the loop.
        :param queue_limit: how many jobs may wait for a thread.
        """
        self.most = most
        self._readiness = readiness
        self._call_from_thread = call_from_thread
        self._queue_limit = queue_limit
        self._jobs: deque[Job] = deque()
        self._resting: list[Seat] = []
        self._seats: set[Seat] = set()
        self._counting = threading.Lock()  # held for changes of the two below
        self._count = 0
        self._growing = False
        self._stopping = False
        self._stopped: list[Deferred[None]] = []

    @property
    def seats(self) -> list[Seat]:
        """
        All threads, those that are apart too.
        """
        return list(self._seats)

    @property
    def waiting(self) -> int:
        """
        How many jobs wait for a thread.
        """
        return len(self._jobs)

    @property
    def count(self) -> int:
        """
        How many threads there are, without those that are apart.
        """
        return self._count

    # In the loop.

    def submit(self, job: Job) -> bool:
        """
        Have a job done.

        :return: :obj:`False` if too many wait already.
        """
        jobs = self._jobs
        if len(jobs) >= self._queue_limit and not self._resting and self._count >= self.most:
            return False
        job.queued_at = monotonic()
        jobs.append(job)
        if not self._wake() and self._count < self.most and not self._growing:
            if not self._count:
                self._add()
            else:
                self._growing = True
                self._readiness.call_later(GROW_SECONDS, self._grow, self._count)
        return True

    def _wake(self) -> bool:
        try:
            seat = self._resting.pop()
        except IndexError:
            return False
        seat.wake.release()
        return True

    def _grow(self, step: int) -> None:
        """
        Make more threads if the oldest request waits for too long: as many as there are,
        each time.
        """
        self._growing = False
        if self._stopping or self._resting:
            return
        try:
            waited = monotonic() - self._jobs[0].queued_at
        except IndexError:
            return
        if waited >= GROW_SECONDS:
            for _ in range(min(len(self._jobs), max(1, step), self.most - self._count)):
                self._add()
        if self._count < self.most:
            self._growing = True
            self._readiness.call_later(GROW_SECONDS, self._grow, step * 2)

    def _add(self) -> None:
        seat = Seat()
        with self._counting:
            self._count += 1
            self._seats.add(seat)
        seat.thread = threading.Thread(
            target=self._work, args=(seat,), name=f"wsgi-{len(self._seats)}", daemon=True
        )
        try:
            seat.thread.start()
        except RuntimeError:
            # The system gives no more; those that there are serve all.
            self._log.error(
                "No more than {count} threads can be started; look at ulimit -u and the memory,"
                " or write a lower --wsgi-threads",
                count=self._count - 1,
            )
            self._leave(seat)

    def stop(self) -> Deferred[None]:
        """
        End the threads.

        :return: fires when each has finished what it does, and all that waits is done.
        """
        self._stopping = True
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        while self._wake():
            pass
        self._look_for_end()
        return stopped

    def _look_for_end(self) -> None:
        if self._stopping and not self._seats:
            stopped, self._stopped = self._stopped, []
            for waiting in stopped:
                waiting.callback(None)

    # In the threads.

    def _work(self, seat: Seat) -> None:
        jobs = self._jobs
        resting = self._resting
        while True:
            try:
                job = jobs.popleft()
            except IndexError:
                if seat.apart or not self._rest(seat):
                    break
                continue
            if jobs and resting:
                self._wake()
            seat.since = monotonic()
            seat.job = job
            job.run(seat)
            seat.job = None
            # What it refers to must not live until the next one comes.
            del job
            if seat.apart and not self._rejoin(seat):
                break
        self._leave(seat)

    def _rest(self, seat: Seat) -> bool:
        """
        Wait for a job.

        :return: :obj:`False` if there is none for too long.
        """
        resting = self._resting
        resting.append(seat)
        if self._jobs or self._stopping:
            # It came when we were not seen resting yet.
            try:
                resting.remove(seat)
            except ValueError:
                pass  # we are being woken
            else:
                return bool(self._jobs) or not self._stopping
        if seat.wake.acquire(timeout=REST_SECONDS):
            return bool(self._jobs) or not self._stopping
        try:
            resting.remove(seat)
        except ValueError:
            seat.wake.acquire()
            return True
        return self._count <= 1 and not self._stopping

    def set_apart(self, seat: Seat) -> None:
        """
        Count a thread no longer: it serves one client for good.
        """
        with self._counting:
            seat.apart = True
            self._count -= 1
        self._call_from_thread(self._make_up)

    def _make_up(self) -> None:
        """
        Have another thread take the place of one that was set apart.
        """
        if self._jobs and not self._wake() and self._count < self.most:
            self._add()

    def _rejoin(self, seat: Seat) -> bool:
        """
        Count a thread again.

        :return: :obj:`False` if there are enough without it.
        """
        with self._counting:
            if self._count >= self.most:
                return False
            seat.apart = False
            self._count += 1
        return True

    def _leave(self, seat: Seat) -> None:
        with self._counting:
            if not seat.apart:
                self._count -= 1
            self._seats.discard(seat)
        self._call_from_thread(self._look_for_end)

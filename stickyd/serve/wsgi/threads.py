"""
The threads that an application runs in.

*Theory of operation.*  The interpreter runs one thread at a time, so a second one is of use
only while the first waits for something, and each switch costs more than a small request.
Hence requests are collected during a turn of the loop and lie in one deque; at the end of the
turn one thread is woken, and serves them all, one after the other.  The loop waits for it, but
not for long; a thread that takes longer wakes the loop when it is done, once for all its
responses, and the loop does not wait in the next turns, more of them each time.  If a thread
waits for something meanwhile, a tick of the loop sees that the queue does not move, delivers
the responses that are there, and wakes further threads: one, two, four.  Threads rest on a
stack, each on a lock of its own: the one that rested last is woken first, and those that
nobody needs stay at the bottom until their time is over.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stickyd.net.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stickyd.interfaces import IReadiness
    from stickyd.serve.wsgi.delivery_queue import DeliveryQueue

#: How long a thread rests until it ends.
REST_SECONDS = 30.0

#: How long it is between two looks whether the queue moves, while there is one.
TICK_SECONDS = 0.002

#: The same while nobody could help: all threads that there may be are at work.
FULL_TICK_SECONDS = 0.02

#: How long the loop waits for a thread that it has woken.
WAIT_SECONDS = 0.0005

#: In how many turns it does not wait, at most, after a thread that took longer.
MOST_SKIPS = 256


class Job(Protocol):
    """
    What a thread does: one request.
    """

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


def busy_of(seats: Iterable[Seat]) -> list[Seat]:
    """
    The threads that are at work, but those that are a client's for good.
    """
    return [seat for seat in seats if seat.job is not None and not seat.apart]


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
        responses: DeliveryQueue,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        """
        :param readiness: the loop; for :meth:`submit` and :meth:`stop`.
        :param call_from_thread: has something called in the loop.
        :param queue_limit: how many jobs may wait for a thread.
        :param responses: what the jobs put something into for the loop.
        :param rest_seconds: how long a thread rests until it ends.
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
        self._responses = responses
        self._rest_seconds = rest_seconds
        self._flushing = False
        # The lock on which the loop waits while a thread serves; and in a list while it does.
        self._served = threading.Lock()
        self._served.acquire()
        self._waiters: list[threading.Lock] = []
        self._skip = 1  # in how many turns not to wait after the next thread that takes too long
        self._skips = 0  # in how many more turns not to wait
        self._ticking = False
        self._step = 1  # how many threads the next tick wakes, if the queue does not move
        self._made = 0
        self._stopping = False
        self._stopped = Waiters()

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
        if len(jobs) >= self._queue_limit and len(jobs) >= self._queue_limit + self._free:
            return False
        jobs.append(job)
        if not self._flushing:
            self._flushing = True
            self._readiness.call_soon(self._flush)
        return True

    @property
    def _free(self) -> int:
        """
        How many threads could take a job, those counted that there are not yet.
        """
        return self.most - len(busy_of(self.seats))

    def _flush(self) -> None:
        """
        Have what was submitted in this turn done.
        """
        self._flushing = False
        try:
            newest = self._jobs[-1]
        except IndexError:
            return  # a thread that was not resting yet has taken them
        if self._skips:
            self._skips -= 1
        elif self._resting:
            self._wake_and_wait()
            if not self._jobs:
                return
        if not self._wake() and not self._count:
            self._add()
        if not self._ticking:
            self._ticking = True
            self._step = 1
            self._readiness.call_later(TICK_SECONDS, self._tick, newest)

    def _wake_and_wait(self) -> None:
        """
        Wake a thread, and wait for it: a small request is answered sooner than a switch to
        the loop and back takes.
        """
        served = self._served
        self._waiters.append(served)
        self._wake()
        if served.acquire(timeout=WAIT_SECONDS):
            self._skip = 1
        elif self._waiters:
            self._waiters.clear()
            # It takes longer, and probably will the next time.
            self._skip = min(self._skip * 2, MOST_SKIPS)
            self._skips = self._skip
        else:
            served.acquire()
        self._responses.deliver()

    def _tick(self, last: Job) -> None:
        """
        Look after the jobs that were there at the last tick.

        :param last: the last one of them.
        """
        self._responses.deliver()
        jobs = self._jobs
        try:
            newest = jobs[-1]
            stuck = last in jobs
        except (IndexError, RuntimeError):
            # None is left; or a thread took one while we looked.
            self._ticking = bool(jobs)
            if self._ticking:
                self._readiness.call_later(TICK_SECONDS, self._tick, jobs[-1])
            return
        if stuck:
            self._add_hands()
        else:
            self._step = 1
        full = self._count >= self.most and not self._resting
        seconds = FULL_TICK_SECONDS if full else TICK_SECONDS
        self._readiness.call_later(seconds, self._tick, newest)

    def _add_hands(self) -> None:
        for _ in range(min(self._step, len(self._jobs))):
            if not self._wake():
                if self._count >= self.most or self._stopping:
                    return
                self._add()
        self._step *= 2

    def _wake(self) -> bool:
        try:
            seat = self._resting.pop()
        except IndexError:
            return False
        seat.wake.release()
        return True

    def _add(self) -> None:
        seat = Seat()
        with self._counting:
            self._count += 1
            self._seats.add(seat)
        self._made += 1
        seat.thread = threading.Thread(
            target=self._work, args=(seat,), name=f"wsgi-{self._made}", daemon=True
        )
        try:
            seat.thread.start()
        except RuntimeError:
            # The system gives no more; those that there are serve all.
            self._log.error(
                "No more than {count} threads can be started; look at ulimit -u and the memory,"
                " or write a lower --wsgi-threads",
                event="wsgi.no-more-threads",
                count=self._count - 1,
            )
            self._leave(seat)

    def stop(self) -> Deferred[None]:
        """
        End the threads.

        :return: fires when each has finished what it does, and all that waits is done.
        """
        self._stopping = True
        stopped = self._stopped.wait()
        while self._wake():
            pass
        self._check_ended()
        return stopped

    def give_up(self) -> None:
        """
        Wait for no thread any more; those that are at work end with the process.
        """
        self._stopped.fire()

    def _check_ended(self) -> None:
        if self._stopping and not self._seats and not self._jobs:
            self._stopped.fire()

    # In the threads.

    def _work(self, seat: Seat) -> None:
        jobs = self._jobs
        responses = self._responses
        while True:
            try:
                job = jobs.popleft()
            except IndexError:
                try:
                    self._waiters.pop().release()
                except IndexError:
                    responses.wake()
                if seat.apart or not self._rest(seat):
                    break
                continue
            seat.since = monotonic()
            seat.job = job
            try:
                job.run(seat)
            except BaseException:  # noqa: BLE001 - ours, then; the thread goes on
                self._log.failure(
                    "A request could not be finished.", event="internal.response-lost"
                )
            seat.job = None
            # What it refers to must not live until the next one comes.
            del job
            if seat.apart and not self._rejoin(seat):
                break
        responses.wake()
        self._leave(seat)

    def _rest(self, seat: Seat) -> bool:
        """
        Wait for a job.

        :return: :obj:`False` if there is none for too long.
        """
        resting = self._resting
        resting.append(seat)
        if self._jobs or self._stopping:
            # A job came when nobody could see yet that we rest.
            try:
                resting.remove(seat)
            except ValueError:
                pass  # we are being woken
            else:
                return bool(self._jobs) or not self._stopping
        if seat.wake.acquire(timeout=self._rest_seconds):
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
        self._call_from_thread(self._check_ended)

"""
One coarse timer for all connections of a worker.

A timer per connection, set anew for each request, costs more than parsing the request.
Here a connection only writes down its deadline; it lies in the bucket of some second
that is not later than that, and when the bucket is due it is looked at, and moved on if
its deadline has moved.  So a request costs one assignment, and each connection is
looked at once in a timeout, not once a second.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

_LATER_STEPS = 60
"""After how many steps those without a deadline are looked at again."""


class Expiring(Protocol):
    """
    What has a deadline.

    :ivar deadline: when it expires, in the clock's seconds; ``inf`` for never.
    :ivar bucket: the timer's own note.
    """

    deadline: float
    bucket: int

    def expire(self) -> None:
        """
        Called once when the deadline has passed.  It must set another, or leave.
        """


class Deadlines:
    """
    Calls :meth:`Expiring.expire` in steps of a second, never early.

    :ivar now: the time of the last step.  Deadlines are set from it.
    """

    def __init__(self, clock: IReactorTime, step: float = 1.0) -> None:
        self.now = clock.seconds()
        self._clock = clock
        self._step = step
        self._buckets: dict[int, set[Expiring]] = {}
        self._call: IDelayedCall | None = None
        # The bucket of the last one that came: until the next step most have the same deadline.
        self._last_deadline = -inf
        self._last_number = 0
        self._last_bucket: set[Expiring] = set()

    def add(self, item: Expiring, seconds: float | None) -> None:
        """
        Begin to watch something that expires in so many seconds; never, if it is :obj:`None`.
        """
        if self._call is None:
            # Nothing was watched, so no step was made.
            self.now = self._clock.seconds()
            self._call = self._clock.callLater(self._step, self._tick)
        item.deadline = deadline = inf if seconds is None else self.now + seconds
        if deadline == self._last_deadline:
            item.bucket = self._last_number
            self._last_bucket.add(item)
            return
        self._put(item)
        self._last_deadline = deadline
        self._last_number = number = item.bucket
        self._last_bucket = self._buckets[number]

    def discard(self, item: Expiring) -> None:
        """
        Watch no longer.
        """
        bucket = self._buckets.get(item.bucket)
        if bucket is not None:
            bucket.discard(item)

    def hasten(self, item: Expiring) -> None:
        """
        Notice that a deadline is earlier than before; that it is later is noticed anyway.
        """
        if item.deadline < (item.bucket - 1) * self._step:
            self.discard(item)
            self._put(item)

    def stop(self) -> None:
        """
        Stop the timer.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _put(self, item: Expiring) -> None:
        deadline = item.deadline
        if deadline == inf:
            number = int(self.now / self._step) + _LATER_STEPS
        else:
            # One more than the whole steps: `now` may be a step old when deadlines are made.
            number = int(deadline / self._step) + 1
        item.bucket = number
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = set()
        bucket.add(item)

    def _tick(self) -> None:
        self.now = now = self._clock.seconds()
        self._last_deadline = -inf
        # First of all: an error in expire() must not stop the timer for the others.
        self._call = self._clock.callLater(self._step, self._tick)
        due = int(now / self._step)
        for number in sorted(number for number in self._buckets if number <= due):
            bucket = self._buckets.pop(number)
            while bucket:
                item = bucket.pop()
                if item.deadline <= now:
                    item.deadline = inf
                    self._put(item)
                    item.expire()
                else:
                    self._put(item)
        if not self._buckets:
            self.stop()

"""
The small things that many share: log lines at intervals, those who wait, allowances.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stickyd.errors import WorkerError
from stickyd.net.allowance import Allowance
from stickyd.net.throttle import MOST_SUBJECTS, Throttle
from stickyd.net.waiters import Waiters


def test_a_line_is_due_once_in_its_time() -> None:
    """
    Of each subject one line, then none for so many seconds; subjects do not mind each other.
    """
    clock = Clock()
    throttle = Throttle(clock.seconds, 10.0)
    assert throttle.due()
    assert not throttle.due()
    assert throttle.due("other")
    clock.advance(9.9)
    assert not throttle.due()
    clock.advance(0.1)
    assert throttle.due()
    assert not throttle.due()


def test_subjects_are_bounded() -> None:
    """
    However many subjects come up, only those of the last seconds are remembered.
    """
    clock = Clock()
    throttle = Throttle(clock.seconds, 1.0)
    for number in range(10 * MOST_SUBJECTS):
        clock.advance(0.1)
        assert throttle.due(str(number))
    assert len(throttle._told) <= MOST_SUBJECTS


def test_waiters_fire_together() -> None:
    """
    All who wait are told, once; who begins to wait meanwhile is told the next time.
    """
    waiters, told = Waiters(), []

    def again(_: object) -> None:
        told.append("first")
        waiters.wait().addCallback(lambda _: told.append("again"))

    waiters.wait().addCallback(again)
    waiters.wait().addCallback(lambda _: told.append("second"))
    assert waiters
    waiters.fire()
    assert told == ["first", "second"]
    waiters.fire()
    assert told == ["first", "second", "again"]
    assert not waiters


def test_waiters_fail_together_and_may_leave() -> None:
    """
    All who wait hear of a failure, but for one that has cancelled.
    """
    waiters = Waiters()
    leaving, staying = waiters.wait(), waiters.wait()
    reasons: list[type[BaseException] | None] = []

    def keep(waiting: Deferred[None]) -> None:
        waiting.addErrback(lambda failure: reasons.append(failure.type))

    keep(leaving)
    keep(staying)
    leaving.cancel()
    waiters.fail(WorkerError("over"))
    waiters.fire()
    assert reasons == [CancelledError, WorkerError]


@pytest.mark.parametrize("count", [1, 3])
def test_allowance_is_a_bucket(count: int) -> None:
    """
    So many at once, then so many a second; what was not used is kept up to the burst, and some
    may be given.
    """
    clock = Clock()
    allowance = Allowance(clock.seconds, 2.0, 6)
    assert sum(allowance.take(count) for _ in range(20)) == 6 // count
    clock.advance(1.5)
    assert sum(allowance.take(count) for _ in range(20)) == 3 // count
    clock.advance(1000)
    assert sum(allowance.take(count) for _ in range(20)) == 6 // count
    allowance.give(100)
    assert sum(allowance.take(count) for _ in range(20)) == 6 // count

"""
Fault 44: streams end before the rest is cut off.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from stickyd.testing import FakeHost
from stickyd.worker.farewell import LOOK_SECONDS, Farewell


@pytest.mark.parametrize(
    ("seconds", "stop", "stream", "expected"),
    [
        (30, 30, 3, 3),  # a stop
        (300, 30, 3, 273),  # a reload, which has more time
        (10, 30, 3, 3),
        (2, 30, 3, None),  # all is cut off sooner
        (30, 30, 60, None),
        (30, 30, 0, 0),
    ],
)
def test_when_streams_end(seconds: int, stop: int, stream: int, expected: int | None) -> None:
    """
    They have their time of that of a stop, and what there is more at a reload.
    """
    clock, host = Clock(), FakeHost()
    farewell = Farewell(clock, host, stop, stream)
    farewell.begin(seconds)
    for second in range(seconds):
        clock.advance(0)
        assert bool(host.streams_ended) == (expected is not None and second >= expected)
        assert not host.aborted
        clock.advance(1)
    assert host.aborted
    farewell.stop()
    assert not clock.getDelayedCalls()


def test_streams_that_begin_later_end_too() -> None:
    """
    Until nothing is left, streams are looked for.
    """
    clock, host = Clock(), FakeHost()
    farewell = Farewell(clock, host, 30, 3)
    farewell.begin(30)
    clock.advance(3)
    clock.pump([LOOK_SECONDS] * 4)
    assert host.streams_ended == 5
    farewell.stop()
    assert not clock.getDelayedCalls()


def test_stop_in_the_middle_of_a_reload() -> None:
    """
    The time that is left becomes that of a stop, and never longer.
    """
    clock, host = Clock(), FakeHost()
    farewell = Farewell(clock, host, 30, 3)
    farewell.shorten(1)  # nothing has begun
    farewell.begin(300)
    farewell.shorten(30)
    clock.advance(2.9)
    assert host.streams_ended == 0
    farewell.shorten(200)
    clock.advance(0.1)
    assert host.streams_ended == 1
    clock.advance(27)
    assert host.aborted
    farewell.stop()

"""
How late a worker's reactor is.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from stickyd.worker.loop_lag import LOOK_SECONDS, LoopLag


def test_worst_lag_since_it_was_asked() -> None:
    """
    A reactor in time has none; one that was blocked is as late as that, once; and while it is
    asked before the call has come, too.
    """
    clock = Clock()
    lag = LoopLag(clock)
    assert lag.take() == 0.0
    lag.start()
    for _ in range(8):
        clock.advance(LOOK_SECONDS)
    assert lag.take() == 0.0
    clock.advance(LOOK_SECONDS + 1.5)
    clock.advance(LOOK_SECONDS + 0.5)
    assert lag.take() == pytest.approx(1.5)
    assert lag.take() == 0.0
    clock.rightNow += LOOK_SECONDS + 2.0
    assert lag.take() == pytest.approx(2.0)
    lag.stop()
    lag.stop()
    assert not clock.getDelayedCalls()

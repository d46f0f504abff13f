"""
Fault 18: reactors go by a clock that nobody can set.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from stickyd.net.steady_time import WallClock, keep_steady
from tests.reactors import private_reactor

PACKAGE = Path(__file__).resolve().parents[2] / "stickyd"

#: Who wants the time of day: what is written for people and for clients, and sessions.
OF_DAY = {
    # Terms that are later than those of former starts, and of machines that forgot theirs.
    "fleet/election.py",
    "leadership/leadership.py",
    "leadership/redis_lease.py",
    "log/formats.py",
    "net/steady_time.py",
    "serve/access_log.py",
    "serve/asgi/host.py",
    "serve/http/context.py",
    "serve/static/files.py",
    "sessions/stores/redis_check.py",
}


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
def test_fault_18_setting_the_clock_changes_nothing(
    by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Fault 18: what was due in a minute is due in a minute, whether it was called before or
    after, and whatever the clock of the machine says.
    """
    with private_reactor() as reactor:
        before = reactor.callLater(60.0, lambda: None)
        began = time.time()
        keep_steady(reactor)
        assert reactor.seconds() == pytest.approx(began, abs=5.0)
        true = time.time
        monkeypatch.setattr(time, "time", lambda: true() + by)
        after = reactor.callLater(60.0, lambda: None)
        assert reactor.timeout() == pytest.approx(60.0, abs=5.0)
        assert before.getTime() == pytest.approx(after.getTime(), abs=5.0)
        before.reset(60.0)
        assert before.getTime() == pytest.approx(after.getTime(), abs=5.0)
        keep_steady(reactor)
        assert reactor.seconds() == pytest.approx(began, abs=5.0)


def test_a_clock_of_its_own_is_left_alone() -> None:
    """
    A reactor for tests keeps the time that the test gives it.
    """
    clock = Clock()
    keep_steady(clock)
    clock.advance(5)
    assert clock.seconds() == 5


def test_wall_clock_tells_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Sessions see the time of day, and wait by the reactor's.
    """
    reactor = Clock()
    wall = WallClock(reactor)
    assert verifyObject(IReactorTime, wall)
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    assert wall.seconds() == 1234.5
    called: list[int] = []
    wall.callLater(2, called.append, 1)
    assert len(wall.getDelayedCalls()) == 1
    reactor.advance(2)
    assert called == [1]


def test_nobody_else_asks_for_the_time_of_day() -> None:
    """
    Fault 18: a deadline that is reckoned by the clock on the wall would never come, or at once.
    """
    asking = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\btime\.time\b|import time$.*\btime\(\)|runtimeSeconds", path.read_text())
    }
    assert asking == OF_DAY

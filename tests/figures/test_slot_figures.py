"""
What is added up for slots never goes back, and rates are of lately.
"""

from __future__ import annotations

import json

import pytest

from stickyd.figures.fleet_figures import PEEKED, FleetFigures
from stickyd.figures.page import NUMBERS
from stickyd.figures.request_counts import RequestCounts
from stickyd.figures.slot_figures import SlotFigures, answered, by_class, cause_of


def answers(count: int) -> list[int]:
    """
    The numbers of a worker that has answered so many requests.
    """
    counts = RequestCounts()
    for _ in range(count):
        counts.end(200, counts.begin())
    return list(counts.page)


def test_dead_worker_leaves_its_share() -> None:
    """
    What a worker had counted stays, and what it was doing has failed.
    """
    figures = SlotFigures(0)
    figures.add(answers(3), 0.0)
    counts = RequestCounts()
    counts.begin()
    figures.add(list(counts.page), 1.0)
    assert figures.in_flight == 1
    figures.lose(1)
    assert figures.in_flight == 0
    assert figures.requests == 4
    assert by_class(figures.numbers)["aborted"] == 1
    figures.add(answers(2), 2.0)
    assert figures.requests == 6


def test_rates_are_of_lately() -> None:
    """
    What happened before the time that is asked for does not count; of a young slot, its whole
    life does.
    """
    figures = SlotFigures(0)
    assert figures.recent(5.0, 10.0) == (0.0, [0] * NUMBERS)
    for second in range(100):
        figures.add(answers(1 if second < 50 else 3), float(second))
    seconds, grown = figures.recent(99.5, 10.0)
    assert 9.5 <= seconds <= 11.5
    assert answered(grown) == pytest.approx(3 * seconds, abs=3)
    seconds, grown = figures.recent(99.5, 1000.0)
    assert 60.0 <= seconds <= 65.0
    idle = SlotFigures(1)
    idle.add((), 0.0)
    idle.add((), 0.1)
    assert idle.recent(4.0, 10.0) == (4.0, [0] * NUMBERS)


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        ("died of signal 9 (SIGKILL)", "signal"),
        ("exited with code 1", "exit"),
        ("hung: no heartbeat for 10 s", "hung"),
        ("was not ready within 30 s", "slow_start"),
        ("could not start: no module", "start"),
        ("could not be started: no memory", "start"),
        ("broke the protocol of its figures", "protocol"),
        ("closed its handoff channel", "channel"),
        ("whatever", "other"),
    ],
)
def test_deaths_have_causes(death: str, cause: str) -> None:
    """
    What the log says of a death is of one of a few kinds.
    """
    assert cause_of(death) == cause


def test_worker_that_is_relieved_has_a_cause_too() -> None:
    """
    It was a reload, unless somebody had a reason to have it relieved; which holds once.
    """
    figures = SlotFigures(0)
    figures.relieved()
    figures.expect("max_requests")
    figures.relieved()
    figures.relieved()
    figures.expect("told")
    figures.died("exited with code 1")
    figures.relieved()
    assert figures.restarts == {"reload": 3, "max_requests": 1, "exit": 1}


def test_waits_are_kept() -> None:
    """
    How long connections have waited, and how many at once.
    """
    figures = SlotFigures(0)
    for length in (1, 3, 2):
        figures.queues(length)
    for seconds in (0.004, 0.3, 20.0):
        figures.waited(seconds)
    assert figures.queued_most == 3
    assert [index for index, count in enumerate(figures.waits) if count] == [0, 7, 14]
    assert figures.waited_seconds == pytest.approx(20.304)


def test_figures_outlive_the_code_of_the_primary() -> None:
    """
    A primary that replaces itself goes on from what it had, also from a version that counts
    less.
    """
    figures = FleetFigures()
    figures.slot(2).add(answers(5), 0.0)
    figures.slot(2).died("exited with code 1")
    figures.slot(0).queues(4)
    figures.slot(0).replays(2)
    figures.slot(0).came_back()
    figures.slot(0).waited(0.2)
    figures.counter(PEEKED)["gone"] += 3
    plain = json.loads(json.dumps(figures.dump_state()))
    heir = FleetFigures()
    heir.restore_state(plain)
    assert heir.dump_state() == figures.dump_state()
    assert heir.numbers == figures.numbers
    plain["slots"][0]["numbers"] = [7]
    heir.slot(0).restore_state(plain["slots"][0])
    assert heir.slot(0).numbers == [7, *[0] * (NUMBERS - 1)]


def test_no_slots_have_no_figures() -> None:
    """
    Before there is a slot, everything is 0.
    """
    assert FleetFigures().numbers == [0] * NUMBERS

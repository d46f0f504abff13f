"""
What is shown of a fleet to operators.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from stickyd.figures.fleet_figures import REFUSED
from stickyd.figures.page import CLOSED, CPU_NS, HANDOFF, NUMBERS, OPENED, REHOMED
from stickyd.figures.request_counts import RequestCounts
from stickyd.fleet.report import report_on
from tests.fleet.test_fleet import Rig


def count(rig: Rig, slot: int, requests: int, cpu_seconds: float = 0.0) -> None:
    """
    Have the worker of a slot count.
    """
    counts = RequestCounts()
    for _ in range(requests):
        counts.end(200, counts.begin())
    counts.page[HANDOFF] = requests
    counts.page[REHOMED] = 1
    counts.page[CPU_NS] = int(cpu_seconds * 1e9)
    rig.fleet.table.figures.slot(slot).add(list(counts.page), rig.clock.seconds())


def test_fleet_at_a_glance() -> None:
    """
    Each slot with its worker and its load, and all of them together.
    """
    rig = Rig(2)
    rig.ready(0)
    worker = rig.worker(0)
    worker.connections = 4
    worker.figures.hear({"memory": 1000.0, "private": 400.0, "lag": 0.25, "sessions": 3.0})
    worker.figures.ready(rig.clock.seconds())
    for slot in (0, 1):
        count(rig, slot, 0)
    rig.clock.advance(10.0)
    count(rig, 0, 100, 5.0)
    rig.deliver(1)
    rig.fleet.table.figures.counter(REFUSED)["the server stops"] += 2
    report = report_on(rig.fleet)
    first, second = report.slots
    assert (first.index, first.state, second.state) == (0, "serving", "starting")
    assert [each.part for each in first.workers] == ["serving"]
    assert first.workers[0].memory_bytes == 1000
    assert first.workers[0].private_bytes == 400
    assert first.load.requests_per_second == pytest.approx(10.0)
    assert first.load.connections_per_second == pytest.approx(10.0)
    assert first.load.cpu_share == pytest.approx(0.5)
    assert first.load.p99_seconds is not None
    assert 0.0 < first.load.p99_seconds <= 0.005
    assert second.load.p99_seconds is None
    assert second.load.queue == second.load.queue_most == 1
    total = report.total
    assert (total.connections, total.sessions, total.lag_seconds) == (4, 3, 0.25)
    assert total.requests["2xx"] == 100
    assert total.ways == {"handoff": 100, "kernel": 0, "rehomed": 3}
    assert report.skew == pytest.approx(2.0)
    assert report.refused == {"the server stops": 2}
    json.dumps(asdict(report))


def test_connections_are_those_that_are_open_now() -> None:
    """
    A worker counts them where the primary looks; what is on its way to it is among them.
    """
    rig = Rig(1)
    rig.ready(0)
    worker = rig.worker(0)
    worker.connections = 900
    numbers = [0] * NUMBERS
    numbers[OPENED], numbers[CLOSED] = 1000, 993
    worker.figures.see(numbers)
    rig.deliver(0)
    report = report_on(rig.fleet)
    assert report.slots[0].workers[0].connections == report.total.connections == 8


def test_no_skew_of_few_requests() -> None:
    """
    Of a handful of requests nobody can say that they are badly spread.
    """
    rig = Rig(2)
    for slot in (0, 1):
        count(rig, slot, 0)
    rig.clock.advance(1.0)
    count(rig, 0, 9)
    assert report_on(rig.fleet).skew is None


def test_slot_that_went_away_still_counts() -> None:
    """
    A total never goes back because a slot does.
    """
    rig = Rig(2)
    rig.ready(0, 1)
    count(rig, 1, 50)
    rig.fleet.remove(7.0)
    rig.worker(1).died("exited with code 0")
    report = report_on(rig.fleet)
    assert [each.index for each in report.slots] == [0]
    assert report.total.requests["2xx"] == 50


def test_deaths_and_reloads_are_told_by_cause() -> None:
    """
    Why workers were replaced, by slot and in all.
    """
    rig = Rig(2)
    rig.ready(0, 1)
    rig.worker(0).died("died of signal 9 (SIGKILL)")
    rig.worker(1).died("exited with code 1")
    rig.clock.advance(5.0)
    report = report_on(rig.fleet)
    assert report.slots[0].load.restarts == {"signal": 1}
    assert report.total.restarts == {"signal": 1, "exit": 1}


def test_figures_go_over_to_the_next_code() -> None:
    """
    A primary that replaces itself writes down what it has counted.
    """
    rig = Rig(1)
    rig.ready(0)
    count(rig, 0, 5)
    plain = rig.fleet.dump_state()
    assert plain["figures"]["slots"][0]["numbers"][HANDOFF] == 5
    assert len(plain["figures"]["slots"][0]["numbers"]) == NUMBERS

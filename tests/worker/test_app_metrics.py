"""
What a worker tells of its application's registry.
"""

from __future__ import annotations

import json

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from twisted.internet.task import Clock

from stickyd.figures.app_figures import AppFigures, AppSeen
from stickyd.worker.app_metrics import AppMetrics
from tests.hosting import logged


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """
    The application's registry.
    """
    registry = CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    return registry


def test_only_changes_are_told(registry: CollectorRegistry) -> None:
    """
    All at first, then what has changed, and nothing if nothing has.
    """
    metrics = AppMetrics(Clock(), True)
    hits = Counter("hits", "Hits.", ["path"], registry=registry)
    Gauge("load", "Load.", registry=registry, multiprocess_mode="livesum").set(2)
    hits.labels("/a").inc()
    hits.labels("/b").inc(3)
    [message] = metrics.changes(True)
    assert json.loads(message) == [
        [
            "hits",
            "counter",
            "Hits.",
            "all",
            [["hits_total", [["path", "/a"]], 1.0], ["hits_total", [["path", "/b"]], 3.0]],
        ],
        ["load", "gauge", "Load.", "livesum", [["load", [], 2.0]]],
    ]
    assert list(metrics.changes(True)) == []
    hits.labels("/b").inc()
    [message] = metrics.changes(True)
    assert json.loads(message)[0][4] == [["hits_total", [["path", "/b"]], 4.0]]


def test_messages_fit_and_are_understood(registry: CollectorRegistry) -> None:
    """
    However many there are, each message fits into one of AMP's, and together they say it all.
    """
    sizes = Histogram("sizes", "Sizes.", ["path"], registry=registry)
    for number in range(400):
        sizes.labels(f"/{number}" + "x" * 100).observe(number)
    messages = list(AppMetrics(Clock(), True).changes(True))
    assert len(messages) > 5
    assert max(map(len, messages)) < 65_535
    figures = AppFigures()
    seen = AppSeen(figures)
    for message in messages:
        seen.hear(0, message)
    [(family, samples)] = figures.families()
    assert family.kind == "histogram"
    counted = [value for (name, _), value in samples if name == "sizes_count"]
    assert counted == [1.0] * 400


def test_nobody_is_told_where_nobody_can_ask(registry: CollectorRegistry) -> None:
    """
    Without an admin endpoint the registry is left alone; and with a slow one it is looked at
    seldom, unless somebody waits.
    """
    clock = Clock()

    class Slow:
        """
        Takes a second.
        """

        def collect(self) -> list[object]:
            """
            Give nothing, late.
            """
            clock.rightNow += 1.0
            return []

    registry.register(Slow())  # type: ignore[arg-type]
    assert list(AppMetrics(clock, False).changes(True)) == []
    assert clock.seconds() == 0.0
    metrics = AppMetrics(clock, True)
    list(metrics.changes())
    list(metrics.changes())
    assert clock.seconds() == 1.0
    list(metrics.changes(True))
    assert clock.seconds() == 2.0


def test_collector_that_fails_is_told_of(registry: CollectorRegistry) -> None:
    """
    The worker goes on, and the log says why there is nothing to see.
    """

    class Broken:
        """
        Raises.
        """

        def describe(self) -> list[object]:
            """
            Give no names.
            """
            return []

        def collect(self) -> list[object]:
            """
            Fail.
            """
            raise ValueError("on purpose")

    registry.register(Broken())  # type: ignore[arg-type]
    with logged() as events:
        assert list(AppMetrics(Clock(), True).changes(True)) == []
    assert [event["event"] for event in events] == ["metrics.failed"]

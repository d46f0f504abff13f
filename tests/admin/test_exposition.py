"""
The metrics, and what is made of them in ``tap/``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stickyd.admin.exposition import AppCollector, FleetCollector, VersionCollector, expose
from stickyd.admin.view import AdminView
from stickyd.figures.app_figures import AppSeen
from stickyd.figures.fleet_figures import PEEKED, REFUSED
from stickyd.figures.request_counts import RequestCounts
from stickyd.fleet.health import health_of
from stickyd.fleet.report import report_on
from stickyd.listen.refusal import reason_of
from tests.fleet.test_fleet import Rig

TAP = Path(__file__).parents[2] / "tap"

_SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


def exposed(accept: str = "") -> str:
    """
    The metrics of a fleet to which everything has happened.
    """
    rig = Rig(2)
    rig.ready(0, 1)
    figures = rig.fleet.table.figures
    figures.counter(REFUSED).update({"the queue of slot 1 is full": 2, "the server stops": 1})
    figures.counter(PEEKED)["too late"] += 1
    counts = RequestCounts()
    figures.slot(0).add(list(counts.page), 0.0)
    for _ in range(200):
        counts.end(200, counts.begin())
    figures.slot(0).add(list(counts.page), 1.0)
    figures.slot(0).died("exited with code 1")
    figures.slot(0).waited(0.3)
    AppSeen(figures.application).hear(
        0, '[["app_hits","counter","Hits.","all",[["app_hits_total",[["path","/"]],3]]]]'
    )
    rig.clock.advance(2.0)
    fleet = rig.fleet
    nothing = cast("Any", None)  # of what metrics do not ask
    view = AdminView(
        clock=cast("Any", rig.clock),
        fleet=fleet,
        operations=nothing,
        figures=figures,
        report=lambda: report_on(fleet),
        health=lambda: health_of(fleet, "", 0, False),
        explain=nothing,
        reread=nothing,
        bus=nothing,
    )
    collectors = (FleetCollector(view), VersionCollector("1"), AppCollector(figures.application))
    return expose(collectors, accept)[0].decode()


def test_metrics_say_what_has_happened() -> None:
    """
    Counters, gauges and histograms, with the labels that they should have.
    """
    text = exposed()
    for line in (
        'stickyd_requests_total{code="2xx",slot="0"} 200.0',
        'stickyd_request_duration_seconds_bucket{le="0.005",slot="0"} 200.0',
        'stickyd_request_duration_seconds_bucket{le="+Inf",slot="0"} 200.0',
        'stickyd_queue_wait_seconds_bucket{le="0.25",slot="0"} 0.0',
        'stickyd_queue_wait_seconds_bucket{le="0.5",slot="0"} 1.0',
        'stickyd_connections_refused_total{reason="queue_full"} 2.0',
        'stickyd_sniff_outcomes_total{outcome="too_late"} 1.0',
        'stickyd_worker_restarts_total{cause="exit",slot="0"} 1.0',
        'stickyd_slot_state{slot="0",state="serving"} 1.0',
        "stickyd_ready 1.0",
        'stickyd_generation{name="",slot="0"} 1.0',
        "stickyd_keepers 0.0",
        "stickyd_kept_clients 0.0",
        "stickyd_request_skew_ratio 2.0",
        'app_hits_total{path="/"} 3.0',
    ):
        assert line in text.splitlines(), line
    assert exposed("application/openmetrics-text; version=1.0.0").endswith("# EOF\n")


def test_what_tap_has_asks_for_is_there() -> None:
    """
    Dashboard and alerts name no metric that there is not.
    """
    families = {
        _SUFFIX.sub("", sample.name)
        for family in text_string_to_metric_families(exposed())
        for sample in family.samples
    }
    board = (TAP / "grafana.json").read_text()
    assert json.loads(board)["panels"]
    asked = set(re.findall(r"\bstickyd_\w+", board + (TAP / "alerts.yml").read_text()))
    assert len(asked) > 15
    assert {name for name in asked if _SUFFIX.sub("", name) not in families} == set()


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("the queue of slot 3 is full", "queue_full"),
        ("too many connections wait for a resize", "queue_full"),
        ("the queue of slot 3 has its share of the descriptors; raise", "descriptors"),
        ("no worker of slot 3 took it within 30 s", "queue_timeout"),
        ("the worker of slot 3 has no descriptor free for it", "starved"),
        ("every slot has failed", "failed"),
        ("the server stops", "stopping"),
        ("anything", "other"),
    ],
)
def test_reasons_are_few(why: str, reason: str) -> None:
    """
    A series for each slot would be one too many.
    """
    assert reason_of(why) == reason

"""
Tests of the bus's metrics.
"""

from __future__ import annotations

from stickyd.admin.bus_exposition import BusCollector
from stickyd.admin.exposition import expose
from stickyd.messaging.hub import BusFigures


def test_each_figure_has_a_name() -> None:
    """
    What only grows ends in ``_total``.
    """
    figures = BusFigures(1, 2, 3, 4, 5, 6, 7)
    text, _ = expose((BusCollector(lambda: figures),), "")
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert sorted(lines) == [
        "stickyd_bus_channels 7.0",
        "stickyd_bus_delivered_total 2.0",
        'stickyd_bus_lost_total{between="machines"} 4.0',
        'stickyd_bus_lost_total{between="workers"} 3.0',
        "stickyd_bus_published_total 1.0",
        "stickyd_bus_queue_bytes 6.0",
        "stickyd_bus_queue_length 5.0",
    ]

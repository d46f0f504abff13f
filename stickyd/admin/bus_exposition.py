"""
The figures of the bus in the words of Prometheus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from stickyd.messaging.hub import BusFigures


class BusCollector(Collector):
    """
    Gives what the primary has passed on between workers.
    """

    def __init__(self, figures: Callable[[], BusFigures]) -> None:
        """
        :param figures: gives them as they are now.
        """
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """
        Give every family.
        """
        now = self._figures()
        yield CounterMetricFamily(
            "stickyd_bus_published", "Messages that workers have published.", now.published
        )
        yield CounterMetricFamily(
            "stickyd_bus_delivered",
            "How often one was passed on to another worker that had subscribed.",
            now.delivered,
        )
        lost = CounterMetricFamily(
            "stickyd_bus_lost",
            "How often one did not reach a worker: it was too slow, or Redis away.",
            labels=["between"],
        )
        lost.add_metric(["workers"], now.lost)
        lost.add_metric(["machines"], now.lost_between)
        yield lost
        yield GaugeMetricFamily(
            "stickyd_bus_queue_length", "Messages that wait for workers to read.", now.queued
        )
        yield GaugeMetricFamily("stickyd_bus_queue_bytes", "How much those are.", now.queued_bytes)
        yield GaugeMetricFamily(
            "stickyd_bus_channels", "Channels that some worker has subscribed to.", now.channels
        )

"""
The server's figures in the words of Prometheus.

Names follow its conventions: base units, ``_total`` for what only grows.  The label is the slot,
never a process id, so that a restart begins no new series.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from stickyd.figures.fleet_figures import TOKENS
from stickyd.figures.histogram import BOUNDS_SECONDS
from stickyd.figures.page import (
    CPU_NS,
    DURATION_NS,
    HANDOFF,
    KERNEL,
    REHOMED,
    STORE_CALLS,
    TOKENS_REFUSED,
)
from stickyd.figures.slot_figures import by_class, durations
from stickyd.listen.refusal import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stickyd.admin.view import AdminView
    from stickyd.figures.app_figures import AppFigures
    from stickyd.figures.slot_figures import SlotFigures
    from stickyd.fleet.report import FleetReport, WorkerReport


class FleetCollector(Collector):
    """
    Gives the figures of a fleet, as they are when they are asked for.
    """

    def __init__(self, view: AdminView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """
        Give every family.
        """
        report = self._view.report()
        figures = self._view.figures
        slots = list(figures.slots())
        yield from _requests(slots)
        yield from _queues(slots, report)
        yield from _workers(report)
        yield from _restarts(slots)
        yield from _slots(self._view, report)
        yield _counted(
            "stickyd_connections_refused",
            "Connections that no worker got, by reason.",
            "reason",
            _merged((reason_of(why), count) for why, count in report.refused.items()),
        )
        yield _counted(
            "stickyd_sniff_outcomes",
            "What became of connections whose first bytes did not simply say where they belong.",
            "outcome",
            {name.replace(" ", "_"): count for name, count in report.peeked.items()},
        )
        yield _counted(
            "stickyd_tokens_refused",
            "Tokens that were not signed by this server's secrets, by who looked at them.",
            "by",
            {
                "primary": figures.counter(TOKENS).total(),
                "worker": sum(each.numbers[TOKENS_REFUSED] for each in slots),
            },
        )
        yield from _primary()


def _requests(slots: Sequence[SlotFigures]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "stickyd_requests",
        "Requests that have ended, by the class of their status; aborted ones got no response.",
        labels=["slot", "code"],
    )
    took = HistogramMetricFamily(
        "stickyd_request_duration_seconds",
        "How long requests with a whole response took, from their heads to their ends.",
        labels=["slot"],
    )
    connections = CounterMetricFamily(
        "stickyd_connections",
        "Connections that workers have got: handed over by the primary, accepted from the"
        " kernel, or given away by another worker.",
        labels=["slot", "way"],
    )
    cpu = CounterMetricFamily(
        "stickyd_worker_cpu_seconds", "CPU time of the workers.", labels=["slot"]
    )
    store = CounterMetricFamily(
        "stickyd_session_store_calls",
        "Calls of a store of sessions outside of the worker.",
        labels=["slot"],
    )
    for each in slots:
        slot, numbers = str(each.index), each.numbers
        for code, count in by_class(numbers).items():
            requests.add_metric([slot, code], count)
        took.add_metric([slot], _buckets(durations(numbers)), numbers[DURATION_NS] / 1e9)
        for way, place in (("handoff", HANDOFF), ("kernel", KERNEL), ("rehomed", REHOMED)):
            connections.add_metric([slot, way], numbers[place])
        cpu.add_metric([slot], numbers[CPU_NS] / 1e9)
        store.add_metric([slot], numbers[STORE_CALLS])
    yield from (requests, took, connections, cpu, store)


def _queues(slots: Sequence[SlotFigures], report: FleetReport) -> Iterator[Metric]:
    waits = HistogramMetricFamily(
        "stickyd_queue_wait_seconds",
        "How long connections waited for their worker that did not reach it at once.",
        labels=["slot"],
    )
    replayed = CounterMetricFamily(
        "stickyd_replayed_connections",
        "Connections that a dead worker had not acknowledged, and its successor got.",
        labels=["slot"],
    )
    nacks = CounterMetricFamily(
        "stickyd_nacks",
        "Connections that came back as a worker had no descriptor free.",
        labels=["slot"],
    )
    for each in slots:
        waits.add_metric([str(each.index)], _buckets(each.waits), each.waited_seconds)
        replayed.add_metric([str(each.index)], each.replayed)
        nacks.add_metric([str(each.index)], each.nacks)
    yield from (waits, replayed, nacks)
    yield _by_slot(
        "stickyd_queue_length",
        "Connections that wait for their worker.",
        report,
        lambda load: load.queue,
    )
    yield _by_slot(
        "stickyd_queue_length_max",
        "How many have waited at once at most.",
        report,
        lambda load: load.queue_most,
    )


_WORKER_GAUGES: Sequence[tuple[str, str, Callable[[WorkerReport], float]]] = (
    ("stickyd_open_connections", "Open connections.", lambda w: w.connections),
    ("stickyd_requests_in_flight", "Requests under way.", lambda w: w.in_flight),
    (
        "stickyd_worker_resident_memory_bytes",
        "Resident memory of the workers.",
        lambda w: w.memory_bytes,
    ),
    (
        "stickyd_worker_private_memory_bytes",
        "Resident memory that is no file's which others may share.",
        lambda w: w.private_bytes,
    ),
    ("stickyd_worker_open_fds", "Open descriptors.", lambda w: w.descriptors),
    ("stickyd_sessions", "Sessions at hand in the workers.", lambda w: w.sessions),
)


def _workers(report: FleetReport) -> Iterator[Metric]:
    for name, what, value in _WORKER_GAUGES:
        gauge = GaugeMetricFamily(name, what, labels=["slot"])
        for slot in report.slots:
            gauge.add_metric([str(slot.index)], sum(value(worker) for worker in slot.workers))
        yield gauge
    lag = GaugeMetricFamily(
        "stickyd_worker_loop_lag_seconds",
        "How late the worker's event loop was at most in the last heartbeat's time.",
        labels=["slot"],
    )
    for slot in report.slots:
        lag.add_metric([str(slot.index)], slot.load.lag_seconds)
    yield lag
    parts = GaugeMetricFamily(
        "stickyd_workers", "Worker processes, by the part that they play.", labels=["part"]
    )
    for part in ("serving", "starting", "successor", "leaving"):
        here = [worker for slot in report.slots for worker in slot.workers if worker.part == part]
        parts.add_metric([part], len(here))
    yield parts


def _restarts(slots: Sequence[SlotFigures]) -> Iterator[Metric]:
    restarts = CounterMetricFamily(
        "stickyd_worker_restarts",
        "Workers that were replaced, by cause.",
        labels=["slot", "cause"],
    )
    for each in slots:
        for cause, count in sorted(each.restarts.items()):
            restarts.add_metric([str(each.index), cause], count)
    yield restarts


def _slots(view: AdminView, report: FleetReport) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "stickyd_slot_state",
        "1 for the state that a slot is in.",
        labels=["slot", "state"],
    )
    for slot in report.slots:
        states.add_metric([str(slot.index), slot.state], 1)
    yield states
    yield from _generations(report)
    health = view.health()
    yield GaugeMetricFamily(
        "stickyd_ready", "Whether clients should come: 1, or 0.", value=float(health.ready)
    )
    if report.skew is not None:
        yield GaugeMetricFamily(
            "stickyd_request_skew_ratio",
            "How many times as many requests as the mean the busiest slot had in the last minute.",
            value=report.skew,
        )


def _generations(report: FleetReport) -> Iterator[Metric]:
    generations = GaugeMetricFamily(
        "stickyd_generation",
        "The generation of the worker that newcomers of a slot get, with its name.",
        labels=["slot", "name"],
    )
    for slot in report.slots:
        for worker in slot.workers:
            if worker.part == "serving":
                generations.add_metric([str(slot.index), worker.generation_name], worker.generation)
    yield generations
    kept = report.kept
    yield GaugeMetricFamily(
        "stickyd_keepers", "Relieved workers that keep their clients.", value=kept.relieved
    )
    yield GaugeMetricFamily(
        "stickyd_keepers_memory_bytes", "What of them is resident.", value=kept.memory_bytes
    )
    yield GaugeMetricFamily(
        "stickyd_kept_clients",
        "Clients without tokens that stay with workers which newcomers would not get.",
        value=kept.known,
    )
    yield CounterMetricFamily(
        "stickyd_kept_clients_cut",
        "Such clients that there was no room for (--known-limit).",
        value=kept.cut,
    )


def _primary() -> Iterator[Metric]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield CounterMetricFamily(
        "stickyd_primary_cpu_seconds", "CPU time of the primary.", used.ru_utime + used.ru_stime
    )
    yield GaugeMetricFamily(
        "stickyd_primary_resident_memory_bytes",
        "Resident memory of the primary.",
        resident_bytes(),
    )
    yield GaugeMetricFamily(
        "stickyd_primary_open_fds", "Open descriptors of the primary.", open_descriptors()
    )


def _by_slot(
    name: str, what: str, report: FleetReport, value: Callable[..., float]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, what, labels=["slot"])
    for slot in report.slots:
        gauge.add_metric([str(slot.index)], value(slot.load))
    return gauge


def _counted(name: str, what: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, what, labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], count)
    return family


def _merged(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in pairs:
        found[name] = found.get(name, 0) + count
    return found


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """
    Buckets as Prometheus wants them: each has all that took less.
    """
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), counts, strict=True):
        total += count
        found.append((bound, total))
    return found


def resident_bytes() -> int:
    """
    The resident memory of this process (proc(5)); where there is no /proc, its peak.
    """
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def open_descriptors() -> int:
    """
    How many descriptors this process has: about, as the listing opens one itself.
    """
    return len(os.listdir("/dev/fd"))


class AppCollector(Collector):
    """
    Gives what the application counts, of all workers together.
    """

    def __init__(self, figures: AppFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """
        Give every family.
        """
        for family, samples in self._figures.families():
            metric = Metric(family.name, family.help or family.name, family.kind)
            for (name, labels), value in samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


class VersionCollector(Collector):
    """
    Says what this is.
    """

    def __init__(self, version: str) -> None:
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """
        Give the family.
        """
        yield InfoMetricFamily(
            "stickyd_build", "The version of the server.", {"version": self._version}
        )


def expose(collectors: Iterable[Collector], accept: str) -> tuple[bytes, str]:
    """
    Write families of metrics.

    :param accept: the field of that name of whoever asks.
    :return: the text, and its type.
    """
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    encoder, kind = choose_encoder(accept)
    return encoder(registry), kind

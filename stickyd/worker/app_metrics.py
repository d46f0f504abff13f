"""
What the application counts by ``prometheus_client``, for the primary.
"""

from __future__ import annotations

import json
import sys
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from stickyd.figures.app_figures import LONGEST_TEXT, MOST_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.interfaces import IReactorTime

MOST_BYTES: Final = 48_000
"""
How long a message is about; AMP allows 65,535 bytes.
"""

COST: Final = 0.005
"""
The share of a CPU that looking at the registry may take, but for when somebody asks.
"""

#: Of the process, of which the primary tells by itself.
_LEFT_OUT = frozenset({"ProcessCollector", "PlatformCollector", "GCCollector"})


class AppMetrics:
    """
    Looks at the registry, if the application has imported that package, and finds what has
    changed.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, enabled: bool) -> None:
        """
        :param enabled: whether anybody can ask for it.
        """
        self._clock = clock
        self._enabled = enabled
        self._told: dict[Any, float] = {}
        self._rest_until = 0.0
        self._full = False

    def changes(self, asked: bool = False) -> Iterator[str]:
        """
        Give messages of what has changed since the last time, see
        :mod:`stickyd.figures.app_figures`.

        :param asked: whether somebody waits for it; else it may be left for later.
        """
        client = sys.modules.get("prometheus_client")
        now = self._clock.seconds()
        if client is None or not self._enabled or (now < self._rest_until and not asked):
            return
        try:
            families = self._look(client.REGISTRY)
        except Exception:  # noqa: BLE001 - a collector of the application's may raise what it likes
            self._log.failure("The application's metrics cannot be read", event="metrics.failed")
            families = []
        took = self._clock.seconds() - now
        self._rest_until = now + took / COST
        yield from _messages(families)

    def _look(self, registry: Any) -> list[list[Any]]:
        families = []
        for collector in list(registry._collector_to_names):
            if type(collector).__name__ in _LEFT_OUT:
                continue
            mode = getattr(collector, "_multiprocess_mode", "all")
            for metric in collector.collect():
                samples = list(self._changed(metric))
                if samples:
                    text = str(metric.documentation)[:LONGEST_TEXT]
                    families.append([metric.name, metric.type, text, mode, samples])
        return families

    def _changed(self, metric: Any) -> Iterator[list[Any]]:
        for sample in metric.samples:
            labels = tuple((str(key), str(value)) for key, value in sample.labels.items())
            key, value = (sample.name, labels), float(sample.value)
            if sample.name.endswith("_created") or not isfinite(value):
                continue  # when a process began to count is nobody else's beginning
            if self._told.get(key) == value:
                continue
            if key not in self._told:
                long = max((len(text) for pair in labels for text in pair), default=0)
                if len(self._told) >= MOST_SAMPLES or long > LONGEST_TEXT:
                    self._say_full()
                    continue
            self._told[key] = value
            yield [sample.name, labels, value]

    def _say_full(self) -> None:
        if not self._full:
            self._full = True
            self._log.warn(
                "The application has more than {most} metrics, or a label of more than {long}"
                " characters: the others are not shown",
                event="metrics.too-many",
                most=MOST_SAMPLES,
                long=LONGEST_TEXT,
            )


def _messages(families: list[list[Any]]) -> Iterator[str]:
    """
    Write families in pieces that fit into a message.
    """
    piece: list[list[Any]] = []
    size = 0
    for name, kind, text, mode, samples in families:
        part: list[Any] = []
        for sample in samples:
            length = len(json.dumps(sample))
            if size + length > MOST_BYTES and (piece or part):
                yield json.dumps([*piece, *([[name, kind, text, mode, part]] if part else [])])
                piece, part, size = [], [], 0
            part.append(sample)
            size += length
        size += len(text) + 200
        piece.append([name, kind, text, mode, part])
    if piece:
        yield json.dumps(piece)

"""
The application's own metrics, of all workers together.

A worker tells what has changed of its ``prometheus_client`` registry, as JSON: families, each
``[name, type, help, mode, samples]``, and samples, each ``[name, labels, value]`` with labels as
pairs.  Values are the worker's own totals, not differences: to tell one twice does no harm.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stickyd.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_FAMILIES: Final = 2_000
MOST_SAMPLES: Final = 20_000
"""
How many families and samples an application may have; what is past that is not told.
"""

LONGEST_TEXT: Final = 2_048
"""
Characters of a help or a label.
"""

SUMMED: Final = ("counter", "histogram", "summary")
"""
Types of which the dead's share is kept.
"""

_TYPES = frozenset((*SUMMED, "gauge", "unknown", "info", "stateset", "gaugehistogram"))
_MODES = ("all", "min", "max", "sum", "mostrecent")
_is_name = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,255}").fullmatch

Key = tuple[str, tuple[tuple[str, str], ...]]
"""
A sample's name and labels.
"""


class Family(NamedTuple):
    """
    What is known of a metric.

    :ivar kind: its type.
    :ivar mode: of a gauge, how several workers' are one: ``all``, ``min``, ``max``, ``sum`` or
        ``mostrecent``, with ``live`` before it if the dead's do not count.
    """

    name: str
    kind: str
    help: str
    mode: str


class AppFigures:
    """
    Adds up.  Counters, histograms and summaries never go back, whoever dies.
    """

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._sums: dict[str, dict[Key, float]] = {}
        # Of gauges: by slot, what its latest worker has told, and when that was.
        self._gauges: dict[str, dict[int, dict[Key, tuple[float, int]]]] = {}
        self._told = 0
        self._tellers: dict[int, object] = {}

    def begin(self, slot: int, teller: object) -> None:
        """
        A worker of a slot tells something for the first time: the gauges of the one before it do
        not count any more.
        """
        self._tellers[slot] = teller
        for slots in self._gauges.values():
            slots.pop(slot, None)

    def add(self, family: Family, slot: int, grown: dict[Key, float], teller: object) -> None:
        """
        Add what a worker has told.

        :param grown: of a type that is summed, by how much each sample has grown; of others, what
            each is now.
        :param teller: whose gauges count if it is the latest of its slot to have begun.
        """
        name, known = family.name, self._families.get(family.name)
        if known is None:
            if len(self._families) >= MOST_FAMILIES:
                return
        elif known.kind != family.kind:
            # Another version of the application means another thing by it.
            self._sums.pop(name, None)
            self._gauges.pop(name, None)
        self._families[name] = family
        self._told += 1
        if family.kind in SUMMED:
            sums = self._sums.setdefault(name, {})
            for key, more in grown.items():
                if key in sums or len(sums) < MOST_SAMPLES:
                    sums[key] = sums.get(key, 0.0) + more
        elif self._tellers.get(slot) is teller:
            here = self._gauges.setdefault(name, {}).setdefault(slot, {})
            for key, value in grown.items():
                here[key] = value, self._told

    def forget(self, slot: int, teller: object) -> None:
        """
        A worker of a slot has died: its gauges of modes that are of the living do not count.
        """
        if self._tellers.get(slot) is not teller:
            return
        for name, slots in self._gauges.items():
            if self._families[name].mode.startswith("live"):
                slots.pop(slot, None)

    def families(self) -> Iterator[tuple[Family, list[tuple[Key, float]]]]:
        """
        Give all metrics, each with its samples.
        """
        for name in sorted(self._families):
            family = self._families[name]
            if family.kind in SUMMED:
                yield family, sorted(self._sums.get(name, {}).items())
            else:
                yield family, sorted(_merged(family, self._gauges.get(name, {})))

    # a primary that replaces itself

    def dump_state(self) -> list[Any]:
        """
        What is summed, as JSON can carry it; gauges are told again by the living.
        """
        return [
            [*self._families[name], [[*key, value] for key, value in sums.items()]]
            for name, sums in self._sums.items()
        ]

    def restore_state(self, plain: Iterable[Any]) -> None:
        """
        Go on from what :meth:`dump_state` gave.
        """
        for name, kind, text, mode, samples in plain:
            self._families[name] = Family(name, kind, text, mode)
            self._sums[name] = {
                (sample, tuple((key, label) for key, label in labels)): value
                for sample, labels, value in samples
            }


def _merged(
    family: Family, slots: dict[int, dict[Key, tuple[float, int]]]
) -> Iterator[tuple[Key, float]]:
    mode = family.mode.removeprefix("live")
    if mode == "all":
        for slot, samples in slots.items():
            for (name, labels), (value, _) in samples.items():
                yield (name, (*labels, ("slot", str(slot)))), value
        return
    by_key: dict[Key, list[tuple[float, int]]] = {}
    for samples in slots.values():
        for key, told in samples.items():
            by_key.setdefault(key, []).append(told)
    for key, several in by_key.items():
        values = [value for value, _ in several]
        if mode == "min":
            yield key, min(values)
        elif mode == "max":
            yield key, max(values)
        elif mode == "sum":
            yield key, sum(values)
        else:
            yield key, max(several, key=lambda told: told[1])[0]


class AppSeen:
    """
    What one worker has told so far.
    """

    def __init__(self, figures: AppFigures) -> None:
        """
        :param figures: where it is added up.
        """
        self._figures = figures
        self._last: dict[Key, float] = {}
        self._slot = -1

    def hear(self, slot: int, text: str) -> None:
        """
        Take note of a message.

        :raises ControlError: if it is none.
        """
        if slot != self._slot:
            self._slot = slot
            self._figures.begin(slot, self)
        for family, samples in read_families(text):
            if family.name.startswith("stickyd_"):
                continue
            grown: dict[Key, float] = {}
            for key, value in samples.items():
                if family.kind in SUMMED:
                    before = self._last.get(key, 0.0)
                    if key not in self._last and len(self._last) >= MOST_SAMPLES:
                        continue
                    self._last[key] = value
                    # What has gone back has begun anew.
                    grown[key] = value - before if value >= before else value
                else:
                    grown[key] = value
            self._figures.add(family, slot, grown, self)

    def end(self, slot: int) -> None:
        """
        The worker is gone.
        """
        self._figures.forget(slot, self)

    # a primary that replaces itself

    def dump_state(self) -> list[Any]:
        """
        What it has told, as JSON can carry it.
        """
        return [[*key, value] for key, value in self._last.items()]

    def restore_state(self, plain: Iterable[Any]) -> None:
        """
        Go on from what :meth:`dump_state` gave.
        """
        for name, labels, value in plain:
            self._last[name, tuple((key, label) for key, label in labels)] = value


def read_families(text: str) -> Iterator[tuple[Family, dict[Key, float]]]:
    """
    Read what a worker tells.

    :raises ControlError: if it is not as it should be.
    """
    try:
        families = json.loads(text)
    except (ValueError, RecursionError):
        families = None
    if not isinstance(families, list):
        raise ControlError(f"metrics of the application that are no JSON list: {text[:60]!r}")
    for each in families:
        try:
            *told, samples = each
            family = _family(*told)
            found = {_key(sample, labels): _number(value) for sample, labels, value in samples}
        except (TypeError, ValueError):
            raise ControlError(
                f"a metric of the application that is none: {str(each)[:60]!r}"
            ) from None
        yield family, found


def _family(name: Any, kind: Any, documentation: Any, mode: Any) -> Family:
    sound = (
        isinstance(name, str)
        and _is_name(name) is not None
        and kind in _TYPES
        and isinstance(documentation, str)
        and len(documentation) <= LONGEST_TEXT
        and isinstance(mode, str)
        and mode.removeprefix("live") in _MODES
    )
    if not sound:
        raise ValueError("a family is none")
    return Family(name, kind, documentation, mode)


def _key(name: object, labels: Any) -> Key:
    pairs = tuple((key, label) for key, label in labels)
    texts = (name, *(text for pair in pairs for text in pair))
    if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in texts):
        raise ValueError("a text is none, or too long")
    assert isinstance(name, str)
    if not _is_name(name) or not all(_is_name(key) for key, _ in pairs):
        raise ValueError("a name is none")
    return name, pairs


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a value is no number")
    if not isfinite(value):
        raise ValueError("a value is not finite")
    return float(value)

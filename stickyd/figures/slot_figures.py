"""
What one slot has done since the server was started, whoever its workers were.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from stickyd.figures.histogram import BOUNDS_SECONDS, BUCKETS, quantile
from stickyd.figures.page import ANSWERS, CLASSES, NUMBERS, ROW, UNTIMED
from stickyd.figures.request_counts import in_flight

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SAMPLE_SECONDS: Final = 0.9
"""How far apart two samples are at least: each heartbeat gives one."""

MOST_SAMPLES: Final = 64
"""How many are kept: of about a minute."""

_CAUSES: Final = (
    ("hung", "hung"),
    ("died of signal", "signal"),
    ("exited", "exit"),
    ("was not ready", "slow_start"),
    ("could not", "start"),
    ("broke the protocol", "protocol"),
    ("closed its", "channel"),
)


def cause_of(death: str) -> str:
    """
    Name the kind of a death: ``hung``, ``signal``, ``exit``, ``slow_start``, ``start``,
    ``protocol``, ``channel``; ``other`` for anything else.

    :param death: as the log says it.
    """
    return next((name for begin, name in _CAUSES if death.startswith(begin)), "other")


class SlotFigures:
    """
    Adds up, and remembers the last minute for rates and percentiles.

    Nothing here ever goes back: the numbers of a worker that has died stay, and a slot that a
    resize takes away and another one brings back goes on where it was.

    :ivar index: the slot's.
    :ivar numbers: of all workers that it has had, see :mod:`stickyd.figures.page`.
    :ivar restarts: why workers were replaced: the kinds of :func:`cause_of`, and ``reload``,
        ``max_requests``, ``max_memory`` and ``told``.
    :ivar waits: how long connections have waited in its queue, in buckets.
    :ivar waited_seconds: all of that together.
    :ivar queued_most: how many have waited at once at most.
    :ivar replayed: connections that a dead worker had not acknowledged, and its successor got.
    :ivar nacks: connections that came back as a worker had no descriptor free.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.numbers = [0] * NUMBERS
        self.restarts: Counter[str] = Counter()
        self.waits = [0] * BUCKETS
        self.waited_seconds = 0.0
        self.queued_most = 0
        self.replayed = 0
        self.nacks = 0
        self._next_cause = ""
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=MOST_SAMPLES)

    # what happens

    def add(self, grown: Sequence[int], now: float) -> None:
        """
        Add what a worker has counted since it was asked last.

        :param grown: by how much each number has grown; empty if none has.
        :param now: in seconds.
        """
        if grown:
            self.numbers = [old + more for old, more in zip(self.numbers, grown, strict=True)]
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, tuple(self.numbers)))

    def lose(self, requests: int) -> None:
        """
        A worker has died with so many requests under way.
        """
        self.numbers[ANSWERS + UNTIMED] += requests

    def expect(self, cause: str) -> None:
        """
        Say why the worker that is relieved next is; without that it was a reload.
        """
        self._next_cause = cause

    def relieved(self) -> None:
        """
        A successor has taken over from a worker that lives.
        """
        self.restarts[self._next_cause or "reload"] += 1
        self._next_cause = ""

    def died(self, death: str) -> None:
        """
        A worker has died that was not told to end.
        """
        self._next_cause = ""
        self.restarts[cause_of(death)] += 1

    def came_back(self) -> None:
        """
        A worker had no descriptor free for a connection.
        """
        self.nacks += 1

    def replays(self, connections: int) -> None:
        """
        A worker has died that had not acknowledged so many connections.
        """
        self.replayed += connections

    def queues(self, length: int) -> None:
        """
        So many connections wait now.
        """
        if length > self.queued_most:
            self.queued_most = length

    def waited(self, seconds: float) -> None:
        """
        A connection has left the queue for a worker.
        """
        bucket = 0
        while bucket < BUCKETS - 1 and seconds > BOUNDS_SECONDS[bucket]:
            bucket += 1
        self.waits[bucket] += 1
        self.waited_seconds += max(0.0, seconds)

    # what can be read off it

    @property
    def requests(self) -> int:
        """
        How many requests have ended.
        """
        return answered(self.numbers)

    @property
    def in_flight(self) -> int:
        """
        How many are under way.
        """
        return in_flight(self.numbers)

    def recent(self, now: float, seconds: float) -> tuple[float, list[int]]:
        """
        Give how long ago the last sample was that is at least so old, and by how much the
        numbers have grown since.  Of a slot that is younger, its whole life.

        :return: seconds, and the growth; 0.0 and nothing grown if there is no sample yet.
        """
        then = None
        for sample in self._samples:
            if then is not None and now - sample[0] < seconds:
                break
            then = sample
        if then is None or now <= then[0]:
            return 0.0, [0] * NUMBERS
        return now - then[0], [new - old for new, old in zip(self.numbers, then[1], strict=True)]

    # a primary that replaces itself

    def dump_state(self) -> dict[str, Any]:
        """
        All of it as JSON can carry it, but the last minute.
        """
        return {
            "index": self.index,
            "numbers": self.numbers,
            "restarts": dict(self.restarts),
            "waits": self.waits,
            "waited_seconds": self.waited_seconds,
            "queued_most": self.queued_most,
            "replayed": self.replayed,
            "nacks": self.nacks,
        }

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Go on from what :meth:`dump_state` gave, perhaps of a version that counts less.
        """
        numbers = plain["numbers"][:NUMBERS]
        self.numbers = [*numbers, *[0] * (NUMBERS - len(numbers))]
        self.restarts = Counter(plain["restarts"])
        self.waits = plain["waits"]
        self.waited_seconds = plain["waited_seconds"]
        self.queued_most = plain["queued_most"]
        self.replayed = plain["replayed"]
        self.nacks = plain["nacks"]


def answered(numbers: Sequence[int]) -> int:
    """
    How many requests have ended, by the numbers of a page.
    """
    return sum(numbers[ANSWERS:NUMBERS])


def by_class(numbers: Sequence[int]) -> dict[str, int]:
    """
    How many requests have ended in each class of :data:`stickyd.figures.page.CLASSES`.
    """
    return {
        name: sum(numbers[ANSWERS + row * ROW : ANSWERS + (row + 1) * ROW])
        for row, name in enumerate(CLASSES)
    }


def durations(numbers: Sequence[int]) -> list[int]:
    """
    How many requests took how long, whatever their class: :data:`BUCKETS` numbers.
    """
    rows = [numbers[start : start + BUCKETS] for start in range(ANSWERS, NUMBERS, ROW)]
    return [sum(column) for column in zip(*rows, strict=True)]


def percentiles(numbers: Sequence[int], shares: Iterable[float]) -> list[float | None]:
    """
    Give the durations that these shares of the requests stay below, in seconds.
    """
    buckets = durations(numbers)
    return [quantile(buckets, share) for share in shares]

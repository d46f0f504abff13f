"""
Medians over slices, as Markdown.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.measuring import Slice

HEADINGS = (
    "system", "CPU s/10k", "min-max", "front", "workers", "ratio", "req/s", "p50 ms", "p99 ms",
    "RSS MiB", "shares %", "sticky", "errors", "others", "slices",
)  # fmt: skip


def stickiness_verdict(slices: Iterable[Slice]) -> str:
    """
    Whether every client kept to its worker, in words.

    :param slices: of one system, in any mode.
    """
    verdicts = [piece.outcome.stickiness for piece in slices]
    moved = max(verdict.moved_sources for verdict in verdicts)
    wrong = sum(verdict.order_wrong for verdict in verdicts)
    if moved:
        return f"no: {moved} of {max(verdict.sources for verdict in verdicts)} moved"
    if wrong:
        return f"no: {wrong} counts wrong"
    if len({pid for verdict in verdicts for pid in verdict.pids}) < 2:
        return "one process"
    return "yes"


@dataclass(frozen=True)
class Row:
    """
    One system in one mode: medians over its slices.
    """

    system: str
    total: float
    lowest: float
    highest: float
    front: float
    workers: float
    ratio: float
    """
    How many times the CPU of the system compared against; the median over the rounds, each
    of which sets slices side by side that were taken within seconds of each other.
    """
    per_second: float
    p50_ms: float
    p99_ms: float
    resident_mib: float
    shares: str
    """
    Which part of the answers each process gave, in percent.
    """
    sticky: str
    errors: dict[str, int]
    foreign_cpus: float
    slices: int

    def cells(self) -> list[str]:
        """
        What stands in the table, in the order of ``HEADINGS``.
        """
        return [
            self.system,
            f"**{self.total:.2f}**",
            f"{self.lowest:.2f}-{self.highest:.2f}",
            f"{self.front:.2f}",
            f"{self.workers:.2f}",
            "-" if math.isnan(self.ratio) else f"{self.ratio:.2f}",
            f"{self.per_second:.0f}",
            f"{self.p50_ms:.2f}",
            f"{self.p99_ms:.1f}",
            f"{self.resident_mib:.0f}",
            self.shares,
            self.sticky,
            ", ".join(f"{kind} {count}" for kind, count in self.errors.items()) or "0",
            f"{self.foreign_cpus:.2f}",
            str(self.slices),
        ]


def _ratio(mine: list[Slice], theirs: list[Slice]) -> float:
    by_round = {piece.round: piece.total_per_10k for piece in theirs}
    ratios = [
        piece.total_per_10k / by_round[piece.round] for piece in mine if by_round.get(piece.round)
    ]
    return median(ratios) if ratios else math.nan


def undisturbed(slices: list[Slice], most: float) -> list[Slice]:
    """
    Leave out the slices in which other programs used more than so many CPUs.

    The choice knows nothing of the figures, so it favours nobody.
    """
    return [piece for piece in slices if piece.foreign_cpus <= most]


def rows(slices: list[Slice], mode: str, against: str) -> list[Row]:
    """
    Take the slices of one mode together, the cheapest system first.

    :param slices: those of all modes, for the verdict on stickiness.
    :param against: the system that the ratios refer to.
    """
    grouped: dict[str, list[Slice]] = {}
    for piece in slices:
        if piece.mode == mode:
            grouped.setdefault(piece.system, []).append(piece)
    made = [
        _row(system, pieces, slices, grouped.get(against, [])) for system, pieces in grouped.items()
    ]
    return sorted(made, key=lambda row: row.total)


def _shares(pieces: list[Slice]) -> str:
    answers: Counter[str] = Counter()
    for piece in pieces:
        answers.update(piece.outcome.stickiness.pids)
    return "/".join(f"{count / answers.total():.0%}"[:-1] for _pid, count in answers.most_common())


def _row(system: str, pieces: list[Slice], every: list[Slice], against: list[Slice]) -> Row:
    def middle(figure: Callable[[Slice], float]) -> float:
        return median(figure(piece) for piece in pieces)

    totals = [piece.total_per_10k for piece in pieces]
    return Row(
        system=system,
        total=median(totals),
        lowest=min(totals),
        highest=max(totals),
        front=middle(lambda piece: piece.front_per_10k),
        workers=middle(lambda piece: piece.worker_per_10k),
        ratio=_ratio(pieces, against),
        per_second=middle(lambda piece: piece.outcome.per_second),
        p50_ms=middle(lambda piece: piece.outcome.latency_ms["p50"]),
        p99_ms=middle(lambda piece: piece.outcome.latency_ms["p99"]),
        resident_mib=pieces[-1].resident_kib / 1024,
        shares=_shares(pieces),
        sticky=stickiness_verdict(piece for piece in every if piece.system == system),
        errors=dict(sum((Counter(piece.outcome.errors) for piece in pieces), Counter())),
        foreign_cpus=middle(lambda piece: piece.foreign_cpus),
        slices=len(pieces),
    )


def markdown(headings: Iterable[str], lines: Iterable[list[str]]) -> str:
    """
    A Markdown table; all columns but the first are set to the right.
    """
    headings = list(headings)
    ruler = ["---"] + ["--:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, ruler, *lines])


def comparison(slices: list[Slice], against: str) -> str:
    """
    One table for each mode that was measured.
    """
    parts = []
    for mode in dict.fromkeys(piece.mode for piece in slices):
        lines = [row.cells() for row in rows(slices, mode, against)]
        parts.append(f"### {mode} (ratios to {against})\n\n{markdown(HEADINGS, lines)}\n")
    return "\n".join(parts)

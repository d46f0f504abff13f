"""
What was aimed at, beside what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.measuring import Slice


def total(piece: Slice) -> float:
    """
    CPU seconds of all processes for 10,000 answers.
    """
    return piece.total_per_10k


def front(piece: Slice) -> float:
    """
    CPU seconds of the primary for 10,000 answers.
    """
    return piece.front_per_10k


def workers(piece: Slice) -> float:
    """
    CPU seconds of the workers for 10,000 answers.
    """
    return piece.worker_per_10k


@dataclass(frozen=True)
class Aim:
    """
    A figure of one system, at most so many times that of another.

    :ivar most: the bound; :obj:`None` to show the figure only.
    """

    text: str
    system: str
    against: str
    figure: Callable[[Slice], float]
    most: float | None = None
    mode: str = "close"

    def measured(self, slices: list[Slice]) -> float:
        """
        Give the median of the ratios within each round; NaN if there are none.
        """
        mine, theirs = self._by_round(slices, self.system), self._by_round(slices, self.against)
        ratios = [mine[key] / theirs[key] for key in mine if theirs.get(key)]
        return median(ratios) if ratios else math.nan

    def _by_round(self, slices: list[Slice], system: str) -> dict[int, float]:
        return {
            piece.round: self.figure(piece)
            for piece in slices
            if (piece.system, piece.mode) == (system, self.mode)
        }

    def cells(self, slices: list[Slice]) -> list[str]:
        """
        Give its line of the table.
        """
        found = self.measured(slices)
        if self.most is None:
            return [self.text, "", f"{found:.2f}", ""]
        verdict = "met" if found <= self.most else "**not met**"
        return [self.text, f"{self.most:g}", f"{found:.2f}", verdict]


def conclusion(aims: Iterable[Aim], slices: list[Slice]) -> str:
    """
    A table of the aims.
    """
    lines = [aim.cells(slices) for aim in aims]
    return "### Aims\n\n" + markdown(("times", "at most", "measured", ""), lines) + "\n"

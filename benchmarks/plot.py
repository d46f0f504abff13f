# mypy: disable-error-code="import-not-found"
# (matplotlib is an extra, and the type checker may run without it)
"""
Draws the medians as an SVG; needs matplotlib, which nothing else here does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.tables import rows

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.measuring import Slice

FRONT, WORKERS, OURS = "#b0b7c3", "#5b7083", "#c8553d"


def draw(slices: list[Slice], path: Path) -> None:
    """
    Draw the CPU time of 10,000 requests, one panel for each mode, into an SVG file.
    """
    modes = list(dict.fromkeys(piece.mode for piece in slices))
    systems = len({piece.system for piece in slices})
    figure = Figure(figsize=(5.5 * len(modes), 1.2 + 0.34 * systems), layout="constrained")
    panels = figure.subplots(1, len(modes), squeeze=False)[0]
    for mode, panel in zip(modes, panels, strict=True):
        _draw_mode(panel, slices, mode)
    handles = [
        Patch(color=FRONT, label="primary or proxy"),
        Patch(color=WORKERS, label="workers"),
        Patch(color=OURS, label="workers of stickyd"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_mode(panel: Axes, slices: list[Slice], mode: str) -> None:
    made = rows(slices, mode, against="")[::-1]
    names = [row.system for row in made]
    fronts = [row.front for row in made]
    workers = [row.workers for row in made]
    colours = [OURS if name.startswith("stickyd") else WORKERS for name in names]
    panel.barh(names, workers, left=fronts, color=colours)
    panel.barh(names, fronts, color=FRONT)
    for place, row in enumerate(made):
        panel.text(row.front + row.workers, place, f" {row.total:.2f}", va="center", fontsize=8)
    panel.set_title(f"{mode}: CPU seconds for 10,000 requests")
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.12)

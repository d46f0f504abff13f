"""
Checking the figures that a worker tells of itself.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Final

from stickyd.errors import ControlError

MAX_FIGURES: Final = 64
"""
How many figures a heartbeat may tell.
"""

MAX_FIGURE: Final = 2**53
"""
The largest figure: a float still counts up to it exactly.
"""

_SHOWN = 60


def read_json(text: str, what: str) -> object:
    """
    Read a value that another process has written.

    :param what: what it should be, for the error.
    :raises ControlError: if it is no JSON (RFC 8259: so neither NaN nor Infinity).
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        value: object = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as problem:
        reason = "nested too deep" if isinstance(problem, RecursionError) else problem
        raise ControlError(f"{what} that are no JSON ({reason}): {text[:_SHOWN]!r}") from None
    return value


def read_figures(text: str) -> dict[str, float]:
    """
    Read the figures of a heartbeat.

    :raises ControlError: if they are no JSON object of numbers from 0 on.
    """
    figures = read_json(text, "figures")
    if not isinstance(figures, dict):
        raise ControlError(f"figures that are no JSON object: {text[:_SHOWN]!r}")
    if len(figures) > MAX_FIGURES:
        raise ControlError(f"{len(figures)} figures, more than {MAX_FIGURES}")
    for name, value in figures.items():
        if not is_number(value):
            raise ControlError(
                f"the figure {name[:_SHOWN]!r} that is no number from 0 to {MAX_FIGURE}:"
                f" {str(value)[:_SHOWN]!r}"
            )
    return figures


def is_number(value: object) -> bool:
    """
    Whether a value is a number that can be counted with: finite, not negative, not huge.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (
        isfinite(value) and 0 <= value <= MAX_FIGURE
        if isinstance(value, float)
        else (0 <= value <= MAX_FIGURE)
    )

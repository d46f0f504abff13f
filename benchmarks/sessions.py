"""
Compares the stores of sessions: what a request costs without a session, and with one that it
reads or changes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.aims import Aim, conclusion, total
from benchmarks.catalogue import SESSIONS
from benchmarks.compare import main

if TYPE_CHECKING:
    from benchmarks.measuring import Slice


def seconds_for_each(piece: Slice) -> float:
    """
    The inverse of the throughput.
    """
    return 1.0 / piece.outcome.per_second if piece.outcome.per_second else 0.0


AIMS = (
    Aim("memory, reads: CPU of no session", "memory-read", "no-session", total, 1.05, "keepalive"),
    Aim(
        "memory, changes: CPU of no session",
        "memory-change",
        "no-session",
        total,
        None,
        "keepalive",
    ),
    Aim("sqlite, reads: CPU of memory", "sqlite-read", "memory-read", total, 1.05, "keepalive"),
    Aim(
        "sqlite, changes: CPU of memory", "sqlite-change", "memory-change", total, None, "keepalive"
    ),
    Aim(
        "sqlite, changes: time of memory",
        *("sqlite-change", "memory-change", seconds_for_each, 1 / 0.6, "keepalive"),
    ),
)

if __name__ == "__main__":
    sys.exit(
        main(
            [*SESSIONS, "--against=no-session", "--modes=keepalive", *sys.argv[1:]],
            lambda slices: conclusion(AIMS, slices),
            frozenset({"no-session", "memory-read", "sqlite-read"}),
        )
    )

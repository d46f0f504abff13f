"""
Compares the ways to steer: handoff by address and by cookie, the kernel, and nobody at all.
"""

from __future__ import annotations

import sys

from benchmarks.aims import Aim, conclusion, front, total, workers
from benchmarks.catalogue import STEERING
from benchmarks.compare import main

AIMS = (
    Aim("kernel, all CPU: of unrouted", "stickyd-kernel", "unrouted", total, 1.05),
    Aim("kernel, all CPU: of node-sticky", "stickyd-kernel", "node-sticky", total, 0.2),
    Aim("kernel, the primary: of that by address", "stickyd-kernel", "stickyd", front, 0.01),
    Aim("cookie, the primary: of that by address", "stickyd-cookie", "stickyd", front, 1.5),
    Aim("cookie, the workers: of those by address", "stickyd-cookie", "stickyd", workers),
)

if __name__ == "__main__":
    sys.exit(
        main(
            [*STEERING, "--against=unrouted", "--modes=close", *sys.argv[1:]],
            lambda slices: conclusion(AIMS, slices),
            frozenset({"unrouted"}),
        )
    )

"""
Compares ASGI: here, handed over and steered by the kernel, by uvicorn, granian and gunicorn.
"""

from __future__ import annotations

import sys

from benchmarks.aims import Aim, conclusion, total
from benchmarks.catalogue import ASGI
from benchmarks.compare import main

AIMS = (
    Aim("kept alive: of uvicorn", "stickyd-asgi", "uvicorn", total, 1.0, "keepalive"),
    Aim("handed over: of uvicorn", "stickyd-asgi", "uvicorn", total, 1.15),
    Aim("by the kernel: of uvicorn", "stickyd-asgi-kernel", "uvicorn", total, 1.0),
)

if __name__ == "__main__":
    sys.exit(
        main(
            [*ASGI, "--against=uvicorn", *sys.argv[1:]],
            lambda slices: conclusion(AIMS, slices),
            frozenset({"uvicorn", "granian", "gunicorn-asgi"}),
        )
    )

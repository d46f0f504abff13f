"""
Compares WSGI: here, by gunicorn's threads, granian, waitress, and what serving costs without it.
"""

from __future__ import annotations

import sys

from benchmarks.aims import Aim, conclusion, total
from benchmarks.catalogue import WSGI
from benchmarks.compare import main

AIMS = tuple(
    Aim(f"{mode}: of {other}", "stickyd-wsgi", other, total, most, mode)
    for mode in ("close", "keepalive")
    for other, most in (("gunicorn-threads", 0.3), ("granian-wsgi", 2.0), ("stickyd", None))
)

if __name__ == "__main__":
    sys.exit(
        main(
            [*WSGI, "--against=gunicorn-threads", *sys.argv[1:]],
            lambda slices: conclusion(AIMS, slices),
            frozenset({"gunicorn-threads", "granian-wsgi", "waitress"}),
        )
    )

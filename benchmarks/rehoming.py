"""
Compares ways to keep clients apart that nginx mixes on eight connections: each request to
the worker that owns its client, or a hash in a proxy before single workers.
"""

from __future__ import annotations

import sys

from benchmarks.aims import Aim, conclusion, total
from benchmarks.catalogue import REHOMING
from benchmarks.compare import MODES, main

AIMS = tuple(
    Aim(f"{mode}, {words}: of {against}", system, against, total, mode=mode)
    for mode in MODES
    for against in ("nginx-hash", "nginx-nginx-hash")
    for system, words in (
        ("nginx-stickyd", "by forwarded address"),
        ("nginx-stickyd-cookie", "by cookie"),
    )
)

# In ``keepalive`` a client sends ten requests one after the other; in ``close`` each request
# is another client's than the last on its connection to the upstream.
LOAD = ("--connections=8", "--sources=100", "--per-connection=10")

if __name__ == "__main__":
    sys.exit(
        main(
            [*REHOMING, "--against=nginx-hash", *LOAD, *sys.argv[1:]],
            lambda slices: conclusion(AIMS, slices),
        )
    )

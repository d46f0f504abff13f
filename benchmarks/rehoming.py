"""
Compares ways to keep clients apart that nginx mixes on eight connections: each request to
the worker that owns its client, or a hash in a proxy before single workers.
"""

from __future__ import annotations

import sys

from benchmarks.aims import Aim, conclusion, total
from benchmarks.catalogue import REHOMING
from benchmarks.compare import main

AIMS = (
    Aim("by forwarded address: of nginx `hash`", "nginx-stickyd", "nginx-hash", total),
    Aim("by cookie: of nginx `hash`", "nginx-stickyd-cookie", "nginx-hash", total),
    Aim("by forwarded address: of one more hop", "nginx-stickyd", "nginx-nginx-hash", total),
    Aim("by cookie: of one more hop", "nginx-stickyd-cookie", "nginx-nginx-hash", total),
)

LOAD = ("--connections=8", "--sources=100", "--per-connection=10")

if __name__ == "__main__":
    sys.exit(
        main(
            [*REHOMING, "--against=nginx-hash", "--modes=keepalive", *LOAD, *sys.argv[1:]],
            lambda slices: conclusion(AIMS, slices),
        )
    )

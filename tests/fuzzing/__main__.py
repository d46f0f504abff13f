"""
Runs one target for some seconds, with atheris, which sees which branches an input takes.

What it finds ends it with the input in a file, which ``python -m tests.fuzzing TARGET FILE``
tries again.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import atheris

#: Each has ``check(data)``, which raises what no input may cause, and ``SEEDS``.
TARGETS = ("requests", "frames", "first_bytes", "applications")


def main() -> None:
    """
    Fuzz.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0 is another one each time")
    parser.add_argument("input", nargs="*", help="try these files only")
    options = parser.parse_args()
    with atheris.instrument_imports(include=["stickyd"]):
        target = importlib.import_module(f"tests.fuzzing.{options.target}")
    if options.input:
        for name in options.input:
            target.check(Path(name).read_bytes())
        return
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.SEEDS):
            Path(corpus, str(number)).write_bytes(b"\x1f" + seed)
        flags = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *flags, corpus], target.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

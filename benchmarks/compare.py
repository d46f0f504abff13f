"""
Compares stickyd with other servers, all up at once, in short slices that take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import peers
from benchmarks.catalogue import (
    ASGI,
    REHOMING,
    SESSIONS,
    STEERING,
    STICKYD,
    WSGI,
    System,
    catalogue,
    command_system,
)
from benchmarks.measuring import Slice
from benchmarks.rounds import Fleet, Schedule, exit_on_sigterm, take_turns
from benchmarks.tables import comparison, undisturbed

MODES = ("close", "keepalive")
SMOKE = {"names": ["stickyd", "node-sticky"], "rounds": 2, "seconds": 1.0, "warmup": 0.5}
BRIEF = {"rounds": 1, "seconds": 0.2, "warmup": 0.1}
GENERAL = {"stickyd", "node-sticky", "uvicorn", "granian"}
SPECIAL = {*STEERING, *REHOMING, *WSGI, *ASGI, *SESSIONS} - GENERAL


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    known = ", ".join(catalogue())
    parser.add_argument("names", nargs="*", help=f"systems (all that can run here): {known}")
    parser.add_argument("--rounds", type=int, default=8, help="slices of each kind (8)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a slice (1)")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before the first (1)")
    parser.add_argument("--modes", default=",".join(MODES), help=",".join(MODES))
    parser.add_argument("--connections", type=int, default=64, help="at once (64)")
    parser.add_argument("--sources", type=int, default=256, help="client addresses (256)")
    parser.add_argument(
        "--per-connection", type=int, default=200, help="keepalive: requests on each (200)"
    )
    parser.add_argument("--spread", choices=("net", "host"), default="net", help="see README.md")
    parser.add_argument("--workers", type=int, default=2, help="of each system (2)")
    parser.add_argument("--against", help="the system that ratios refer to (the first)")
    parser.add_argument("--stickyd", default=STICKYD, help="its command line (%(default)s)")
    parser.add_argument(
        "--command", action="append", default=[], metavar="NAME=COMMAND", help="one more system"
    )
    parser.add_argument("--peers-venv", type=Path, default=peers.default_directory())
    parser.add_argument("--json", type=Path, help="write every slice to this file")
    parser.add_argument("--svg", type=Path, help="draw the medians (needs matplotlib)")
    parser.add_argument("--from-json", type=Path, help="measure nothing; take what --json wrote")
    parser.add_argument(
        "--max-others",
        type=float,
        default=float("inf"),
        help="leave out slices in which other programs used more CPUs than this (no limit)",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="briefly, stickyd and node-sticky unless others are named; fails on any error",
    )
    options = parser.parse_args(arguments)
    options.modes = tuple(options.modes.split(","))
    if unknown := set(options.modes) - set(MODES):
        parser.error(f"unknown modes: {', '.join(sorted(unknown))}")
    if options.smoke:
        vars(options).update(BRIEF if options.names else SMOKE)
    return options


def choose(options: argparse.Namespace) -> list[System]:
    """
    The systems that were asked for, or all that this machine has the programs for.

    :raises SystemExit: if one that was asked for is unknown or cannot run.
    """
    known = catalogue(options.stickyd)
    for definition in options.command:
        name, equals, command = definition.partition("=")
        if not equals:
            raise SystemExit(f"--command wants NAME=COMMAND, not {definition!r}")
        known[name] = command_system(name, command)
    names: list[str] = options.names or [name for name in known if name not in SPECIAL]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = []
    for name in names:
        if missing := known[name].missing():
            complaint = f"{name} needs {', '.join(missing)}"
            if options.names:
                raise SystemExit(complaint)
            print(f"left out: {complaint}", file=sys.stderr)
        else:
            chosen.append(known[name])
    return chosen


def measure_all(options: argparse.Namespace) -> tuple[list[Slice], list[str]]:
    """
    Start the systems, measure them, stop them.

    :return: the slices, and complaints about systems that did not start or stop.
    """
    schedule = Schedule(
        options.rounds,
        options.seconds,
        options.warmup,
        options.modes,
        options.connections,
        options.sources,
        options.spread,
        options.per_connection,
    )
    slices = []
    with Fleet(options.workers, options.peers_venv) as fleet:
        fleet.start(choose(options))
        for piece in take_turns(fleet, schedule):
            slices.append(piece)
            print(
                f"{piece.round + 1}/{options.rounds} {piece.mode:9} {piece.system:18}"
                f" {piece.total_per_10k:6.2f} CPU s/10k {piece.outcome.per_second:8.0f}/s"
                f" others {piece.foreign_cpus:.2f} {piece.outcome.errors or ''}",
                file=sys.stderr,
            )
    return slices, fleet.complaints


def problems(slices: list[Slice], unsticky: frozenset[str] = frozenset()) -> list[str]:
    """
    What a smoke run fails for: errors, clients that moved, wrong counts, no answers.

    :param unsticky: the systems that need not be sticky.
    """
    found = []
    for piece in slices:
        outcome, where = piece.outcome, f"{piece.system}, {piece.mode}, round {piece.round + 1}"
        if outcome.errors:
            found.append(f"{where}: {outcome.errors}")
        if not outcome.stickiness.holds and piece.system not in unsticky:
            found.append(f"{where}: not sticky: {outcome.stickiness}")
        if piece.replaced:
            found.append(f"{where}: its processes changed")
    return found


def surroundings(options: argparse.Namespace) -> dict[str, object]:
    """
    What a reader of the figures must know about the run.
    """
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "options": {name: str(value) for name, value in vars(options).items()},
    }


def main(
    arguments: list[str] | None = None,
    conclude: Callable[[list[Slice]], str] = lambda _: "",
    unsticky: frozenset[str] = frozenset(),
) -> int:
    """
    Run the command.

    :param conclude: what to print beneath the tables.
    :param unsticky: the systems that need not be sticky.
    :return: the exit status: 1 if a system did not start or stop or, with ``--smoke``, erred.
    """
    options = parse(arguments)
    exit_on_sigterm()
    complaints: list[str] = []
    if options.from_json:
        kept = json.loads(options.from_json.read_text())
        slices = [Slice.from_dict(fields) for fields in kept["slices"]]
    else:
        slices, complaints = measure_all(options)
    if options.json and slices:
        kept = {"run": surroundings(options), "slices": [*map(dataclasses.asdict, slices)]}
        options.json.write_text(json.dumps(kept))
    if calm := undisturbed(slices, options.max_others):
        print(comparison(calm, options.against or slices[0].system))
        print(conclude(calm))
        if options.svg:
            from benchmarks.plot import draw  # here, as matplotlib is an extra

            draw(calm, options.svg)
    if options.smoke:
        complaints += problems(slices, unsticky)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints or not calm else 0


if __name__ == "__main__":
    sys.exit(main())

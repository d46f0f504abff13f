"""
Measures memory and descriptors: after many connections, and with many idle ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.catalogue import STICKYD, catalogue
from benchmarks.census import Report, idle_connections, many_connections
from benchmarks.rounds import Fleet, exit_on_sigterm
from benchmarks.tables import markdown

STICKYD_ASGI = STICKYD + " --asgi benchmarks.systems.asgi_counter:app"
SYSTEMS = {
    "connections": ["stickyd", "node-sticky"],
    "idle": ["stickyd", "node-sticky", "twisted-1", "uvicorn"],
    "websockets": ["stickyd", "uvicorn"],
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("what", choices=SYSTEMS)
    parser.add_argument("names", nargs="*", help=f"systems (stickyd and some): {[*catalogue()]}")
    parser.add_argument("--count", type=int, help="connections (200000; idle ones: 10000)")
    parser.add_argument("--sources", type=int, default=1024, help="client addresses (1024)")
    parser.add_argument("--hold", type=float, default=2.0, help="seconds idle (2)")
    parser.add_argument("--workers", type=int, default=2, help="of each system (2)")
    parser.add_argument("--stickyd", help=f"its command line ({STICKYD}; websockets: with --asgi)")
    parser.add_argument("--peers-venv", type=Path, default=peers.default_directory())
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    options.names = options.names or SYSTEMS[options.what]
    options.count = options.count or (200_000 if options.what == "connections" else 10_000)
    default = STICKYD_ASGI if options.what == "websockets" else STICKYD
    known = catalogue(options.stickyd or default)
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    options.systems = [known[name] for name in options.names]
    return options


def raise_descriptor_limit() -> None:
    """
    Take all the descriptors that we may have; the systems inherit the limit.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure_all(options: argparse.Namespace) -> tuple[list[Report], list[str]]:
    """
    Start the systems one after the other, measure each, stop it.

    :return: a report of each, and complaints about systems that did not start or stop.
    """
    reports: list[Report] = []
    complaints: list[str] = []
    for system in options.systems:
        with Fleet(options.workers, options.peers_venv) as fleet:
            fleet.start([system])
            program = fleet.programs.load
            for running in fleet.running:
                if options.what == "connections":
                    report = many_connections(running, program, options.count, options.sources)
                else:
                    report = idle_connections(
                        running,
                        program,
                        options.count,
                        options.sources,
                        hold=options.hold,
                        websocket=options.what == "websockets",
                    )
                reports.append(report)
                complaints += report.complaints
        complaints += fleet.complaints
    return reports, complaints


def main() -> int:
    """
    Run the command.

    :return: the exit status: 1 if anything failed, or descriptors were left over.
    """
    options = parse()
    exit_on_sigterm()
    raise_descriptor_limit()
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    reports, complaints = measure_all(options)
    if reports:
        headings = [*reports[0].cells]
        print(markdown(headings, [[*report.cells.values()] for report in reports]))
    if options.json:
        figures = [dataclasses.asdict(report) for report in reports]
        kept = {"when": began, "what": options.what, "reports": figures}
        options.json.write_text(json.dumps(kept))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints or not reports else 0


if __name__ == "__main__":
    sys.exit(main())

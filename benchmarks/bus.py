"""
Measures the bus: messages per second, CPU and latency for one publisher and several workers that
hear it; beside publish and subscribe of Redis by redis-py, in the same workers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.processes import families, look
from benchmarks.running import ROOT, free_port
from benchmarks.systems.bus_app import WINDOW
from benchmarks.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = "benchmarks.systems.bus_app:app"
PATIENCE_SECONDS = 60.0
SIZES = (100, 10_000)
HEARERS = (2, 8)

#: Deliveries a second, of the figures of latency.
PACE = 5_000


@dataclass(frozen=True)
class Slice:
    """
    What was measured of one way.

    :ivar primary_us: CPU of the primary, or of Redis, for a delivered message.
    :ivar whole_us: that of all processes.
    :ivar paced_primary_us: that of the primary, or Redis, when messages come one by one.
    :ivar paced_whole_us: that of all processes then.
    """

    way: str
    hearers: int
    size: int
    per_second: float
    primary_us: float
    whole_us: float
    paced_primary_us: float
    paced_whole_us: float
    median_ms: float
    p99_ms: float


class Fleet:
    """
    Workers of the application, each reached by a key of its own.
    """

    def __init__(self, pid: int, port: int, workers: int) -> None:
        self.pid = pid
        self._port = port
        self.keys: dict[int, str] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        number = 0
        while len(self.keys) < workers:
            number += 1
            try:
                self.keys.setdefault(self.ask(str(number), "who")["pid"], str(number))
            except OSError:
                time.sleep(0.1)
            if time.monotonic() > deadline:
                raise TimeoutError("the workers do not come up")
        self.publisher, *self.hearers = self.keys.values()
        self.ask(self.publisher, "publisher")

    def ask(self, key: str, what: str, **options: int) -> Any:
        """
        Ask the worker of a key.
        """
        query = "&".join(f"{name}={value}" for name, value in options.items())
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS * 2)
        try:
            connection.request("GET", f"/{what}?{query}", headers={"X-Key": key})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def heard(self) -> tuple[int, list[int]]:
        """
        How much all have heard since the last time, and how late in microseconds.
        """
        told = [self.ask(key, "heard")["told"] for key in self.hearers]
        return sum(one["count"] for one in told), sorted(
            us for one in told for us in one["late_us"]
        )


def cpu(pid: int, whole: bool) -> float:
    """
    CPU seconds of a process, or of all that descends from it too.
    """
    if whole:
        return sum(process.cpu_seconds for _, process in families([pid]).values())
    process = look(pid)
    return process.cpu_seconds if process else 0.0


@contextmanager
def started(command: list[str], **variables: str) -> Iterator[int]:
    """
    Start a server, and end it.

    :return: its pid.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    with subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    ) as popen:
        try:
            yield popen.pid
        finally:
            popen.terminate()


def measure(fleet: Fleet, way: str, redis: int, size: int, count: int, paced: int) -> Slice:
    """
    Measure one way.

    :param redis: the pid of Redis, if that is the way; else 0.
    """
    hearers = len(fleet.hearers)
    # Memory, connections, caches.
    fleet.ask(fleet.publisher, "flood", count=WINDOW, size=size, hearers=hearers)
    fleet.heard()
    middle = redis or fleet.pid

    def spent() -> tuple[float, float]:
        whole = cpu(fleet.pid, whole=True) + (cpu(redis, whole=False) if redis else 0.0)
        return cpu(middle, whole=False), whole

    before = spent()
    seconds = fleet.ask(fleet.publisher, "flood", count=count, size=size, hearers=hearers)["told"]
    after = spent()
    heard, _ = fleet.heard()
    if heard != count * hearers:
        raise RuntimeError(f"{way}: {heard} of {count * hearers} messages arrived")
    before_pace = spent()
    fleet.ask(fleet.publisher, "pace", count=paced, size=size, rate=max(1, PACE // hearers))
    after_pace = spent()
    paced_heard, late_us = fleet.heard()
    return Slice(
        way,
        hearers,
        size,
        heard / seconds,
        (after[0] - before[0]) / heard * 1e6,
        (after[1] - before[1]) / heard * 1e6,
        (after_pace[0] - before_pace[0]) / paced_heard * 1e6,
        (after_pace[1] - before_pace[1]) / paced_heard * 1e6,
        median(late_us) / 1000,
        late_us[len(late_us) * 99 // 100] / 1000,
    )


def compare(hearers: int, sizes: tuple[int, ...], scale: float, with_redis: bool) -> list[Slice]:
    """
    Measure all ways with so many workers that hear.

    :param scale: 1 for figures, less for a trial.
    """
    slices = []
    with ExitStack() as stack:
        fleets = []
        variables: list[tuple[str, int, dict[str, str]]] = [("bus", 0, {})]
        if with_redis:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            port = free_port()
            server = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
            redis = stack.enter_context(started([*server, "--save", ""]))
            variables.append(("redis", redis, {"REDIS": f"redis://127.0.0.1:{port}"}))
        for way, redis, more in variables:
            port = free_port()
            twistd = str(Path(sys.executable).with_name("twistd"))
            command = [twistd, "-n", "--pidfile=", "stickyd", "--asgi-factory", APP]
            command += ["--listen", f"tcp:{port}:interface=127.0.0.1"]
            command += ["--workers", str(hearers + 1), "--affinity", "header:X-Key"]
            pid = stack.enter_context(started(command, **more))
            fleets.append((way, redis, Fleet(pid, port, hearers + 1)))
        for size in sizes:
            for way, redis, fleet in fleets:
                count = int(scale * (100_000 if way == "bus" else 20_000) / hearers)
                count = max(1, count // (10 if size > 1000 else 1) // WINDOW) * WINDOW
                slices.append(
                    measure(fleet, way, redis, size, count, int(scale * 20_000 / hearers) or 1)
                )
    return slices


def report(slices: list[Slice]) -> str:
    """
    Write the tables.
    """
    lines = [
        [
            piece.way,
            str(piece.hearers),
            f"{piece.size:,}",
            f"{piece.per_second:,.0f}",
            f"{piece.primary_us:.1f}",
            f"{piece.whole_us:.1f}",
            f"{piece.paced_primary_us:.1f}",
            f"{piece.paced_whole_us:.1f}",
            f"{piece.median_ms:.2f}",
            f"{piece.p99_ms:.2f}",
        ]
        for piece in slices
    ]
    title = (
        "way",
        "workers",
        "bytes",
        "delivered/s",
        "µs of primary or Redis",
        "µs in all",
        f"the same at {PACE:,}/s",
        "in all",
        "median ms",
        "p99 ms",
    )
    return markdown(title, lines) + "\n\n" + aims(slices)


def aims(slices: list[Slice]) -> str:
    """
    What was aimed at, beside what was measured.
    """
    found: list[tuple[str, float, float]] = []
    for piece in slices:
        if piece.way != "bus":
            continue
        to = f"{piece.hearers} workers, {piece.size:,} bytes"
        if piece.size == 100:
            found.append((f"µs of the primary, {to}", 8.0, piece.primary_us))
            found.append((f"the same at {PACE:,}/s, {to}", 8.0, piece.paced_primary_us))
        found.append((f"p99 ms, {to}", 5.0, piece.p99_ms))
        for other in slices:
            if (other.way, other.hearers, other.size) == ("redis", piece.hearers, piece.size):
                share = piece.whole_us / other.whole_us
                found.append((f"CPU in all, of that with Redis, {to}", 1.0, share))
                share = piece.paced_whole_us / other.paced_whole_us
                found.append((f"the same at {PACE:,}/s, {to}", 1.0, share))
    lines = [
        [text, f"{most:g}", f"{value:.2f}", "met" if value <= most else "**not met**"]
        for text, most, value in found
    ]
    return "### Aims\n\n" + markdown(("", "at most", "measured", ""), lines)


def main() -> int:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bus", description=__doc__)
    parser.add_argument("--hearers", type=int, nargs="*", default=HEARERS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of messages (1)")
    parser.add_argument("--without-redis", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a few messages to two workers")
    options = parser.parse_args()
    if shutil.which("redis-server") is None and not options.without_redis:
        sys.stderr.write("redis-server is not installed (apt-get install redis-server)\n")
        return 1
    slices = []
    for hearers in options.hearers[:1] if options.smoke else options.hearers:
        scale = 0.04 if options.smoke else options.scale
        slices += compare(hearers, SIZES, scale, not options.without_redis)
    print(report(slices))
    return 0


if __name__ == "__main__":
    sys.exit(main())

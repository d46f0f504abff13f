"""
Compares sessions: none, in memory, in SQLite and in Redis here, and in Redis by what others use.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from benchmarks.peers import default_directory, prepare
from benchmarks.processes import families
from benchmarks.running import ROOT, free_port
from benchmarks.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

STICKYD = (
    "{twistd} -n --pidfile= stickyd --listen tcp:{port}:interface=127.0.0.1 --workers 2"
    " --affinity cookie:place"
)
APPS = "benchmarks.systems.session_apps"
ASGI = f"{STICKYD} --asgi-factory {APPS}:starlette_app --sessions"
WSGI = f"{STICKYD} --wsgi-factory {APPS}:flask_app --sessions"
COMMANDS = {
    "memory": f"{ASGI} memory",
    "sqlite": f"{ASGI} sqlite:{{folder}}/asgi",
    "redis": f"{ASGI} {{redis}}",
    "starsessions": (
        "{peers}/bin/uvicorn --workers 2 --loop uvloop --http httptools --no-access-log"
        " --log-level warning --host 127.0.0.1 --port {port} --factory"
        f" {APPS}:starlette_app"
    ),
    "flask memory": f"{WSGI} memory",
    "flask redis": f"{WSGI} {{redis}}",
    "Flask-Session": (
        "{peers}/bin/gunicorn --workers 2 --threads 16 --keep-alive 75 --no-control-socket"
        " --worker-tmp-dir /dev/shm --bind 127.0.0.1:{port}"
        f" '{APPS}:flask_app()'"
    ),
}
PEERS = ("starsessions", "Flask-Session")
PATHS = ("none", "read", "change")
CONNECTIONS = 32
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Slice:
    """
    What a system did on one path in one round.
    """

    system: str
    path: str
    answers: int
    seconds: float
    cpu_seconds: float
    redis_seconds: float

    @property
    def per_second(self) -> float:
        """
        Answers per second.
        """
        return self.answers / self.seconds

    @property
    def cpu_per_10k(self) -> float:
        """
        CPU seconds of the system's processes, without Redis, for 10,000 answers.
        """
        return self.cpu_seconds / max(1, self.answers) * 10_000

    @property
    def redis_per_10k(self) -> float:
        """
        CPU seconds of Redis for 10,000 answers.
        """
        return self.redis_seconds / max(1, self.answers) * 10_000


class Visitor:
    """
    A client with one connection, which keeps its cookies.
    """

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._source = f"127.0.{number // 250}.{number % 250 + 1}"
        self._cookies: dict[str, str] = {}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> bytes:
        """
        Ask for a path.

        :raises OSError: if the answer is not a good one.
        """
        used = self._streams is not None
        try:
            return await self._get(path)
        except (OSError, EOFError):
            if not used:
                raise
            # It was idle while others were measured, and has been closed.
            self.close()
            return await self._get(path)

    async def _get(self, path: str) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(self._source, 0)
            )
        reader, writer = self._streams
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        cookie = f"Cookie: {cookies}\r\n" if cookies else ""
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: a\r\n{cookie}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if not head.startswith("HTTP/1.1 200"):
            raise OSError(head)
        length = 0
        for line in head.split("\r\n"):
            name, _, value = line.partition(": ")
            name = name.lower()
            if name == "content-length":
                length = int(value)
            elif name == "set-cookie":
                key, _, rest = value.partition("=")
                self._cookies[key] = rest.partition(";")[0]
        return await reader.readexactly(length)

    def close(self) -> None:
        """
        End the connection; the cookies stay.
        """
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Running:
    """
    A system that runs, and its clients.
    """

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name = name
        self.pid = pid
        self._visitors = [Visitor(port, number) for number in range(CONNECTIONS)]

    async def warm_up(self) -> None:
        """
        Wait until it serves, and give each client a session.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        for visitor in self._visitors:
            while True:
                try:
                    await visitor.get("change")
                except (OSError, EOFError):
                    visitor.close()
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    break

    async def measure(self, path: str, seconds: float, redis: int) -> Slice:
        """
        Have it answer for so long.

        :param redis: the pid of Redis.
        """
        before, redis_before = cpu_seconds(self.pid), cpu_seconds(redis)
        began = time.monotonic()
        answers = 0

        async def ask(visitor: Visitor) -> None:
            nonlocal answers
            while time.monotonic() < began + seconds:
                await visitor.get(path)
                answers += 1

        await asyncio.gather(*map(ask, self._visitors))
        took = time.monotonic() - began
        cpu, redis_cpu = cpu_seconds(self.pid) - before, cpu_seconds(redis) - redis_before
        return Slice(self.name, path, answers, took, cpu, redis_cpu)

    def close(self) -> None:
        """
        End the connections.
        """
        for visitor in self._visitors:
            visitor.close()


def cpu_seconds(pid: int) -> float:
    """
    The CPU time of a process and all that descends from it.
    """
    return sum(process.cpu_seconds for _, process in families([pid]).values())


@contextmanager
def started(command: list[str], **variables: str) -> Iterator[int]:
    """
    Start a server, and end it.

    :return: its pid.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    ) as popen:
        try:
            yield popen.pid
        finally:
            popen.terminate()


async def compare(names: list[str], seconds: float, rounds: int, peers: Path) -> list[Slice]:
    """
    Measure all systems in turns.
    """
    slices = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        (Path(folder) / "asgi").mkdir(0o700)
        port = free_port()
        url = f"redis://127.0.0.1:{port}/0"
        server = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        redis = stack.enter_context(started([*server, "--appendonly", "yes", "--save", ""]))
        systems = []
        for name in names:
            port = free_port()
            values = {
                "twistd": str(Path(sys.executable).with_name("twistd")),
                "port": str(port),
                "folder": folder,
                "redis": url,
                "peers": str(peers),
            }
            command = [word.format(**values) for word in shlex.split(COMMANDS[name])]
            whose = "peers" if name in PEERS else "stickyd"
            pid = stack.enter_context(started(command, SESSIONS=whose, REDIS=url))
            systems.append(Running(name, pid, port))
            stack.callback(systems[-1].close)
            await systems[-1].warm_up()
        for number in range(rounds):
            for system in systems if number % 2 else reversed(systems):
                slices += [await system.measure(path, seconds, redis) for path in PATHS]
    return slices


def figure(slices: list[Slice], name: str, path: str, what: str) -> float:
    """
    The median of a figure.
    """
    found = [getattr(piece, what) for piece in slices if (piece.system, piece.path) == (name, path)]
    return median(found) if found else float("nan")


def report(slices: list[Slice]) -> str:
    """
    Write the tables.
    """
    names = list(dict.fromkeys(piece.system for piece in slices))
    lines = [
        [
            name,
            path,
            f"{figure(slices, name, path, 'cpu_per_10k'):.2f}",
            f"{figure(slices, name, path, 'redis_per_10k'):.2f}",
            f"{figure(slices, name, path, 'per_second'):,.0f}",
        ]
        for name in sorted(names, key=list(COMMANDS).index)
        for path in PATHS
    ]
    title = ("sessions", "request", "CPU s/10k", "of Redis", "req/s")
    return markdown(title, lines) + "\n\n" + aims(slices)


def aims(slices: list[Slice]) -> str:
    """
    What was aimed at, beside what was measured.
    """

    def cpu(name: str, path: str) -> float:
        return figure(slices, name, path, "cpu_per_10k")

    def rate(name: str, path: str) -> float:
        return figure(slices, name, path, "per_second")

    found = [
        ("CPU: sqlite reads of memory's", 1.05, cpu("sqlite", "read") / cpu("memory", "read")),
        ("CPU: redis reads of memory's", 1.05, cpu("redis", "read") / cpu("memory", "read")),
        ("CPU: memory reads of no session", None, cpu("memory", "read") / cpu("memory", "none")),
        (
            "req/s: memory changes of sqlite's",
            1 / 0.6,
            rate("memory", "change") / rate("sqlite", "change"),
        ),
        (
            "req/s: starsessions' changes of redis'",
            0.5,
            rate("starsessions", "change") / rate("redis", "change"),
        ),
        (
            "req/s: Flask-Session's changes of flask redis'",
            0.5,
            rate("Flask-Session", "change") / rate("flask redis", "change"),
        ),
    ]
    lines = [
        [text, "" if most is None else f"{most:.2f}", f"{value:.2f}", _verdict(most, value)]
        for text, most, value in found
        if value == value
    ]
    return "### Aims\n\n" + markdown(("times", "at most", "measured", ""), lines)


def _verdict(most: float | None, value: float) -> str:
    if most is None:
        return ""
    return "met" if value <= most else "**not met**"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sessions_in_redis", description=__doc__
    )
    parser.add_argument("systems", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each slice (2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers-venv", type=Path, default=default_directory())
    parser.add_argument("--smoke", action="store_true", help="one short round without peers")
    options = parser.parse_args(arguments)
    unknown = set(options.systems) - set(COMMANDS)
    if unknown:
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """
    Measure, and print.
    """
    options = parse()
    if shutil.which("redis-server") is None:
        sys.stderr.write("redis-server is not installed (apt-get install redis-server)\n")
        return 1
    names = options.systems or [name for name in COMMANDS if not options.smoke or name not in PEERS]
    peers = prepare(options.peers_venv) if set(names) & set(PEERS) else options.peers_venv
    rounds, seconds = (1, 0.3) if options.smoke else (options.rounds, options.seconds)
    uvloop.install()
    print(report(asyncio.run(compare(names, seconds, rounds, peers))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

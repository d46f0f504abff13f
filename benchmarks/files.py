"""
Measures static files: CPU per byte, beside nginx; of applications, beside uvicorn.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import families
from benchmarks.running import ROOT, free_port
from benchmarks.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STICKYD = "{twistd} -n --pidfile= stickyd --listen tcp:{port}:interface=127.0.0.1 --workers 1"
SYSTEMS = {
    "stickyd": f"{_STICKYD} --static {{folder}}",
    "stickyd-wsgi": f"{_STICKYD} --wsgi benchmarks.systems.file_apps:wsgi",
    "stickyd-asgi": f"{_STICKYD} --asgi benchmarks.systems.file_apps:asgi",
    "uvicorn": (
        "{python} -m uvicorn --loop uvloop --http httptools --no-access-log --log-level warning"
        " --host 127.0.0.1 --port {port} benchmarks.systems.file_apps:asgi"
    ),
}
#: What has no ranges.
WHOLE = ("stickyd-wsgi",)
NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/../nginx.pid;
error_log {folder}/../nginx.err warn;
events {{}}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    root {folder};
  }}
}}
"""
SIZES = {"4 KiB": 1 << 12, "128 KiB": 1 << 17, "1 MiB": 1 << 20, "64 MiB": 1 << 26}
PATIENCE_SECONDS = 20.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="what each slice fetches (512)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=5000, help="requests in a slice (5000)")
    parser.add_argument("--command", action="append", default=[], metavar="NAME=COMMAND")
    return parser.parse_args(arguments)


@contextmanager
def running(command: list[str], ask: Callable[[], object], **variables: str) -> Iterator[int]:
    """
    Start a server, wait until it answers, and end it.

    :param ask: raises :exc:`OSError` as long as it does not.
    :param variables: of its environment.
    :return: its pid.
    """
    environment = dict(os.environ, PYTHONPATH=str(ROOT), **variables)
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    ) as popen:
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    ask()
                except OSError:
                    if time.monotonic() > deadline or popen.poll() is not None:
                        raise
                    time.sleep(0.05)
                else:
                    break
            yield popen.pid
        finally:
            popen.terminate()


def fetch(port: int, size: int, times: int, first: int = 0) -> None:
    """
    Fetch a file over one connection.

    :param first: where it begins; from there on it is asked for as a range.
    :raises OSError: if it does not come whole.
    """
    buffer = bytearray(1 << 20)
    wanted = f"Range: bytes={first}-\r\n" if first else ""
    request = f"GET /{size} HTTP/1.1\r\nHost: a\r\n{wanted}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        for _ in range(times):
            client.sendall(request)
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    raise ConnectionResetError("no response")
                head += data
            if head.split()[1] not in (b"200", b"206"):
                raise OSError(head.decode())
            left = size - first - len(head.partition(b"\r\n\r\n")[2])
            while left:
                count = client.recv_into(buffer, min(left, len(buffer)))
                if not count:
                    raise ConnectionResetError("half a file")
                left -= count


def cpu_seconds(pid: int) -> float:
    """
    Add up what a server's processes have used.
    """
    used = 0.0
    for each in families([pid]):
        with suppress(OSError):  # it may have ended meanwhile
            used += time.clock_gettime(cpu_clock_of(each))
    return used


def cpu_clock_of(pid: int) -> int:
    """
    The clock of a process, which is exact, where ``/proc`` counts hundredths of a second: what
    clock_getcpuclockid(3) gives on Linux.
    """
    return ~pid << 3 | 2


def commands(options: argparse.Namespace, folder: Path) -> dict[str, tuple[list[str], int]]:
    """
    Say how to start each system, and its port.
    """
    twistd = Path(sys.executable).with_name("twistd")
    systems = dict(SYSTEMS)
    systems.update(text.split("=", 1) for text in options.command)
    started: dict[str, tuple[list[str], int]] = {}
    for name, text in systems.items():
        port = free_port()
        words = shlex.split(
            text.format(twistd=twistd, port=port, folder=folder, python=sys.executable)
        )
        started[name] = words, port
    if nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        port = free_port()
        config = folder.parent / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port))
        started["nginx"] = [nginx, "-c", str(config), "-p", str(folder.parent)], port
    return started


def main() -> int:
    """
    Run the command.
    """
    options = parse()
    figures: dict[tuple[str, str], list[float]] = {}
    requests: dict[str, int] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "files"
        folder.mkdir()
        folder.parent.chmod(0o755)  # nginx's workers are somebody else
        for size in SIZES.values():
            (folder / str(size)).write_bytes(os.urandom(1 << 12) * (size >> 12))
        systems = {
            name: (
                stack.enter_context(
                    running(command, partial(fetch, port, SIZES["1 MiB"], 1), FOLDER=str(folder))
                ),
                port,
            )
            for name, (command, port) in commands(options, folder).items()
        }
        for _ in range(options.rounds):
            for label, size in SIZES.items():
                for first in (0, 1000):
                    for name, (pid, port) in systems.items():
                        if first and name in WHOLE:
                            continue
                        times = min(max(1, (options.mib << 20) // size), options.most)
                        before = cpu_seconds(pid)
                        fetch(port, size, times, first)
                        used = cpu_seconds(pid) - before
                        mode = label + (", a range" if first else "")
                        requests[mode] = times
                        figures.setdefault((mode, name), []).append(used)
    rows = []
    for (mode, name), spent in figures.items():
        against = figures.get((mode, "nginx"), [])
        ratios = [a / b for a, b in zip(spent, against, strict=False) if b]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        gib = requests[mode] * SIZES[mode.partition(",")[0]] / (1 << 30)
        seconds = statistics.median(spent)
        microseconds = f"{seconds / requests[mode] * 1e6:.0f}"
        rows.append([mode, name, f"{seconds / gib:.2f}", microseconds, ratio])
    print(markdown(["file", "system", "CPU s/GiB", "µs/request", "of nginx"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
Measures what a request costs whose application uses threads, or answers in pieces, beside
uvicorn: CPU of all of a server's processes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.files import PATIENCE_SECONDS, cpu_seconds, running
from benchmarks.running import free_port
from benchmarks.tables import markdown

_APPLICATION = "benchmarks.systems.thread_apps:app"
SYSTEMS = {
    "stickyd": (
        "{twistd} -n --pidfile= stickyd --listen tcp:{port}:interface=127.0.0.1 --workers 1"
        f" --asgi {_APPLICATION}"
    ),
    "uvicorn": (
        "{python} -m uvicorn --loop uvloop --http httptools --no-access-log --log-level warning"
        f" --host 127.0.0.1 --port {{port}} {_APPLICATION}"
    ),
}
#: What the others are compared with.
AGAINST = "uvicorn"
#: Path and fields of each kind of request.
REQUESTS = {
    "an async function": ("/plain", ""),
    "a function, in a thread": ("/function", ""),
    "4 KiB file": ("/files/small", ""),
    "4 KiB file, a range": ("/files/small", "Range: bytes=1000-\r\n"),
    "1 MiB file, a range": ("/files/large", "Range: bytes=1000-\r\n"),
    "4 pieces, of a generator in a thread": ("/generator", ""),
    "4 pieces, in turns of the loop": ("/turns", ""),
    "4 pieces, at once": ("/stream", ""),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="slices of each kind (9)")
    parser.add_argument("--requests", type=int, default=600, help="in a slice (600)")
    parser.add_argument("--clients", type=int, default=1, help="that ask at once (1)")
    parser.add_argument("--command", action="append", default=[], metavar="NAME=COMMAND")
    return parser.parse_args(arguments)


def ask(port: int, path: str, fields: str, times: int, clients: int) -> None:
    """
    Ask on several connections at once, on each for one answer after the other.

    :param times: in all.
    :raises OSError: if an answer does not come whole.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
            for _ in range(clients)
        ]
        for _ in range(times // clients):
            for each in sockets:
                each.sendall(request)
            for each in sockets:
                _take_answer(each)


def _take_answer(client: socket.socket) -> None:
    got = b""
    while b"\r\n\r\n" not in got:
        got += _some(client)
    head, _, body = got.partition(b"\r\n\r\n")
    if head.split()[1] not in (b"200", b"206"):
        raise OSError(head.decode())
    _, told, length = head.partition(b"content-length: ")
    if not told:
        while not body.endswith(b"0\r\n\r\n"):
            body += _some(client)
        return
    left = int(length.split()[0]) - len(body)
    while left > 0:
        left -= len(_some(client))


def _some(client: socket.socket) -> bytes:
    data = client.recv(1 << 18)
    if not data:
        raise ConnectionResetError("the server has closed")
    return data


def main(arguments: list[str] | None = None) -> int:
    """
    Run the command.
    """
    options = parse(arguments)
    twistd = Path(sys.executable).with_name("twistd")
    commands = {**SYSTEMS, **dict(text.split("=", 1) for text in options.command)}
    figures: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "small").write_bytes(os.urandom(1 << 12))
        (folder / "large").write_bytes(os.urandom(1 << 20))
        systems = {}
        for name, text in commands.items():
            port = free_port()
            words = shlex.split(text.format(twistd=twistd, python=sys.executable, port=port))
            started = running(words, partial(ask, port, "/plain", "", 1, 1), FOLDER=str(folder))
            systems[name] = stack.enter_context(started), port
        for number in range(options.rounds + 1):
            for what, (path, fields) in REQUESTS.items():
                times = options.requests if "MiB" not in what else options.requests // 8
                times = max(times // options.clients, 1) * options.clients
                for name in list(systems) if number % 2 else list(reversed(systems)):
                    pid, port = systems[name]
                    before = cpu_seconds(pid)
                    ask(port, path, fields, times, options.clients)
                    seconds = cpu_seconds(pid) - before
                    if number:  # the first warms up
                        figures.setdefault((what, name), []).append(seconds / times * 1e6)
    rows = []
    for (what, name), spent in figures.items():
        ratios = [a / b for a, b in zip(spent, figures[what, AGAINST], strict=True) if b]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        rows.append([what, name, f"{statistics.median(spent):.0f}", ratio])
    print(markdown(["request", "system", "CPU µs each", f"of {AGAINST}"], rows))
    print(f"\nload: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
